"""How transactions are written."""

import msgspec

from credits_service.api.wire_reads import LotUseBody, TransactionBody
from credits_service.core.moments import rfc3339
from credits_service.core.money import optional_usd, usd_from_nanos
from credits_service.ledger.journal import Transaction


def transaction_body(booked: Transaction) -> TransactionBody:
    """Write a transaction."""
    return TransactionBody(
        transaction_id=booked.id,
        seq=booked.seq,
        kind=booked.kind,
        amount=usd_from_nanos(booked.amount_nanos),
        balance_after=usd_from_nanos(booked.balance_after_nanos),
        held_after=usd_from_nanos(booked.held_after_nanos),
        booked_at=rfc3339(booked.booked_at_micros),
        description=booked.description,
        hold_id=booked.hold_id,
        reverses_id=booked.reverses_id,
        requested=optional_usd(booked.requested_nanos),
        settled_before=usd_from_nanos(booked.settled_before_nanos),
        shortfall=usd_from_nanos(booked.shortfall_nanos),
        lots=[
            LotUseBody(use.lot_id, usd_from_nanos(use.nanos), use.from_hold) for use in booked.lots
        ],
        usage=_document(booked.usage),
        price=_document(booked.price),
        metadata=_document(booked.metadata),
        details=_document(booked.details),
        request_id=booked.request_id,
    )


def _document(text: str | None) -> msgspec.Raw:
    """Pass a document on as it was stored: nothing can fail, and no digit changes."""
    return msgspec.Raw(b"null" if text is None else text.encode())
