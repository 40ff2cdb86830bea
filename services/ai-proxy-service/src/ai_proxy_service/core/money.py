"""Amounts: integers of nano-USD (1e-9 USD) inside, decimal strings in USD outside."""

from decimal import Decimal, InvalidOperation

NANOS_PER_USD = 1_000_000_000


def scaled_text(value: int, exponent: int) -> str:
    """Write value x 10^exponent as a plain decimal, without trailing zeros."""
    text = format(Decimal(value).scaleb(exponent), "f")
    return text.rstrip("0").rstrip(".") if "." in text else text


def usd_text(nanos: int) -> str:
    """Write nano-USD as a decimal string in USD, without trailing zeros."""
    return scaled_text(nanos, -9)


def nanos_of_usd(text: str) -> int:
    """Read a decimal string in USD.

    Raises:
        ValueError: not a finite decimal number of at most 9 fraction digits.
    """
    try:
        scaled = Decimal(text).scaleb(9)
    except InvalidOperation:
        raise ValueError(f"{text!r} is not a decimal number") from None
    if not scaled.is_finite() or scaled != scaled.to_integral_value():
        raise ValueError(f"{text!r} is not an amount in nano-USD")
    return int(scaled)
