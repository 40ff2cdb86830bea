"""Amounts of money as they are typed: decimal USD, never through a float."""

import re
from decimal import Decimal

import typer

from credits_service.core.money import AmountError, nanos_from_usd, usd_from_nanos

_AMOUNT = re.compile(r"[0-9]{1,20}(\.[0-9]{1,20})?")
NONE = "none"


def amount(text: str) -> str:
    """Check an amount in USD such as ``12.50``.

    Raises:
        BadParameter: it is none.
    """
    if not _AMOUNT.fullmatch(text):
        raise typer.BadParameter(f"{text!r} is no amount in USD such as 12.50")
    try:
        return usd_from_nanos(nanos_from_usd(Decimal(text)))
    except AmountError as error:
        raise typer.BadParameter(f"{text!r}: an amount {error}") from None


def amount_or_none(text: str) -> str:
    """Check an amount in USD, or the word ``none``.

    Raises:
        BadParameter: it is neither.
    """
    return NONE if text == NONE else amount(text)
