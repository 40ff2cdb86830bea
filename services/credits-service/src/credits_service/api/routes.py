"""Joins the surfaces."""

from fastapi import APIRouter

from credits_service.api import (
    account_changes,
    accounts,
    batch,
    bill,
    holds,
    integrity,
    key_changes,
    key_refusals,
    keys,
    refunds,
    statements,
    topup,
    transactions,
)

PREFIX = "/api/v1"

api_router = APIRouter(prefix=PREFIX)
# What lies below an account's path comes before the account, whose id may hold slashes.
for _surface in (
    bill,
    holds,
    topup,
    refunds,
    batch,
    transactions,
    statements,
    accounts,
    account_changes,
    integrity,
    keys,
    key_changes,
    key_refusals,
):
    api_router.include_router(_surface.router)
