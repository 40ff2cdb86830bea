"""Amounts: exact in both directions, or refused."""

from decimal import Decimal
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st
from typer import BadParameter

from credits_service.cli.amounts import amount
from credits_service.core.money import (
    MAX_NANOS,
    AmountError,
    decimal_from,
    nanos_ceil,
    nanos_from_usd,
    usd_from_nanos,
)


@given(st.integers(1, MAX_NANOS))
def test_an_amount_survives_the_way_out_and_back(nanos: int) -> None:
    assert nanos_from_usd(decimal_from(usd_from_nanos(nanos))) == nanos


@given(st.integers(-MAX_NANOS, MAX_NANOS))
def test_text_is_the_exact_value_without_needless_zeros(nanos: int) -> None:
    text = usd_from_nanos(nanos)
    assert Fraction(text) == Fraction(nanos, 10**9)
    assert not ("." in text and text.endswith(("0", ".")))


@given(st.decimals(allow_nan=True, allow_infinity=True))
def test_a_number_is_converted_exactly_or_refused(amount: Decimal) -> None:
    try:
        nanos = nanos_from_usd(amount)
    except AmountError:
        return
    assert 0 < nanos <= MAX_NANOS
    assert Fraction(nanos, 10**9) == Fraction(amount)


@pytest.mark.parametrize(
    ("text", "nanos"),
    [
        ("99.999375", 99_999_375_000),
        ("0.000000001", 1),
        ("1e-9", 1),
        ("1.50", 1_500_000_000),
        ("0.0000000010000", 1),
        ("1E+2", 100_000_000_000),
        ("007.5", 7_500_000_000),
        ("9223372036.854775807", MAX_NANOS),
    ],
)
def test_accepted(text: str, nanos: int) -> None:
    assert nanos_from_usd(decimal_from(text)) == nanos


@pytest.mark.parametrize(
    "text",
    [
        "0",
        "-1",
        "-0.0",
        "0.0000000001",
        "1.0000000001",
        "9223372036.854775808",
        "1e400",
        "1e-400",
        "1e999999999",
        "1e-999999999",
        "NaN",
        "sNaN",
        "Infinity",
        "-Infinity",
    ],
)
def test_refused(text: str) -> None:
    with pytest.raises(AmountError):
        nanos_from_usd(Decimal(text))


@pytest.mark.parametrize(
    "text",
    [
        *("", " ", " 1", "1 ", "1\n", "+1", "1_000", "\uff11", "\u0663", ".5", "1.", "1e", "1e1_0"),
        *("1,5", "0x1", "NaN", "Infinity", "--1", f"1e{'9' * 20}", f"1e-{'9' * 20}"),
    ],
)
def test_what_only_python_reads_as_a_number_is_none(text: str) -> None:
    """Neither in the API nor on the command line."""
    with pytest.raises(AmountError):
        decimal_from(text)
    with pytest.raises(BadParameter):
        amount(text)


@pytest.mark.parametrize(("text", "shown"), [("12.50", "12.5"), ("007", "7")])
def test_the_command_line_shows_an_amount_as_the_api_does(text: str, shown: str) -> None:
    assert amount(text) == shown


def test_the_command_line_takes_no_exponent() -> None:
    """The API does; from an operator's fingers it is a slip."""
    with pytest.raises(BadParameter):
        amount("1e2")


@given(st.integers(0, 10**24))
def test_a_cost_is_rounded_up_once(picos: int) -> None:
    nanos = nanos_ceil(picos)
    assert 0 <= nanos * 1000 - picos < 1000
