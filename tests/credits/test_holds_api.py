"""Holds over HTTP: reserve, raise, capture, release, and what happens when time runs out."""

from credits.client import CreditsClient, app_of, assert_problem
from credits.drivers import Clock
from support.live_server import live_server

SECOND = 1_000_000


def _capture(
    client: CreditsClient, hold_id: str, amount: str, *, final: bool = True
) -> dict[str, str]:
    response = client.bill("ann", amount, hold_id=hold_id, final=final)
    assert response.status_code == 200, response.text
    body: dict[str, str] = response.json()
    return body


def test_a_hold_reserves_and_a_capture_returns_the_rest(service: CreditsClient) -> None:
    service.top_up("ann", "10")
    hold = service.held("ann", "4", request_ref="chatcmpl-1", ttl_s=60)
    assert (hold["status"], hold["amount"], hold["request_ref"]) == ("active", "4", "chatcmpl-1")
    assert (hold["balance"], hold["held"], hold["available"]) == ("10", "4", "6")
    charge = _capture(service, hold["hold_id"], "1.5")
    assert charge["amount"] == charge["requested"] == "1.5"
    assert (charge["balance"], charge["held"], charge["available"]) == ("8.5", "0", "8.5")
    shown = service.call("GET", f"/holds/{hold['hold_id']}").json()
    assert (shown["status"], shown["captured"]) == ("captured", "1.5")
    assert_problem(service.bill("ann", "1", hold_id=hold["hold_id"]), 409, "hold_ended")
    service.assert_sound()


def test_a_hold_takes_what_is_available_down_to_its_minimum(service: CreditsClient) -> None:
    service.top_up("ann", "3")
    assert service.held("ann", "10", min_amount="3")["amount"] == "3"
    body = assert_problem(service.hold("ann", "10", min_amount="1"), 402, "insufficient_credit")
    assert (body["available"], body["required"], body["retryable"]) == ("0", "1", True)


def test_partial_captures_leave_the_hold_open(service: CreditsClient) -> None:
    service.top_up("ann", "10")
    hold_id = service.held("ann", "4")["hold_id"]
    assert _capture(service, hold_id, "1", final=False)["held"] == "3"
    assert _capture(service, hold_id, "2", final=False)["held"] == "1"
    assert _capture(service, hold_id, "0.5")["available"] == "6.5"
    service.assert_sound()


def test_a_capture_beyond_the_hold_takes_free_credit_and_writes_the_rest_down(
    service: CreditsClient,
) -> None:
    service.top_up("ann", "5")
    hold_id = service.held("ann", "4")["hold_id"]
    charge = _capture(service, hold_id, "7")
    assert (charge["requested"], charge["amount"], charge["shortfall"]) == ("7", "5", "2")
    account = service.account("ann")
    assert (account["balance"], account["held"], account["shortfall"]) == ("0", "0", "2")
    service.assert_sound()


def test_after_a_raise_what_ends_first_is_still_captured_first(service: CreditsClient) -> None:
    """The raise reserves what was topped up since; it does not queue behind credit that lasts."""
    service.top_up("ann", "4")
    hold_id = service.held("ann", "4")["hold_id"]
    service.top_up("ann", "3", source="promo", expires_at="2100-01-01T00:00:00Z")
    assert service.call("PATCH", f"/holds/{hold_id}", {"amount": "7"}).status_code == 200
    _capture(service, hold_id, "5")
    lots = [(lot["source"], lot["remaining"]) for lot in service.account("ann")["lots"]]
    assert lots == [("paid", "2")]
    service.assert_sound()


def test_a_raise_that_cannot_be_paid_leaves_the_hold_as_it_was(service: CreditsClient) -> None:
    service.top_up("ann", "5")
    hold_id = service.held("ann", "4")["hold_id"]
    path = f"/holds/{hold_id}"
    refused = service.call("PATCH", path, {"amount": "6", "progress": "3"})
    body = assert_problem(refused, 402, "insufficient_credit")
    assert (body["available"], body["required"], body["retryable"]) == ("1", "2", False)
    hold = service.call("GET", path).json()
    assert (hold["status"], hold["amount"], hold["progress"]) == ("active", "4", "0")
    raised = service.call("PATCH", path, {"amount": "5", "progress": "3"}).json()
    assert (raised["amount"], raised["progress"], raised["available"]) == ("5", "3", "0")
    again = service.call("PATCH", path, {"amount": "2", "progress": "1"}).json()
    assert (again["amount"], again["progress"]) == ("5", "3")


def test_a_release_can_be_repeated(service: CreditsClient) -> None:
    service.top_up("ann", "5")
    path = f"/holds/{service.held('ann', '4')['hold_id']}"
    first = service.call("DELETE", path)
    again = service.call("DELETE", path)
    assert first.status_code == again.status_code == 200
    assert first.json() == again.json()
    assert (again.json()["status"], again.json()["available"]) == ("released", "5")
    assert_problem(service.call("PATCH", path, {"amount": "5"}), 409, "hold_ended")
    service.assert_sound()


def test_a_hold_of_another_account_is_not_found(service: CreditsClient) -> None:
    service.top_up("ann", "5")
    service.top_up("bob", "5")
    hold_id = service.held("ann", "4")["hold_id"]
    assert_problem(service.bill("bob", "1", hold_id=hold_id), 404, "hold_not_found")
    assert_problem(service.bill("nobody", "1", hold_id=hold_id), 404, "hold_not_found")
    assert service.account("ann")["held"] == "4"


def test_an_expired_hold_is_charged_its_progress(
    timed_service: CreditsClient, clock: Clock
) -> None:
    timed_service.top_up("ann", "10")
    hold_id = timed_service.held("ann", "4", ttl_s=60)["hold_id"]
    timed_service.call("PATCH", f"/holds/{hold_id}", {"progress": "1.25"})
    clock.micros += 60 * SECOND
    account = timed_service.account("ann")
    assert (account["balance"], account["held"]) == ("8.75", "0")
    assert timed_service.call("GET", f"/holds/{hold_id}").json()["status"] == "expired"
    assert timed_service.bill("ann", "8.75").json()["available"] == "0"
    (_top_up, settled, _bill) = timed_service.transactions("ann")
    assert (settled["amount"], settled["hold_id"]) == ("-1.25", hold_id)
    timed_service.assert_sound()


def test_a_late_capture_counts_what_the_expiry_charged(
    timed_service: CreditsClient, clock: Clock
) -> None:
    timed_service.top_up("ann", "5")
    hold_id = timed_service.held("ann", "4", ttl_s=60)["hold_id"]
    timed_service.call("PATCH", f"/holds/{hold_id}", {"progress": "1"})
    clock.micros += 61 * SECOND
    timed_service.bill("ann", "3.5")
    late = _capture(timed_service, hold_id, "3")
    assert (late["requested"], late["settled_before"]) == ("3", "1")
    assert (late["amount"], late["shortfall"], late["balance"]) == ("0.5", "1.5", "0")
    assert_problem(timed_service.bill("ann", "1", hold_id=hold_id), 409, "hold_ended")
    timed_service.assert_sound()


def test_a_longer_life_keeps_a_hold_from_expiring(
    timed_service: CreditsClient, clock: Clock
) -> None:
    timed_service.top_up("ann", "5")
    hold_id = timed_service.held("ann", "4", ttl_s=60)["hold_id"]
    clock.micros += 59 * SECOND
    timed_service.call("PATCH", f"/holds/{hold_id}", {"ttl_s": 60})
    clock.micros += 59 * SECOND
    assert timed_service.account("ann")["held"] == "4"


def test_expired_credit_is_gone_but_a_hold_placed_before_may_use_it(
    timed_service: CreditsClient, clock: Clock
) -> None:
    timed_service.top_up("ann", "5", expires_at="2027-01-15T08:10:00Z", source="promo")
    timed_service.top_up("ann", "1")
    hold_id = timed_service.held("ann", "3", ttl_s=3600)["hold_id"]
    clock.micros += 601 * SECOND
    account = timed_service.account("ann")
    assert (account["available"], account["held"]) == ("1", "3")
    charge = _capture(timed_service, hold_id, "2")
    assert (charge["amount"], charge["balance"]) == ("2", "1")
    kinds = [booked["kind"] for booked in timed_service.transactions("ann")]
    assert kinds == ["topup", "topup", "lot_expiry", "charge", "lot_expiry"]
    timed_service.assert_sound()


def test_the_sweeper_settles_what_nobody_touches(clock: Clock, ledger_url: str) -> None:
    app = app_of(ledger_url, clock, sweep_interval_seconds=0.01)
    with live_server(app) as url, CreditsClient(url) as client:
        client.top_up("ann", "5")
        hold_id = client.held("ann", "4", ttl_s=60)["hold_id"]
        client.call("PATCH", f"/holds/{hold_id}", {"progress": "1"})
        clock.micros += 61 * SECOND
        # Nothing but the sweeper can book it; the test's own time limit ends the wait.
        while len(client.transactions("ann")) == 1:
            pass
        assert client.transactions("ann")[-1]["amount"] == "-1"
        client.assert_sound()
