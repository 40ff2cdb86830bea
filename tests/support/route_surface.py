"""One of the two services, to send requests to as bytes and to judge its refusals."""

import json
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fastapi import FastAPI

from ai_proxy_service import main as proxy_main
from ai_proxy_service.settings import ProxySettings
from credits_service import main as credits_main
from credits_service.settings import CreditsSettings
from support.every_route import Need, Operation, Service, table_of
from support.raw_http import RawAnswer, RawClient, RawRequest, raw_client
from support.route_callers import Caller, lesser_callers, refused_callers, scope_callers
from support.route_world import World, make_world
from support.stack import (
    ADMIN_KEY,
    CLIENT_KEY,
    GEMINI_KEY,
    SERVICE_KEY,
    Stack,
    ledger_env,
    proxy_env,
)

REQUEST_ID = "every-route"
_INTERNALS = (
    *("Traceback", "sqlite", "asyncpg", "SELECT ", "INSERT ", ".py", "site-packages", "uvicorn"),
    *("fastapi", "starlette", "pydantic", "msgspec", "Exception"),
    *(CLIENT_KEY, SERVICE_KEY, ADMIN_KEY, GEMINI_KEY),
)
_MEMBERS = {
    "proxy": {"message", "type", "param", "code"},
    "credits": {"type", "title", "status", "detail", "code", "request_id"},
}
_TYPES = {"proxy": "application/json", "credits": "application/problem+json"}


@dataclass(frozen=True)
class Surface:
    """A running service.

    Attributes:
        stack: the system that it is a part of.
        table: all its routes, and whom they are for.
        world: what they are asked about.
        settings: its own.
        refused: callers whom it does not know.
        lesser: for each need of a route, callers whose keys are good, but not for it.
        scoped: at the proxy, who has an issued key of one scope, by the scope.
    """

    service: Service
    stack: Stack
    table: list[Operation]
    world: World
    client: RawClient
    settings: ProxySettings | CreditsSettings
    refused: list[Caller]
    lesser: Mapping[Need, list[Caller]]
    scoped: Mapping[str, Caller]

    @property
    def public_paths(self) -> set[str]:
        """The paths that nobody needs a key for."""
        return {each.path for each in self.table if each.reviewed.need == "public"}

    def send(
        self,
        operation: Operation,
        caller: Caller,
        *,
        method: str | None = None,
        target: str | None = None,
        world: World | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> RawAnswer:
        """Send a request that the operation would serve, changed as the arguments say."""
        known = world or self.world
        written = operation.url(known, caller.query) if target is None else target
        body = b""
        if operation.method in {"POST", "PUT", "PATCH"}:
            make = operation.reviewed.body
            body = json.dumps(make(known) if make else {}).encode()
        fixed = {
            "content-type": "application/json",
            "x-request-id": REQUEST_ID,
            **({"idempotency-key": uuid.uuid4().hex} if self.service == "credits" else {}),
        }
        return self.client.send(
            RawRequest(
                method or operation.method,
                written.encode("latin-1"),
                {**fixed, **caller.headers, **(headers or {})},
                body,
            )
        )

    def faults_of_public(self, answer: RawAnswer, method: str, path: str) -> list[str]:
        """Return what is wrong with an answer at a public path, whoever asks."""
        if any(each.matches(method, path) for each in self.table):
            return [] if answer.served else [f"{answer.status}, although it is public"]
        return self.faults_of(answer, 405, method=method)

    def faults_of(self, answer: RawAnswer, *statuses: int, method: str = "GET") -> list[str]:
        """Return what is wrong with a refusal: its status, its form, its headers, its text."""
        faults = []
        if answer.status not in statuses:
            faults.append(f"{answer.status} instead of {' or '.join(map(str, statuses))}")
        if not answer.headers.get("x-request-id"):
            faults.append("no request id")
        if (answer.status == 401) != (answer.headers.get("www-authenticate") == "Bearer"):
            faults.append("WWW-Authenticate is to be with each 401 and with no other")
        if (answer.status == 405) != bool(answer.headers.get("allow")):
            faults.append("Allow is to be with each 405 and with no other")
        if method == "HEAD":
            return [*faults, *(["a body"] if answer.body else [])]
        if answer.headers.get("content-type") != _TYPES[self.service]:
            return [*faults, f"it is {answer.headers.get('content-type')}: {answer.body[:200]!r}"]
        written = answer.json()
        error = written.get("error") if self.service == "proxy" else written
        if not isinstance(error, dict) or not _MEMBERS[self.service] <= set(error):
            faults.append(f"not the surface's form: {answer.body[:200]!r}")
        text = f"{answer.headers} {answer.body.decode()}"
        return [*faults, *(f"tells of {word}" for word in _INTERNALS if word in text)]


def app_and_settings(
    service: Service, stack: Stack, folder: Path | None = None, **more: Any
) -> tuple[FastAPI, ProxySettings | CreditsSettings]:
    """Compose an app from the settings of the stack's process.

    Args:
        service: which of the two.
        stack: the system.
        folder: where it keeps its data, if it is to run; the ledger's as well.
        more: further settings.
    """
    if service == "credits":
        url = stack.ledger_url if folder is None else _ledger_in(folder)
        ledger = CreditsSettings(**_lower(ledger_env(url, folder or stack.folder)), **more)
        return credits_main.create_app(ledger), ledger
    urls = {"simulator": stack.simulator.url, "ledger": stack.ledger.url}
    proxy = ProxySettings(**_lower(proxy_env(urls, folder or stack.folder)), **more)
    return proxy_main.create_app(proxy), proxy


def _lower(env: Mapping[str, str]) -> dict[str, Any]:
    return {"_env_file": None, **{name.lower(): value for name, value in env.items()}}


def _ledger_in(folder: Path) -> str:
    return f"sqlite+aiosqlite:///{folder / 'ledger.sqlite3'}"


@contextmanager
def running_surface(service: Service, stack: Stack) -> Iterator[Surface]:
    """Yield one service of a running system, with its table and a world of its own."""
    app, settings = app_and_settings(service, stack)
    url = stack.proxy.url if service == "proxy" else stack.ledger.url
    table, world = table_of(app, service), make_world(stack)
    with raw_client(url) as client:
        yield Surface(
            service=service,
            stack=stack,
            table=table,
            world=world,
            client=client,
            settings=settings,
            refused=refused_callers(stack, service, world),
            lesser=lesser_callers(stack, service, world),
            scoped=scope_callers(stack, world) if service == "proxy" else {},
        )
