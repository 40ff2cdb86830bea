"""Every route of both services, taken from the apps, and who may call each, as reviewed.

A route that the apps have and the review has not makes `table_of` fail: whoever adds one says
here whom it is for.
"""

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from fastapi import FastAPI
from fastapi.routing import iter_route_contexts
from starlette.routing import BaseRoute, Mount, compile_path

from support.key_holders import CHAT
from support.route_world import World
from support.stack import MODEL

Service = Literal["proxy", "credits"]
# public: nobody shows a key. any key: whatever key is accepted. Then the scopes of issued keys at
# the proxy; at the credits service its two kinds of configured keys.
Need = Literal[
    "public", "any key", "chat", "embeddings", "models", "billing", "service", "admin"
]  # fmt: skip
BodyOf = Callable[[World], Any]


@dataclass(frozen=True, slots=True)
class Reviewed:
    """Whom a route is for.

    Attributes:
        need: what a caller's key must be.
        body: makes one that the route would serve.
        done: status of its answer to who may call it.
        query: what it needs in its URL, with parameters as in a path.
    """

    need: Need
    body: BodyOf | None = None
    done: int = 200
    query: str = ""


@dataclass(frozen=True, slots=True)
class Operation:
    """A method of a route.

    Attributes:
        path: with its parameters, as the app has it.
        reviewed: whom it is for.
    """

    method: str
    path: str
    reviewed: Reviewed

    def filled(self, world: World) -> str:
        """Return the path to something that is there."""
        return _filled(self.path, world)

    def url(self, world: World, further_query: str = "") -> str:
        """Return the path to something that is there, and the query."""
        query = "&".join(filter(None, (_filled(self.reviewed.query, world), further_query)))
        return f"{self.filled(world)}?{query}" if query else self.filled(world)

    def matches(self, method: str, path: str) -> bool:
        """Whether the app's router would take a request for this one."""
        return method == self.method and compile_path(self.path)[0].match(path) is not None


def _filled(template: str, world: World) -> str:
    return re.sub(r"{(\w+)(?::\w+)?}", lambda found: world.value(found[1]), template)


_PUBLIC = Reviewed("public")
_ANY = Reviewed("any key")
_READ = Reviewed("service")
_ADMIN_READ = Reviewed("admin")
# FastAPI's own: /docs sends the browser to the last of them only if OAuth were used.
_DOCUMENTS = {
    ("GET", "/openapi.json"): _PUBLIC,
    ("GET", "/docs"): _PUBLIC,
    ("GET", "/docs/oauth2-redirect"): _ANY,
}
_OPERATIONS = {
    ("GET", "/health"): _PUBLIC,
    ("GET", "/ready"): _PUBLIC,
    ("GET", "/metrics"): _PUBLIC,
}
_CHAT = Reviewed("chat", lambda world: {**CHAT, "user": world.account})
# Each with and without /v1.
_PROXY: Mapping[tuple[str, str], Reviewed] = {
    ("POST", "/chat/completions"): _CHAT,
    ("POST", "/completions"): Reviewed(
        "chat", lambda world: {"model": MODEL, "prompt": "hi", "user": world.account}
    ),
    ("POST", "/quote"): _CHAT,
    ("POST", "/embeddings"): Reviewed(
        "embeddings",
        lambda world: {"model": "gemini-embedding-001", "input": "hi", "user": world.account},
    ),
    ("GET", "/models"): Reviewed("models"),
    ("GET", "/models/{model:path}"): Reviewed("models"),
    ("GET", "/receipts/{receipt_id}"): Reviewed("billing"),
    ("GET", "/credits"): Reviewed("billing", query="user={user_id}"),
}
_LEDGER: Mapping[tuple[str, str], Reviewed] = {
    ("GET", "/health"): _ANY,
    ("GET", "/ready"): _ANY,
    ("GET", "/metrics"): _ANY,
    ("POST", "/bill"): Reviewed(
        "service",
        lambda world: {"user_id": world.account, "amount": "0.01", "description": "x"},
    ),
    ("POST", "/holds"): Reviewed(
        "service", lambda world: {"user_id": world.account, "amount": "0.01"}, 201
    ),
    ("GET", "/holds/{hold_id}"): _READ,
    ("PATCH", "/holds/{hold_id}"): Reviewed("service", lambda _world: {"amount": "0.02"}),
    ("DELETE", "/holds/{hold_id}"): Reviewed("service"),
    ("POST", "/topup"): Reviewed(
        "admin", lambda world: {"user_id": world.account, "amount": "1"}, 201
    ),
    ("POST", "/transactions/{transaction_id}/refund"): Reviewed(
        "admin", lambda _world: {"reason": "a test"}, 201
    ),
    # What a key may do in it is checked item by item.
    ("POST", "/batch"): Reviewed(
        "service",
        lambda world: {
            "operations": [
                {
                    "op": "bill",
                    "body": {"user_id": world.account, "amount": "0.01", "description": "x"},
                }
            ]
        },
    ),
    ("GET", "/transactions/{transaction_id}"): _READ,
    ("GET", "/accounts"): _READ,
    ("GET", "/accounts/{user_id:path}"): _READ,
    ("GET", "/accounts/{user_id:path}/transactions"): _READ,
    ("GET", "/accounts/{user_id:path}/statement"): _READ,
    ("GET", "/accounts/{user_id:path}/holds"): _READ,
    ("PATCH", "/accounts/{user_id:path}"): Reviewed(
        "admin", lambda _world: {"limits": {"total": "1000"}}
    ),
    ("GET", "/integrity"): _ADMIN_READ,
    ("POST", "/keys/verify"): Reviewed("service", lambda world: {"key": world.key}),
    ("POST", "/keys/refusals"): Reviewed(
        "service",
        lambda world: {"refusals": [{"key_id": world.key_id, "reason": "rpm", "count": 1}]},
    ),
    ("GET", "/keys"): _ADMIN_READ,
    ("POST", "/keys"): Reviewed(
        "admin", lambda world: {"account": world.account, "name": "another"}, 201
    ),
    ("GET", "/keys/{key_id}"): _ADMIN_READ,
    ("GET", "/keys/{key_id}/events"): _ADMIN_READ,
    ("PATCH", "/keys/{key_id}"): Reviewed("admin", lambda _world: {"name": "renamed"}),
    ("POST", "/keys/{key_id}/rotate"): Reviewed("admin", lambda _world: {"grace_seconds": 60}),
    ("DELETE", "/keys/{key_id}"): Reviewed("admin"),
}
REVIEWED: Mapping[Service, Mapping[tuple[str, str], Reviewed]] = {
    "proxy": {
        **_DOCUMENTS,
        **_OPERATIONS,
        **_PROXY,
        **{(method, f"/v1{path}"): reviewed for (method, path), reviewed in _PROXY.items()},
    },
    "credits": {
        **_DOCUMENTS,
        **_OPERATIONS,
        **{(method, f"/api/v1{path}"): reviewed for (method, path), reviewed in _LEDGER.items()},
    },
}


def table_of(app: FastAPI, service: Service) -> list[Operation]:
    """Return all that an app serves, with whom each is for.

    Raises:
        AssertionError: the app and the review differ; the text says what to declare.
    """
    reviewed = REVIEWED[service]
    served = sorted(set(_served(app.routes)))
    # What Starlette adds to a GET.
    known = {
        **reviewed,
        **{("HEAD", path): it for (method, path), it in reviewed.items() if method == "GET"},
    }
    undeclared = [
        f'{method} {path} of {service} is new: declare ("{method}", "{path}"): Reviewed(…) in '
        f"tests/support/every_route.py, with whom it is for"
        for method, path in served
        if (method, path) not in known
    ]
    gone = [
        f"{method} {path} of {service} is no longer there: take it out of "
        "tests/support/every_route.py"
        for method, path in reviewed
        if (method, path) not in served
    ]
    assert not undeclared + gone, "\n".join(undeclared + gone)
    return [Operation(method, path, known[method, path]) for method, path in served]


def _served(routes: Sequence[BaseRoute], prefix: str = "") -> Iterator[tuple[str, str]]:
    for route in iter_route_contexts(routes):
        original = route.original_route
        if isinstance(original, Mount):
            if original.routes:
                yield from _served(original.routes, prefix + original.path)
            else:
                yield "GET", f"{prefix}{original.path}/{{path:path}}"
        elif route.methods and route.path is not None:
            yield from ((method, prefix + route.path) for method in route.methods)
        else:
            # A websocket, for example: what it is has to be thought of before it is tested.
            yield type(original).__name__, prefix + (route.path or "")
