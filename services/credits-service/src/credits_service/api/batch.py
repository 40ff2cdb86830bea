"""`POST /batch`: many operations in one request, each decided and answered by itself."""

from collections.abc import Callable, Mapping, Sequence
from typing import Literal, NamedTuple

import msgspec
from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import Response

from credits_service.api import bill, holds, refunds, topup
from credits_service.api.openapi import documented
from credits_service.api.problems import ProblemForm, invalid
from credits_service.api.requests import checked_key, decode, read
from credits_service.api.services import HoldLimits, Services, in_progress, services_of
from credits_service.api.wire_reads import BatchResponse
from credits_service.api.wire_requests import BatchItem, BatchRequest
from credits_service.ledger.batch import Command, Result
from credits_service.ledger.idempotency import IdempotencyKey
from credits_service.ledger.operations import Operation
from credits_service.ledger.writer import DuplicateInFlightError
from credits_service.middleware.auth import ADMIN, BILL, authorized
from service_kit.errors import ServiceError, internal_error
from service_kit.request_id import current_request_id

router = APIRouter(tags=["batch"])

_decoder = msgspec.json.Decoder(BatchRequest)
_item_decoder = msgspec.json.Decoder(BatchItem)
_form = ProblemForm()
_KEY_FIELD = "idempotency_key"


class _Given(NamedTuple):
    """What an operation is made of: the id that its endpoint has in its path, and its body."""

    id: str
    body: bytes
    limits: HoldLimits


class _Kind(NamedTuple):
    """What an operation needs, as its own endpoint does."""

    scope: str
    key_required: bool
    id_field: Literal["hold_id", "transaction_id"] | None
    has_body: bool
    operation_from: Callable[[_Given], Operation]


_KINDS: Mapping[str, _Kind] = {
    "bill": _Kind(
        BILL,
        key_required=False,
        id_field=None,
        has_body=True,
        operation_from=lambda given: bill.operation_from(decode(given.body, bill.decoder)),
    ),
    "hold": _Kind(
        BILL,
        key_required=True,
        id_field=None,
        has_body=True,
        operation_from=lambda given: holds.placing(
            decode(given.body, holds.request_decoder), given.limits
        ),
    ),
    "amend_hold": _Kind(
        BILL,
        key_required=False,
        id_field="hold_id",
        has_body=True,
        operation_from=lambda given: holds.amending(
            given.id, decode(given.body, holds.patch_decoder), given.limits
        ),
    ),
    "release_hold": _Kind(
        BILL,
        key_required=False,
        id_field="hold_id",
        has_body=False,
        operation_from=lambda given: holds.releasing(given.id),
    ),
    "topup": _Kind(
        ADMIN,
        key_required=True,
        id_field=None,
        has_body=True,
        operation_from=lambda given: topup.operation_from(decode(given.body, topup.decoder)),
    ),
    "refund": _Kind(
        ADMIN,
        key_required=True,
        id_field="transaction_id",
        has_body=True,
        operation_from=lambda given: refunds.operation_from(
            decode(given.body, refunds.decoder), given.id
        ),
    ),
}


@router.post(
    "/batch",
    summary="Run up to 500 operations, each for itself",
    **documented(request=BatchRequest, response=BatchResponse, problems=(400, 413, 422)),
)
async def batch(request: Request) -> Response:
    """Answer each operation as its own endpoint would; one that fails stops no other."""
    services = services_of(request)
    asked = await read(request, _decoder)
    prepared = [_prepared(request, services.hold_limits, item) for item in asked.operations]
    commands = [item for item in prepared if isinstance(item, Command)]
    answers = iter(await _run(services, commands))
    results = [next(answers) if isinstance(item, Command) else _problem(item) for item in prepared]
    body = b'{"results":[%b]}' % b",".join(map(_written, results))
    return Response(body, headers={"content-type": "application/json"})


def _prepared(request: Request, limits: HoldLimits, raw: bytes) -> Command | ServiceError:
    """Return the command of one item, or why there is none."""
    try:
        item = decode(raw, _item_decoder)
        kind = _KINDS[item.op]
        principal = authorized(request, kind.scope)
        key = checked_key(item.idempotency_key, _KEY_FIELD, required=kind.key_required)
        operation = kind.operation_from(_Given(_id_of(item, kind), _body_of(item, kind), limits))
    except ServiceError as error:
        return error
    return Command(
        operation,
        principal.name,
        item.request_id or current_request_id(),
        None if key is None else IdempotencyKey(principal.name, key),
        key_field=_KEY_FIELD,
    )


def _id_of(item: BatchItem, kind: _Kind) -> str:
    given = {"hold_id": item.hold_id, "transaction_id": item.transaction_id}
    found = given.pop(kind.id_field, None) if kind.id_field is not None else None
    if kind.id_field is not None and found is None:
        raise invalid(kind.id_field, f"is required for {item.op}")
    for name, value in given.items():
        if value is not None:
            raise invalid(name, f"does not belong beside {item.op}")
    return found or ""


def _body_of(item: BatchItem, kind: _Kind) -> bytes:
    body = item.body
    if isinstance(body, msgspec.UnsetType):
        if kind.has_body:
            raise invalid("body", f"is required for {item.op}")
        return b""
    if not kind.has_body:
        raise invalid("body", f"does not belong beside {item.op}")
    return body


async def _run(services: Services, commands: Sequence[Command]) -> list[Result]:
    """Let the writer run the commands and return what each is answered."""
    outcomes = await services.writer.submit_many(commands)
    results = [
        outcome if isinstance(outcome, Result) else _problem(outcome) for outcome in outcomes
    ]
    for command, result in zip(commands, results, strict=True):
        name = type(command.operation).__name__
        services.metrics.count(name, result.status, replayed=result.replayed)
    return results


def _problem(error: Exception) -> Result:
    if isinstance(error, DuplicateInFlightError):
        error = in_progress()
    # What nobody foresaw was logged where it happened; nothing internal is shown.
    shown = error if isinstance(error, ServiceError) else internal_error()
    return Result(shown.status, _form.render(shown, current_request_id()))


def _written(result: Result) -> bytes:
    replayed = b"true" if result.replayed else b"false"
    # The body is JSON already, and must be what it was the first time to the byte.
    return b'{"status":%d,"replayed":%b,"body":%b}' % (result.status, replayed, result.body)
