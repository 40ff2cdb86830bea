"""Amounts of money: integer nano-USD (1e-9) inside, exact decimal strings in USD outside."""

import re
from decimal import Decimal, InvalidOperation
from functools import lru_cache

NANOS_PER_USD = 1_000_000_000
PICOS_PER_NANO = 1_000
MAX_NANOS = 2**63 - 1
FRACTION_DIGITS = 9
_MAX_INTEGER_DIGITS = 10
# How amounts are written, in JSON and elsewhere: Python takes more than others would expect
# ("1_000", full-width digits, spaces around it).
DECIMAL = r"-?[0-9]+(\.[0-9]+)?([eE][+-]?[0-9]+)?"
_DECIMAL = re.compile(DECIMAL)


class AmountError(ValueError):
    """A number is no amount of money; the message says why."""


def decimal_from(text: str) -> Decimal:
    """Read an amount as it was written, exactly.

    Raises:
        AmountError: it is no decimal number.
    """
    if not _DECIMAL.fullmatch(text):
        raise AmountError("must be a decimal number such as 12.5")
    try:
        return Decimal(text)
    except InvalidOperation:
        raise AmountError("must be a number of ordinary size") from None


def nanos_from_usd(amount: Decimal) -> int:
    """Convert a positive amount in USD to nano-USD, exactly.

    Raises:
        AmountError: not finite, not positive, finer than a nano-USD, or out of range.
    """
    if not amount.is_finite():
        raise AmountError("must be a finite number")
    if amount <= 0:
        raise AmountError("must be greater than 0")
    # Before any arithmetic: an exponent of a billion would cost as many digits.
    if amount.adjusted() >= _MAX_INTEGER_DIGITS:
        raise AmountError(f"must be at most {usd_from_nanos(MAX_NANOS)}")
    if amount.adjusted() < -FRACTION_DIGITS or not _is_whole_nanos(amount):
        raise AmountError(f"must have at most {FRACTION_DIGITS} fraction digits")
    nanos = _scaled(amount)
    if nanos > MAX_NANOS:
        raise AmountError(f"must be at most {usd_from_nanos(MAX_NANOS)}")
    return nanos


def _is_whole_nanos(amount: Decimal) -> bool:
    _sign, digits, exponent = amount.as_tuple()
    assert isinstance(exponent, int)
    surplus = -exponent - FRACTION_DIGITS
    return surplus <= 0 or not any(digits[-surplus:])


def _scaled(amount: Decimal) -> int:
    # Integer arithmetic on the digits: a decimal context would round long ones.
    _sign, digits, exponent = amount.as_tuple()
    assert isinstance(exponent, int)
    shift = exponent + FRACTION_DIGITS
    kept = digits if shift >= 0 else digits[:shift]
    value = int("".join(map(str, kept)) or "0")
    return value * 10**shift if shift > 0 else value


# An answer says the same amount several times.
@lru_cache(maxsize=2048)
def usd_from_nanos(nanos: int) -> str:
    """Write nano-USD as a decimal string in USD without needless zeros: ``99.999375``."""
    sign = "-" if nanos < 0 else ""
    whole, fraction = divmod(abs(nanos), NANOS_PER_USD)
    if not fraction:
        return f"{sign}{whole}"
    return f"{sign}{whole}.{fraction:09d}".rstrip("0")


def optional_usd(nanos: int | None) -> str | None:
    """Write nano-USD that may be missing."""
    return None if nanos is None else usd_from_nanos(nanos)


def nanos_ceil(picos: int) -> int:
    """Round an exact cost in pico-USD up to nano-USD: the one rounding of a charge."""
    return -(-picos // PICOS_PER_NANO)
