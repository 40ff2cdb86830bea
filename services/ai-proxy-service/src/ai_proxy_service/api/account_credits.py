"""`GET /v1/credits`: what the account has that pays for the key that asks."""

from typing import TYPE_CHECKING

import msgspec
from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import Response

from ai_proxy_service.api.documentation import credits_documentation
from ai_proxy_service.api.gateway import issued_key_of
from ai_proxy_service.api.serving import account_of
from ai_proxy_service.core.credits import credits_of
from ai_proxy_service.core.errors import BillingUnavailableError, CreditsNotKeptError
from ai_proxy_service.services.account_reads import read_account
from service_kit.logging import get_logger

if TYPE_CHECKING:
    from ai_proxy_service.services.credits_api import CreditsApi

_log = get_logger(__name__)
router = APIRouter()


@router.get("/credits", **credits_documentation())
async def retrieve_credits(request: Request) -> Response:
    """Return an account's balance, and what is used and left of the spend limits.

    An issued key sees its own account, whatever `user` says, and its own limits. A configured key
    sees the account that `user` names, else the one of its own name, as with a completion.
    """
    ledger: CreditsApi | None = request.state.ledger
    if ledger is None:
        raise CreditsNotKeptError
    account, key = account_of(request, request.query_params.get("user")), issued_key_of(request)
    found = await read_account(ledger, account, None if key is None else key.name)
    try:
        body = credits_of(account, found, key)
    except ValueError as error:
        _log.exception("account_not_understood")
        raise BillingUnavailableError from error
    return Response(msgspec.json.encode(body), media_type="application/json")
