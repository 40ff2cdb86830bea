"""What the endpoints work with, and how they hand commands to the writer."""

from typing import NamedTuple

from starlette.requests import Request
from starlette.responses import Response

from credits_service.api.problems import PROBLEM_JSON
from credits_service.api.requests import idempotency_key
from credits_service.core.metrics import LedgerMetrics
from credits_service.db.key_queries import KeyQueries
from credits_service.db.key_uses import KeyUses
from credits_service.db.keys import KeyStore
from credits_service.db.queries import LedgerQueries
from credits_service.ledger.batch import Command
from credits_service.ledger.idempotency import IdempotencyKey
from credits_service.ledger.operations import Operation
from credits_service.ledger.writer import DuplicateInFlightError, Writer
from service_kit.errors import ServiceError
from service_kit.keys import Principal
from service_kit.request_id import current_request_id

_FIRST_ERROR_STATUS = 400


class HoldLimits(NamedTuple):
    """How long holds live."""

    default_seconds: int
    max_seconds: int


class Services(NamedTuple):
    """What an app's endpoints share; made once, by the composition root."""

    writer: Writer
    queries: LedgerQueries
    metrics: LedgerMetrics
    hold_limits: HoldLimits
    keys: KeyStore
    key_queries: KeyQueries
    key_uses: KeyUses


def services_of(request: Request) -> Services:
    """Return the app's services."""
    services: Services = request.app.state.services
    return services


def in_progress() -> ServiceError:
    """Return the problem of a request whose first try has no answer yet."""
    return ServiceError(
        "The first request with this idempotency key is still running.",
        status=409,
        code="request_in_progress",
        headers={"retry-after": "1"},
    )


async def submit(
    request: Request, principal: Principal, operation: Operation, *, key_required: bool = False
) -> Response:
    """Let the writer run an operation and answer with its result.

    Raises:
        ServiceError: the idempotency key is missing or malformed; its first request is still
            running; the ledger can't be asked.
    """
    services = services_of(request)
    key = idempotency_key(request, required=key_required)
    command = Command(
        operation,
        principal.name,
        current_request_id(),
        None if key is None else IdempotencyKey(principal.name, key),
    )
    try:
        result = await services.writer.submit(command)
    except DuplicateInFlightError:
        raise in_progress() from None
    services.metrics.count(type(operation).__name__, result.status, replayed=result.replayed)
    is_error = result.status >= _FIRST_ERROR_STATUS
    headers = {"content-type": PROBLEM_JSON if is_error else "application/json"}
    if result.replayed:
        headers["idempotency-replayed"] = "true"
    return Response(result.body, result.status, headers)
