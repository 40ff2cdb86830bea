"""What pages of a statement say of their period, whatever their cursor says."""

import base64
import json
from typing import Any

import pytest
from sqlalchemy.ext.asyncio import AsyncConnection

from credits.client import CreditsClient, assert_problem
from credits.drivers import Clock
from credits.statement_reader import FAR, PAST, assert_adds_up, statement_of
from credits_service.core.moments import rfc3339
from credits_service.db import statement_figures
from credits_service.db.periods import Span, totals_of

SECOND = 1_000_000


def _place(cursor: str) -> list[Any]:
    """Read what a cursor says."""
    place: list[Any] = json.loads(base64.urlsafe_b64decode(cursor))
    return place


def _cursor(*place: Any) -> str:
    return base64.urlsafe_b64encode(json.dumps(place).encode()).decode()


def test_a_cursor_that_somebody_made_up_says_nothing_that_is_not_booked(
    timed: CreditsClient, clock: Clock
) -> None:
    """Before the period 1 and 2 are booked, 3 to 6 within it, 7 and 8 after it."""
    began = clock.micros
    for _ in range(8):
        timed.top_up("ann", "1")
        clock.micros += SECOND
    edges = (began + 2 * SECOND, began + 6 * SECOND)
    path = "/accounts/ann/statement?limit=1&cursor="
    period = f"&from={rfc3339(edges[0])}&to={rfc3339(edges[1])}".replace("+", "%2B")
    first = timed.call("GET", f"/accounts/ann/statement?limit=1{period}").json()
    assert _place(first["next_cursor"]) == [2, "ann", *edges, 3, 6]

    # The end as it was at another moment of the period: the figures are those of then.
    page = timed.call("GET", path + _cursor(2, "ann", *edges, 4, 5)).json()
    assert (page["opening_balance"], page["closing_balance"]) == ("2", "5")
    assert page["totals"]["topup"] == "3"
    assert [booked["seq"] for booked in page["transactions"]] == [5]

    for forged in (
        (2, "ann", *edges, 2, 6),  # begins where a first page does
        (2, "ann", *edges, 1, 6),  # begins before the period
        (2, "ann", *edges, 6, 6),  # begins at the end
        (2, "ann", *edges, 3, 7),  # ends after the period
        (2, "ann", *edges, 3, 2),  # ends before it
        (2, "ann", *edges, 3, 9),  # ends with what is not booked
        (2, "ann", *edges, 3, 0),
        (2, "ann", *edges, 3, 6, {"topup": 10**18}),
        (1, "ann", *edges, 2, 3, 6, {"topup": 10**18}),  # as earlier versions wrote them
        (2, "ann", *reversed(edges), 3, 6),
        (2, "nobody", *edges, 3, 6),
    ):
        response = timed.call("GET", path + _cursor(*forged))
        assert_problem(response, 422, "invalid_value", "cursor")


def test_a_period_is_added_up_once_for_all_its_pages(
    service: CreditsClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    summed: list[Span] = []

    async def counting(connection: AsyncConnection, user_id: str, span: Span) -> dict[str, int]:
        summed.append(span)
        return await totals_of(connection, user_id, span)

    monkeypatch.setattr(statement_figures, "totals_of", counting)
    for _ in range(6):
        service.top_up("ann", "1")
    whole = statement_of(service, limit=1, from_=PAST, to_=FAR)
    assert len(whole["transactions"]) == 6
    assert summed == [Span(0, 6)]


def test_figures_that_are_remembered_no_more_are_found_again(
    service: CreditsClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(statement_figures, "KEPT_MAX", 1)
    for user_id, amount in (("ann", "1"), ("bob", "2"), ("ann", "1"), ("bob", "2")):
        service.top_up(user_id, amount)
    for user_id, total in (("ann", "2"), ("bob", "4"), ("ann", "2")):
        assert statement_of(service, user_id, limit=1)["totals"]["topup"] == total


def test_totals_may_be_larger_than_any_balance(service: CreditsClient) -> None:
    """Beyond what 64 bits of nano-USD hold: SQLite's own sum would fail."""
    for _ in range(3):
        service.top_up("ann", "9000000000.000000001")
        assert service.bill("ann", "9000000000").status_code == 200
    statement = statement_of(service)
    assert statement["totals"]["topup"] == "27000000000.000000003"
    assert statement["totals"]["charge"] == "-27000000000"
    assert_adds_up(statement)
    service.assert_sound()
