"""Every endpoint refuses what is wrong, names it, and changes nothing; on both engines."""

import json
from collections.abc import Iterator

from credits.bad_requests import (
    AMOUNTS,
    BAD_AMOUNTS,
    BODIES,
    NO_AMOUNTS,
    NO_JSON,
    SQL,
    Bad,
    World,
)
from credits.client import SERVICE_KEY, Json, assert_problem

REFUND = "/transactions/{charge}/refund"
_BILL: Json = {"user_id": "ann", "amount": "1"}


def _json(**fields: object) -> str:
    return json.dumps(fields)


def _amounts() -> Iterator[Bad]:
    for method, path, template, field in AMOUNTS:
        for text in BAD_AMOUNTS + NO_AMOUNTS + NO_JSON:
            if field == "progress" and text in {"0", '"0.000"', "-0"}:
                continue
            content = template.replace("%s", text)
            if text in NO_JSON:
                yield Bad(method, path, content, 400, "invalid_json")
                continue
            code = "invalid_type" if text[0] in "tf[{" else "invalid_amount"
            yield Bad(method, path, content, 422, code, field)


def test_amounts(world: World) -> None:
    assert world.refuse(_amounts()) > 400


def _bodies() -> Iterator[Bad]:
    deep = '{"a":' * 5000
    for method, path, fields in BODIES:
        for content in ("", "{", "nope", "\ufeff{}", f"{{{fields}}}x", f"{{{fields}"):
            yield Bad(method, path, content, 400, "invalid_json")
        for content in ("[]", "null", "1", '"text"', "true", f"[{{{fields}}}]"):
            yield Bad(method, path, content, 422, "invalid_type")
        for name in ("amuont", "__class__", "a" * 1000):
            content = f'{{{fields}, "{name}": 1}}'
            yield Bad(method, path, content, 422, "unknown_parameter", name)
        content = f'{{{fields}, "nested": {deep}'
        yield Bad(method, path, content, 422, "unknown_parameter", "nested")
        content = " " * 1024 * 1024 + "{}"
        yield Bad(method, path, content, 413, "request_too_large")
    for name in ("metadata", "usage", "price"):
        content = f'{{"user_id": "ann", "amount": 1, "{name}": {deep}'
        yield Bad("POST", "/bill", content, 400, "invalid_json")
        content = _json(**_BILL, **{name: {"text": "x" * 17_000}})
        yield Bad("POST", "/bill", content, 422, "invalid_value", name)


def test_bodies(world: World) -> None:
    assert world.refuse(_bodies()) > 100


# Endpoint, what is right beside it, and for each field values that are wrong.
_FIELDS: tuple[tuple[str, str, Json, dict[str, tuple[object, ...]]], ...] = (
    (
        "POST",
        "/bill",
        _BILL,
        {
            "user_id": ("", "a\x00b", "a\nb", "\x7f", "x" * 129, 1, None, [], {}, True),
            "description": ("a\x00", "x" * 1001, 1, None, []),
            "hold_id": ("", "a\nb", "x" * 129, 1, []),
            "final": ("yes", 1, None),
            "usage": ([], "x", 1),
            "price": ([], "x", 1),
            "metadata": ([], "x", 1),
            "key_id": ("", "a\nb", "x" * 129, 1, "unknown"),
        },
    ),
    (
        "POST",
        "/holds",
        _BILL,
        {
            "user_id": ("", "a\x00b", "\u0085", 1),
            "ttl_s": (0, -1, 1.5, 10**9, 10**30, "60", True),
            "min_amount": ("2", "1.000000001"),
            "request_ref": ("", "a\nb", "x" * 256, 1),
            "key_id": ("", "a\nb", "x" * 129, 1, "unknown"),
        },
    ),
    ("PATCH", "/holds/{hold}", {}, {"ttl_s": (0, -1, 1.5, 10**9, "60", True)}),
    (
        "POST",
        "/topup",
        _BILL,
        {
            "user_id": ("", "a\x00b", "a\nb", 1, None),
            "source": ("stolen", "", 1, None),
            "priority": (-1, 1001, 1.5, True, "1", 10**30),
            "expires_at": (
                "tomorrow",
                "",
                "2999-01-01",
                "2999-01-01T00:00:00",
                "2001-01-01T00:00:00Z",
                "2999-13-01T00:00:00Z",
                SQL,
                32503680000,
            ),
            "reference": ("", "a\nb", "x" * 256, 1),
            "description": ("\x00", "x" * 1001, 1),
        },
    ),
    ("POST", REFUND, {"reason": "x"}, {"reason": ("", "a\x00", "x" * 1001, 1, None, [])}),
    (
        "PATCH",
        "/accounts/ann",
        {},
        {
            "status": ("Open", "deleted", "", 1, [], SQL),
            "forfeit": (True, "yes", 1, None),
            "limits": ([], "1", 1),
        },
    ),
)
_CODES = {"invalid_type", "invalid_value"}


def test_fields(world: World) -> None:
    requests = [
        Bad(method, path, _json(**(right | {field: value})), 422, "", field)
        for method, path, right, fields in _FIELDS
        for field, values in fields.items()
        for value in values
    ]
    before = world.figures()
    for bad in requests:
        response = world.send(bad)
        code = response.json().get("code")
        assert code in _CODES, (bad, response.text)
        assert_problem(response, 422, code, bad.field)
    assert world.figures() == before


def test_what_is_missing(world: World) -> None:
    missing = "missing_required_parameter"
    world.refuse(
        [
            *(
                Bad("POST", path, _json(**{other: "1"}), 422, missing, field)
                for path in ("/bill", "/holds", "/topup")
                for field, other in (("user_id", "amount"), ("amount", "user_id"))
            ),
            Bad("POST", REFUND, "{}", 422, missing, "reason"),
            Bad("POST", "/batch", "{}", 422, missing, "operations"),
        ]
    )


def test_idempotency_keys(world: World) -> None:
    """Missing, malformed, or used before with another body or at another endpoint."""
    header = "Idempotency-Key"
    bill, reason = _json(**_BILL), _json(reason="x")
    calls = [
        ("POST", "/bill", bill),
        ("POST", "/holds", bill),
        ("POST", "/topup", bill),
        ("POST", REFUND, reason),
        ("PATCH", "/accounts/ann", _json(status="frozen")),
    ]
    requests = [
        Bad(method, path, content, 422, "idempotency_key_reused", header, "used")
        for method, path, content in calls
    ]
    requests += [
        Bad(method, path, content, 422, "invalid_value", header, key)
        for method, path, content in calls
        for key in ("with space", "x" * 256, "tab\tin", "caf\xe9")
    ]
    requests += [
        Bad(method, path, content, 400, "idempotency_key_required", header, "")
        for method, path, content in calls[1:4]
    ]
    world.refuse(requests)


def test_what_the_state_of_things_does_not_allow(world: World) -> None:
    bill = {name: _json(user_id=name, amount="1") for name in ("frozen", "closed", "nobody")}
    capture = _json(user_id="ann", amount="1", hold_id="{ended}")
    foreign = _json(user_id="frozen", amount="1", hold_id="{hold}")
    reason, open_it = _json(reason="x"), _json(status="open")
    above = _json(reason="x", amount="1.500000001")
    too_much = _json(user_id="ann", amount="9223372036")
    paths = ("/bill", "/holds")
    world.refuse(
        [
            Bad("POST", "/bill", bill["nobody"], 402, "insufficient_credit", key=""),
            *(Bad("POST", path, bill["frozen"], 403, "account_frozen") for path in paths),
            *(Bad("POST", path, bill["closed"], 409, "account_closed") for path in paths),
            Bad("POST", "/topup", bill["closed"], 409, "account_closed"),
            Bad("PATCH", "/accounts/closed", open_it, 409, "account_closed"),
            Bad("PATCH", "/accounts/nobody", open_it, 404, "account_not_found"),
            Bad("PATCH", "/accounts/no%00one", open_it, 404, "account_not_found"),
            Bad("PATCH", "/accounts/ann", _json(status="closed"), 409, "account_has_holds"),
            Bad("PATCH", "/accounts/frozen", _json(status="closed"), 409, "account_not_empty"),
            Bad("POST", "/bill", capture, 409, "hold_ended"),
            Bad("POST", "/bill", foreign, 404, "hold_not_found"),
            Bad("POST", "/bill", _json(**_BILL, hold_id=SQL), 404, "hold_not_found"),
            Bad("PATCH", "/holds/{ended}", _json(amount="2"), 409, "hold_ended"),
            Bad("PATCH", "/holds/{hold}", _json(amount="100"), 402, "insufficient_credit"),
            Bad("PATCH", "/holds/unknown", "{}", 404, "hold_not_found"),
            Bad("PATCH", f"/holds/{SQL}", "{}", 404, "hold_not_found"),
            Bad("DELETE", "/holds/no%00ne", "", 404, "hold_not_found"),
            Bad("POST", REFUND, above, 422, "invalid_value", "amount"),
            Bad("POST", "/transactions/{spent}/refund", reason, 409, "already_refunded"),
            Bad("POST", "/transactions/{topup}/refund", reason, 409, "not_refundable"),
            Bad("POST", "/transactions/{hold}/refund", reason, 404, "transaction_not_found"),
            Bad("POST", f"/transactions/{SQL}/refund", reason, 404, "transaction_not_found"),
            Bad("POST", "/transactions/no%00ne/refund", reason, 404, "transaction_not_found"),
            Bad("POST", "/topup", too_much, 422, "invalid_value", "amount"),
        ]
    )


_MOMENTS = ("x", "2026-01-01", "2026-01-01T00:00:00", "-1", "99999-01-01T00:00:00Z", SQL)
_QUERIES: tuple[tuple[str, str, tuple[str, ...]], ...] = (
    ("/accounts/ann", "at", _MOMENTS),
    ("/accounts/ann/statement", "from", _MOMENTS),
    ("/accounts/ann/statement", "to", _MOMENTS),
    ("/accounts/ann/statement", "format", ("xml", "", SQL)),
    ("/accounts/ann/transactions", "order", ("random", "", SQL)),
    ("/accounts/ann/transactions", "kind", ("theft", "", SQL)),
    ("/accounts/ann/holds", "status", ("captured", "", SQL)),
)
_PAGED = (
    "/accounts",
    *(f"/accounts/ann/{part}" for part in ("transactions", "holds", "statement")),
)


def _queries() -> Iterator[Bad]:
    for path, name, values in _QUERIES:
        for value in values:
            yield Bad("GET", f"{path}?{name}={value}", "", 422, "invalid_value", name)
    backwards = "from=2002-01-01T00:00:00Z&to=2001-01-01T00:00:00Z"
    yield Bad("GET", f"/accounts/ann/statement?{backwards}", "", 422, "invalid_value", "from")
    for path in _PAGED:
        for value in ("0", "-1", "501", "x", "1.5", "", "9" * 100, SQL):
            yield Bad("GET", f"{path}?limit={value}", "", 422, "invalid_value", "limit")
        for value in ("", "!!", "%20", "-1", "AA==", SQL):
            yield Bad("GET", f"{path}?cursor={value}", "", 422, "invalid_value", "cursor")
    for path in ("", "/transactions", "/holds", "/statement", "?at=2030-01-01T00:00:00Z"):
        for name in ("nobody", "no%00one"):
            yield Bad("GET", f"/accounts/{name}{path}", "", 404, "account_not_found")
    for name in ("nobody", "no%00one", ""):
        yield Bad("GET", f"/integrity?user_id={name}", "", 404, "account_not_found")
    many = "&".join(["user_id=ann"] * 101)
    yield Bad("GET", f"/integrity?{many}", "", 422, "invalid_value", "user_id")
    for name in ("unknown", "no%00ne", SQL):
        yield Bad("GET", f"/holds/{name}", "", 404, "hold_not_found")
        yield Bad("GET", f"/transactions/{name}", "", 404, "transaction_not_found")


def test_queries(world: World) -> None:
    assert world.refuse(_queries()) > 100


def test_sql_in_a_name_is_a_name(world: World) -> None:
    account = world.client.call("GET", f"/accounts/{SQL}").json()
    assert (account["user_id"], account["balance"]) == (SQL, "5")


def test_a_service_key_does_not_do_what_an_admin_may(world: World) -> None:
    before = world.figures()
    call = world.client.call
    for method, path, body in (
        ("POST", "/topup", _BILL),
        ("POST", f"/transactions/{world.ids['charge']}/refund", {"reason": "x"}),
        ("PATCH", "/accounts/ann", {"status": "frozen"}),
        ("GET", "/integrity", None),
    ):
        response = call(method, path, body, key="k", api_key=SERVICE_KEY)
        assert_problem(response, 403, "permission_denied")
    items = [{"op": "topup", "body": _BILL, "idempotency_key": "k"}]
    items += [
        {
            "op": "refund",
            "transaction_id": world.ids["charge"],
            "body": {"reason": "x"},
            "idempotency_key": "k",
        }
    ]
    results = call("POST", "/batch", {"operations": items}).json()["results"]
    assert [result["status"] for result in results] == [403, 403]
    assert world.figures() == before
