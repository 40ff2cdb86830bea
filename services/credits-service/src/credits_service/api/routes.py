"""Joins the surfaces."""

from fastapi import APIRouter

from credits_service.api import accounts, bill, holds, integrity, topup

api_router = APIRouter(prefix="/api/v1")
for _surface in (bill, holds, topup, accounts, integrity):
    api_router.include_router(_surface.router)
