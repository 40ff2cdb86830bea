"""Balances at a moment, statements of a period and single transactions over HTTP."""

import csv
import io
from decimal import Decimal
from typing import Any

import httpx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from credits.client import SERVICE_KEY, CreditsClient, Json, app_of, assert_problem, bearer
from credits.drivers import Clock
from credits.statement_reader import FAR, PAST, assert_adds_up, statement_of
from credits_service.api import csv_statement, statements
from credits_service.core.moments import rfc3339
from support.live_server import live_server

SECOND = 1_000_000


# What a hold that is read by itself says of its account as well.
_FIGURES = ("balance", "held", "available", "spendable", "seq")


def _balance_at(client: CreditsClient, micros: int) -> Json:
    response = client.http.get(
        "/api/v1/accounts/ann", params={"at": rfc3339(micros)}, headers=bearer(SERVICE_KEY)
    )
    assert response.status_code == 200, response.text
    body: Json = response.json()
    return body


_STEPS = st.lists(
    st.tuples(st.sampled_from(["topup", "bill"]), st.integers(0, 2), st.integers(1, 5)),
    min_size=1,
    max_size=12,
)
# Whole seconds, at which things happen, and a microsecond to either side.
_CUTS = st.tuples(st.integers(-1, 26), st.integers(-1, 1))


def test_periods_add_up_and_the_balance_at_a_moment_is_the_fold(
    timed: CreditsClient, clock: Clock
) -> None:
    """Over random histories, some events at the same moment, and random cut points."""

    @settings(
        max_examples=12,
        deadline=None,
        derandomize=True,
        database=None,
        suppress_health_check=list(HealthCheck),
    )
    @given(_STEPS, st.tuples(_CUTS, _CUTS, _CUTS))
    def check(steps: list[tuple[str, int, int]], cuts: tuple[tuple[int, int], ...]) -> None:
        began = clock.micros
        timed.top_up("ann", "20")
        for kind, pause, amount in steps:
            clock.micros += pause * SECOND
            if kind == "topup":
                timed.top_up("ann", str(amount))
            else:
                timed.bill("ann", str(amount))
        clock.micros += SECOND
        a, b, c = sorted(began + seconds * SECOND + micros for seconds, micros in cuts)
        first, second, both = (
            statement_of(timed, from_=rfc3339(start), to=rfc3339(end), limit=3)
            for start, end in ((a, b), (b, c), (a, c))
        )
        for statement in (first, second, both):
            assert_adds_up(statement)
        assert first["transactions"] + second["transactions"] == both["transactions"]
        assert first["closing_balance"] == second["opening_balance"]
        journal = timed.transactions("ann")
        until = [booked for booked in journal if booked["booked_at"] <= rfc3339(b)]
        found = _balance_at(timed, b)
        assert found["seq"] == len(until)
        assert Decimal(found["balance"]) == sum(Decimal(booked["amount"]) for booked in until)

    check()


def test_pages_say_the_same_while_charges_are_booked(service: CreditsClient) -> None:
    service.top_up("ann", "100")
    for _ in range(6):
        service.bill("ann", "1")
    seen: list[int] = []
    cursor: str | None = ""
    closing: set[str] = set()
    while cursor is not None:
        suffix = f"&cursor={cursor}" if cursor else ""
        path = f"/accounts/ann/statement?from={PAST}&to={FAR}&limit=3{suffix}"
        page = service.call("GET", path).json()
        seen += [booked["seq"] for booked in page["transactions"]]
        closing.add(page["closing_balance"])
        cursor = page["next_cursor"]
        service.bill("ann", "1")
    assert seen == [1, 2, 3, 4, 5, 6, 7]
    assert closing == {"94"}


def test_the_default_period_is_the_current_month(timed: CreditsClient, clock: Clock) -> None:
    timed.top_up("ann", "5")
    this_month = statement_of(timed)
    assert len(this_month["transactions"]) == 1
    assert this_month["from"].endswith("-01T00:00:00.000000Z")
    assert this_month["to"].endswith("-01T00:00:00.000000Z")
    clock.micros += 32 * 86_400 * SECOND
    later = statement_of(timed)
    assert later["from"] == this_month["to"]
    assert (later["opening_balance"], later["closing_balance"]) == ("5", "5")
    assert later["transactions"] == []


def test_a_cursor_is_good_for_its_own_statement_only(service: CreditsClient) -> None:
    for user_id in ("ann", "bob"):
        service.top_up(user_id, "1")
        service.top_up(user_id, "1")
    period = f"from={PAST}&to={FAR}&limit=1"
    cursor = service.call("GET", f"/accounts/ann/statement?{period}").json()["next_cursor"]
    for path in (
        f"/accounts/bob/statement?{period}&cursor={cursor}",
        f"/accounts/ann/statement?{period}&cursor=x{cursor}",
        f"/accounts/ann/statement?{period}&cursor=AAAA",
        f"/accounts/ann/statement?from=1998-01-01T00:00:00Z&cursor={cursor}",
        f"/accounts/ann/statement?format=csv&cursor={cursor}",
    ):
        assert_problem(service.call("GET", path), 422, "invalid_value", "cursor")


@pytest.mark.parametrize(
    ("query", "field"),
    [
        ("statement?from=2026-01-01", "from"),
        ("statement?to=2026-01-01T00:00:00", "to"),
        ("statement?from=2026-02-01T00:00:00Z&to=2026-01-01T00:00:00Z", "from"),
        ("statement?format=xml", "format"),
        ("statement?limit=0", "limit"),
        ("transactions?kind=gift", "kind"),
        ("holds?status=expired", "status"),
        ("holds?cursor=%00", "cursor"),
    ],
)
def test_what_is_wrong_in_a_query_is_named(service: CreditsClient, query: str, field: str) -> None:
    service.top_up("ann", "1")
    response = service.call("GET", f"/accounts/ann/{query}")
    assert_problem(response, 422, "invalid_value", field)


def test_moments_are_told_with_any_zone_even_if_its_plus_was_not_encoded(
    service: CreditsClient,
) -> None:
    service.top_up("ann", "1")
    for moment in ("2999-01-01T02:00:00+02:00", "2999-01-01T02:00:00%2B02:00", FAR):
        found = service.call("GET", f"/accounts/ann?at={moment}").json()
        assert found == {"user_id": "ann", "at": "2999-01-01T00:00:00.000000Z"} | {
            "balance": "1",
            "seq": 1,
        }
    before = service.call("GET", f"/accounts/ann?at={PAST}").json()
    assert (before["balance"], before["seq"]) == ("0", 0)
    assert_problem(service.call("GET", "/accounts/ann?at=now"), 422, "invalid_value", "at")
    assert_problem(service.call("GET", f"/accounts/eve?at={FAR}"), 404, "account_not_found")


def test_csv_is_whole_and_safe_to_open_in_a_spreadsheet(
    service: CreditsClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(statements, "MAX_PAGE", 2)
    said = ["=1+1", "+1", "-1", "@x", "\tx", "\rx", 'a "quoted", text\nof lines', "zoë 名"]
    service.top_up("org/a", "100")
    for text in said:
        service.bill("org/a", "1.5", description=text)
    path = f"/accounts/org/a/statement?format=csv&from={PAST}&to={FAR}"
    response = service.call("GET", path)
    assert response.headers["content-type"] == "text/csv; charset=utf-8"
    name = 'attachment; filename="statement_org_a_1999-01-01_2999-01-01.csv"'
    assert response.headers["content-disposition"] == name
    assert response.content.count(b"\r\n") == len(said) + 2
    found = list(csv.DictReader(io.StringIO(response.content.decode(), newline="")))
    assert [row["seq"] for row in found] == [str(number) for number in range(1, 10)]
    assert found[1]["amount"] == "-1.5"
    guarded = [f"'{text}" for text in said[:6]] + said[6:]
    assert [row["description"] for row in found[1:]] == guarded
    assert_problem(
        service.call("GET", "/accounts/eve/statement?format=csv"), 404, "account_not_found"
    )


def test_a_database_that_fails_in_the_middle_of_a_file_cuts_it_off(
    ledger_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(statements, "MAX_PAGE", 1)
    app = app_of(ledger_url)
    with live_server(app) as base_url, CreditsClient(base_url) as client:
        client.top_up("ann", "1")
        client.top_up("ann", "1")
        written = csv_statement.lines
        calls = 0

        def failing(transactions: Any) -> bytes:
            nonlocal calls
            calls += 1
            if calls > 1:
                raise ConnectionResetError
            return written(transactions)

        monkeypatch.setattr(csv_statement, "lines", failing)
        path = f"/accounts/ann/statement?format=csv&from={PAST}&to={FAR}"
        with pytest.raises(httpx.RemoteProtocolError, match=r"peer closed connection|incomplete"):
            client.call("GET", path)
        assert calls == 2
        monkeypatch.setattr(csv_statement, "lines", written)
        assert client.call("GET", path).content.count(b"\r\n") == 3


def test_ids_with_slashes_reach_what_they_name(service: CreditsClient) -> None:
    for user_id in ("team", "team/holds", "team/statement", "team/transactions"):
        service.top_up(user_id, "1")
    for name in ("holds", "statement", "transactions"):
        encoded = service.call("GET", f"/accounts/team%2F{name}").json()
        assert encoded["user_id"] == f"team/{name}"
        assert "balance" in encoded
        below = service.call("GET", f"/accounts/team%2F{name}/{name}")
        assert below.status_code == 200
        plain = service.call("GET", f"/accounts/team/{name}")
        assert plain.status_code == 200
        assert "available" not in plain.json()


def test_a_transaction_is_read_by_its_id(service: CreditsClient) -> None:
    service.top_up("ann", "1")
    charged = service.bill("ann", "0.5").json()
    (found,) = [t for t in service.transactions("ann") if t["kind"] == "charge"]
    one = service.call("GET", f"/transactions/{charged['transaction_id']}").json()
    assert one == found | {"user_id": "ann"}
    for unknown in ("nobody", "%C3%A9"):
        response = service.call("GET", f"/transactions/{unknown}")
        assert_problem(response, 404, "transaction_not_found")


def test_transactions_of_a_kind_are_found_a_bounded_stretch_at_a_time(
    service: CreditsClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("credits_service.db.queries.LOOKED_AT_MAX", 4)
    service.top_up("ann", "50")
    for _ in range(9):
        service.bill("ann", "1")
    service.top_up("ann", "1")
    for order, expected in (("asc", [1, 11]), ("desc", [11, 1])):
        seen: list[int] = []
        cursor, pages = "", 0
        while True:
            path = f"/accounts/ann/transactions?kind=topup&order={order}&limit=1{cursor}"
            page = service.call("GET", path).json()
            seen += [booked["seq"] for booked in page["transactions"]]
            pages += 1
            if page["next_cursor"] is None:
                break
            cursor = f"&cursor={page['next_cursor']}"
        assert seen == expected
        assert pages >= 3


def test_holds_are_listed_newest_first(service: CreditsClient) -> None:
    service.top_up("ann", "10")
    ids = [service.held("ann", "1")["hold_id"] for _ in range(5)]
    service.call("DELETE", f"/holds/{ids[2]}")
    for query, expected in (("", ids[::-1]), ("&status=active", [*ids[:2], *ids[3:]][::-1])):
        seen: list[str] = []
        cursor: str | None = ""
        while cursor is not None:
            suffix = f"&cursor={cursor}" if cursor else ""
            page = service.call("GET", f"/accounts/ann/holds?limit=2{query}{suffix}").json()
            seen += [hold["hold_id"] for hold in page["holds"]]
            cursor = page["next_cursor"]
        assert seen == expected
    (held,) = service.call("GET", "/accounts/ann/holds?limit=1").json()["holds"]
    one = service.call("GET", f"/holds/{held['hold_id']}").json()
    assert one == held | {name: one[name] for name in _FIGURES}
    assert_problem(service.call("GET", "/accounts/eve/holds"), 404, "account_not_found")


def test_integrity_of_some_accounts(service: CreditsClient) -> None:
    for user_id in ("ann", "bob", "eve"):
        service.top_up(user_id, "1")
    admin = "adm-0123456789abcdef"
    found = service.call("GET", "/integrity?user_id=ann&user_id=bob", api_key=admin).json()
    assert (found["ok"], found["accounts"], found["transactions"]) == (True, 2, 2)
    unknown = service.call("GET", "/integrity?user_id=nobody", api_key=admin)
    assert_problem(unknown, 404, "account_not_found")
