"""Every route of both services: who may call it, and that no way of writing it opens it.

The table is made of the apps' own routes (support/every_route.py, test_route_review.py);
requests go as bytes over sockets to the running processes.
"""

from collections.abc import Iterator
from itertools import product
from pathlib import Path

import pytest

from service_kit.settings import DEFAULT_EXEMPT_PATHS
from support.every_route import Operation, Service, table_of
from support.live_server import live_server
from support.path_tricks import OTHER_METHODS, TRICKS, overruling_headers, path_of, tricked
from support.raw_http import RawRequest, raw_client
from support.route_callers import (
    NOBODY,
    Caller,
    bearer,
    right_key,
)
from support.route_surface import Surface, app_and_settings, running_surface
from support.route_world import make_world, state_of
from support.stack import Stack

SERVICES: tuple[Service, ...] = ("proxy", "credits")
METHODS = (
    *("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"),
    *("TRACE", "PROPFIND", "PURGE", "SEARCH", "LINK", "MKCOL"),
)
NO_SUCH_PATHS = ("/", "/v1", "/api/v1", "/v1/nothing", "/api/v1/nothing", "/redoc", "/.env")
ORIGIN = "https://app.company.com"
HEALTH = {
    "proxy": b'{"status":"ok","service":"ai-proxy-service"}',
    "credits": b'{"status":"ok","service":"credits-service"}',
}
WRONG = bearer("a wrong key", "sk-wrong-5d1f7a9c3b2e8460")


@pytest.fixture(scope="module", params=SERVICES)
def surface(request: pytest.FixtureRequest, stack: Stack) -> Iterator[Surface]:
    """Each of the two services."""
    with running_surface(request.param, stack) as surface:
        yield surface


@pytest.fixture(scope="module")
def proxy(stack: Stack) -> Iterator[Surface]:
    """The proxy alone."""
    with running_surface("proxy", stack) as surface:
        yield surface


@pytest.fixture
def untouched(surface: Surface) -> Iterator[Surface]:
    """The same; in the end nothing may have come of what was sent, here or at Gemini."""
    before = state_of(surface.stack, surface.world)
    surface.stack.forget_upstream()
    yield surface
    assert state_of(surface.stack, surface.world) == before
    asked = surface.stack.wait_for_upstream()
    assert [each for each in asked if each["method"] != "GET"] == []


def told(who: Caller, operation: Operation, how: str, faults: list[str]) -> list[str]:
    """Return the faults, each with what was sent."""
    return [f"{operation.method} {operation.path}, {how}, {who.name}: {fault}" for fault in faults]


def is_no_http(target: str) -> bool:
    """Whether a request target has none of the forms that a request of a server may have."""
    return not target.startswith(("/", "http://", "HTTPS://"))


def test_the_public_paths_are_those_that_the_settings_exempt(surface: Surface) -> None:
    assert surface.public_paths == set(surface.settings.auth_exempt_paths)


def test_without_an_accepted_key_all_are_told_the_same_401(untouched: Surface) -> None:
    surface, faults = untouched, []
    bodies: set[bytes] = set()
    for who, each in product(surface.refused, surface.table):
        answer = surface.send(each, who)
        if each.reviewed.need == "public":
            found = surface.faults_of_public(answer, each.method, each.path)
        else:
            found = surface.faults_of(answer, 401, method=each.method)
            bodies |= {answer.body} - {b""}
        faults += told(who, each, "as it is", found)

    assert not faults, "\n".join(faults)
    [body] = bodies
    assert b"invalid_api_key" in body


def test_no_spelling_opens_a_path_or_tells_that_it_is_there(untouched: Surface) -> None:
    surface, faults = untouched, []
    for who, each, (name, trick) in product((NOBODY, WRONG), surface.table, TRICKS.items()):
        target = tricked(trick, each.filled(surface.world), surface.client.host)
        answer = surface.send(each, who, target=target)
        if path_of(target) in surface.public_paths:
            found = surface.faults_of_public(answer, each.method, path_of(target))
        else:
            expected = (400, 401) if is_no_http(target) else (401,)
            found = surface.faults_of(answer, *expected, method=each.method)
        faults += told(who, each, f"{name} {target!r}", found)

    assert not faults, "\n".join(faults)


def test_no_header_overrules_the_request_line(untouched: Surface) -> None:
    surface, faults = untouched, []
    for each in surface.table:
        path = each.filled(surface.world)
        for headers in overruling_headers(each.method, path):
            found = surface.faults_of(
                surface.send(each, NOBODY, headers=headers), 401, method=each.method
            )
            is_public = each.reviewed.need == "public"
            faults += [] if is_public else told(NOBODY, each, f"{headers}", found)
            shown = surface.send(each, NOBODY, method="GET", target="/health", headers=headers)
            if shown.body != HEALTH[surface.service]:
                faults += told(NOBODY, each, f"{headers} at /health", [f"{shown.body[:99]!r}"])
        for headers in overruling_headers("GET", "/health"):
            answer = surface.send(each, WRONG, headers=headers)
            if each.reviewed.need != "public":
                found = surface.faults_of(answer, 401, method=each.method)
                faults += told(WRONG, each, f"{headers}", found)

    assert not faults, "\n".join(faults)


def test_other_methods_do_nothing_and_need_a_key_to_be_told_so(untouched: Surface) -> None:
    surface, faults = untouched, []
    known = bearer("the highest key", right_key(surface.service, "admin"))
    for each, method in product(surface.table, METHODS):
        path = each.filled(surface.world)
        if any(other.matches(method, path) for other in surface.table):
            continue
        is_public = each.reviewed.need == "public"
        for who, status in ((NOBODY, 405 if is_public else 401), (known, 405)):
            answer = surface.send(each, who, method=method)
            found = surface.faults_of(answer, status, method=method)
            faults += told(who, each, f"as {method}", found)

    assert not faults, "\n".join(faults)


@pytest.mark.parametrize("method", ["BREW", "get", "CONNECT", "PRI", "M-SEARCHES"])
def test_what_is_no_method_reaches_nothing(untouched: Surface, method: str) -> None:
    surface = untouched
    known = bearer("the highest key", right_key(surface.service, "admin"))
    for each, who in product(surface.table, (NOBODY, known)):
        answer = surface.send(each, who, method=method)
        assert answer.status in {400, 401, 405, 501}, (each.path, method, answer)


def test_a_method_in_a_header_does_not_make_a_read_a_change(untouched: Surface) -> None:
    surface = untouched
    known = bearer("the highest key", right_key(surface.service, "admin"))
    for each in surface.table:
        if each.method != "GET":
            continue
        plain = surface.send(each, known)
        for method, name in product(("DELETE", "POST", "PATCH"), OTHER_METHODS):
            answer = surface.send(each, known, headers={name: method})
            assert answer.status == plain.status, (each.path, name, method)


def test_a_key_for_other_things_is_refused(untouched: Surface) -> None:
    surface, faults, count = untouched, [], 0
    for each in surface.table:
        for who in surface.lesser.get(each.reviewed.need, []):
            found = surface.faults_of(surface.send(each, who), 403, method=each.method)
            faults += told(who, each, "as it is", found)
            count += 1
            path = each.filled(surface.world)
            for name, trick in TRICKS.items():
                target = tricked(trick, path, surface.client.host)
                answer = surface.send(each, who, target=target)
                expected = (400, 403, 404, 405)
                found = surface.faults_of(answer, *expected, method=each.method)
                faults += told(who, each, f"{name} {target!r}", found)
            for headers in overruling_headers("GET", "/health"):
                found = surface.faults_of(surface.send(each, who, headers=headers), 403)
                faults += told(who, each, f"{headers}", found)

    assert not faults, "\n".join(faults)
    assert count >= 10


def test_each_scope_opens_its_own_routes_and_no_others(proxy: Surface) -> None:
    faults = []
    for each, (scope, who) in product(proxy.table, proxy.scoped.items()):
        need = each.reviewed.need
        answer = proxy.send(each, who)
        if need in {"public", "any key", scope} or scope == "admin":
            faults += told(who, each, "", [] if answer.served else [f"{answer}"])
        else:
            faults += told(who, each, "", proxy.faults_of(answer, 403, method=each.method))

    assert not faults, "\n".join(faults)


def test_with_the_right_key_every_route_is_served(surface: Surface) -> None:
    """So that it is the key for which the others were refused, and nothing else."""
    faults = []
    for each in surface.table:
        who = bearer("the right key", right_key(surface.service, each.reviewed.need))
        changes = each.method not in {"GET", "HEAD"} and surface.service == "credits"
        world = make_world(surface.stack, with_answer=False) if changes else surface.world
        answer = surface.send(each, who, world=world)
        if answer.status != each.reviewed.done:
            faults += told(who, each, "as it is", [f"{answer.status} {answer.body[:200]!r}"])

    assert not faults, "\n".join(faults)


def test_with_a_key_odd_spellings_are_answered_in_form(untouched: Surface) -> None:
    """By a read of another thing, or by an error: never by a redirection or a fault of ours."""
    surface, faults = untouched, []
    for each, (name, trick) in product(surface.table, TRICKS.items()):
        if each.method != "GET":
            continue
        who = bearer("the right key", right_key(surface.service, each.reviewed.need))
        target = tricked(trick, each.filled(surface.world), surface.client.host)
        answer = surface.send(each, who, target=target)
        if not answer.served:
            found = surface.faults_of(answer, 400, 404, 405, 422, method=each.method)
            faults += told(who, each, f"{name} {target!r}", found)

    assert not faults, "\n".join(faults)


def test_what_is_not_there_is_told_to_accepted_keys_only(surface: Surface) -> None:
    known = bearer("the highest key", right_key(surface.service, "admin"))
    anything = surface.table[0]
    for target, method in product(NO_SUCH_PATHS, METHODS):
        for who, status in ((NOBODY, 401), (WRONG, 401), (known, 404)):
            answer = surface.send(anything, who, method=method, target=target)
            faults = surface.faults_of(answer, status, method=method)
            assert not faults, (target, method, who.name, faults)


@pytest.mark.parametrize("service", SERVICES)
def test_a_browsers_preflight_tells_the_same_of_every_path(
    stack: Stack, service: Service, tmp_path: Path
) -> None:
    """It carries no key, so it must not tell which routes there are."""
    app, _ = app_and_settings(service, stack, tmp_path, cors_allowed_origins=(ORIGIN,))
    preflight = {"origin": ORIGIN, "access-control-request-method": "POST"}
    paths = [each.path for each in table_of(app, service)] + list(NO_SUCH_PATHS)
    with live_server(app) as url, raw_client(url) as client:

        def ask(path: str, headers: dict[str, str]) -> tuple[int, bytes, dict[str, str]]:
            answer = client.send(RawRequest("OPTIONS", path.encode(), headers))
            own = {"date", "x-request-id"}
            kept = {name: text for name, text in answer.headers.items() if name not in own}
            return answer.status, answer.body, kept

        allowed = [ask(path, preflight) for path in paths]
        foreign = [ask(path, {**preflight, "origin": "https://evil.example"}) for path in paths]
        plain = [
            ask(path, {"origin": ORIGIN})[0] for path in paths if path not in DEFAULT_EXEMPT_PATHS
        ]

    assert all(each == allowed[0] for each in allowed)
    assert allowed[0][0] == 200
    assert all(each == foreign[0] for each in foreign)
    assert foreign[0][0] == 400
    assert "access-control-allow-origin" not in foreign[0][2]
    assert set(plain) == {401}
