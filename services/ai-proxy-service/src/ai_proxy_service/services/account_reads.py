"""What the credits service says of an account."""

from urllib.parse import quote

import msgspec

from ai_proxy_service.core.credits import LedgerAccount, balance_of
from ai_proxy_service.core.errors import (
    AccountNotFoundError,
    BillingUnavailableError,
    InvalidRequestError,
)
from ai_proxy_service.services.credits_api import CreditsApi, LedgerRefusalError
from service_kit.logging import get_logger

_log = get_logger(__name__)

# Whichever way they are written, an HTTP client takes them for folders.
_NAMES_NO_PATH_CAN_SAY = frozenset({".", ".."})


async def read_account(api: CreditsApi, account: str, key_id: str | None) -> LedgerAccount:
    """Ask what an account has, and what one of its issued keys may spend.

    It is never kept: what a limit leaves changes with each request, and one question is cheap.

    Raises:
        InvalidRequestError: nobody can ask for an account of that name.
        AccountNotFoundError: there is none.
        BillingUnavailableError: not known.
    """
    if account in _NAMES_NO_PATH_CAN_SAY:
        raise InvalidRequestError(f"There is no account '{account}'.", field="user")
    path = f"/api/v1/accounts/{quote(account, safe='')}"
    if key_id is not None:
        path += f"?key_id={quote(key_id, safe='')}"
    try:
        found = msgspec.convert(await api.call("GET", path), LedgerAccount)
        balance_of(found)
    except LedgerRefusalError as refusal:
        if refusal.code == "account_not_found":
            raise AccountNotFoundError(account) from refusal
        raise BillingUnavailableError from refusal
    except ValueError as error:
        # msgspec's errors are of this kind, too.
        _log.exception("account_not_understood")
        raise BillingUnavailableError from error
    return found
