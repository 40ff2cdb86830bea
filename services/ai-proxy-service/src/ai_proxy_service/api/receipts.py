"""`GET /v1/receipts/{id}`: what an answer cost, by its own id or its request's."""

import re

import msgspec
from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import Response

from ai_proxy_service.api.documentation import receipt_documentation
from ai_proxy_service.api.gateway import gateway_of, issued_key_of, principal_of
from ai_proxy_service.core.errors import ReceiptNotFoundError
from ai_proxy_service.core.receipts import receipt_of

router = APIRouter()
# What ids are made of, a client's own request id included; a database may not take anything else.
_AN_ID = re.compile(r"[A-Za-z0-9._-]{1,128}")


@router.get("/receipts/{receipt_id}", **receipt_documentation())
async def retrieve_receipt(receipt_id: str, request: Request) -> Response:
    """Return the receipt of an answer.

    By the answer's `id`, or by its `x-request-id`; if a client used a request id again, that of
    the latest answer. It is for the key that asked for the answer, and for the account that pays.
    """
    records = []
    if _AN_ID.fullmatch(receipt_id):
        name, issued = principal_of(request).name, issued_key_of(request)
        account = name if issued is None else issued.account
        records = await gateway_of(request).receipts.find(receipt_id, name, account)
    if not records:
        raise ReceiptNotFoundError(receipt_id)
    return Response(msgspec.json.encode(receipt_of(records)), media_type="application/json")
