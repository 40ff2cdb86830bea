"""Who calls a route: with no key, a key that is not accepted, or one that is for other things."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from support.every_route import Need, Service
from support.issued_keys import some_key
from support.key_holders import admin, issue
from support.route_world import World
from support.stack import ADMIN_KEY, CLIENT_KEY, GEMINI_KEY, SERVICE_KEY, Stack

SCOPES: tuple[Need, ...] = ("chat", "embeddings", "models", "billing")
_PAST = "2020-01-01T00:00:00Z"


@dataclass(frozen=True, slots=True)
class Caller:
    """Somebody with or without a key.

    Attributes:
        query: what he adds to a URL.
    """

    name: str
    headers: Mapping[str, str] = field(default_factory=dict)
    query: str = ""


NOBODY = Caller("no key")


def bearer(name: str, key: str) -> Caller:
    """Return who shows a key as it should be shown."""
    return Caller(name, {"authorization": f"Bearer {key}"})


def right_key(service: Service, need: Need) -> str:
    """Return a configured key with which a route may be called."""
    if service == "proxy":
        return CLIENT_KEY
    return ADMIN_KEY if need == "admin" else SERVICE_KEY


def refused_callers(stack: Stack, service: Service, world: World) -> list[Caller]:
    """Return whom a service does not know: all of them are told the same."""
    right = right_key(service, "admin")
    wrong = "sk-wrong-5d1f7a9c3b2e8460"
    # The proxy takes these two headers as well.
    elsewhere = ("x-goog-api-key", "cookie", "proxy-authorization") + (
        () if service == "proxy" else ("api-key", "x-api-key")
    )
    others = {
        "the proxy's": SERVICE_KEY if service == "proxy" else CLIENT_KEY,
        "the operator's at the ledger": ADMIN_KEY if service == "proxy" else f"{SERVICE_KEY}x",
        "Google's": GEMINI_KEY,
    }
    return [
        NOBODY,
        *(
            Caller(f"authorization: {shown!r}", {"authorization": shown})
            for shown in ("", "Bearer", "Bearer ", right, f"Basic {right}", f"Bearer{right}")
        ),
        *(
            bearer(f"Bearer {shown}", shown)
            for shown in (wrong, f"{right}x", right[:-1], right.upper(), f"{right},{right}")
        ),
        *(Caller(f"the right one in {name}", {name: right}) for name in elsewhere),
        Caller("a wrong one in api-key", {"api-key": wrong}),
        Caller("the right one in the query", query=f"api_key={right}&key={right}"),
        *(bearer(f"{whose} key", key) for whose, key in others.items()),
        *(bearer(f"issued, {how}", key) for how, key in _bad_issued(stack, world).items()),
        *([] if service == "proxy" else [bearer("issued", _scoped(stack, world, ["admin"]))]),
    ]


def scope_callers(stack: Stack, world: World) -> dict[str, Caller]:
    """Return who has an issued key of each scope, by the scope."""
    return {
        scope: bearer(f"a key for {scope}", _scoped(stack, world, [scope]))
        for scope in (*SCOPES, "admin")
    }


def lesser_callers(stack: Stack, service: Service, world: World) -> dict[Need, list[Caller]]:
    """Return, for each need, whose keys are good but not for it.

    At the proxy that is an issued key with all scopes but the one: a key of another scope alone
    can do no more.
    """
    if service == "credits":
        return {"admin": [bearer("a service key", SERVICE_KEY)]}
    return {
        scope: [
            bearer(
                f"a key for all but {scope}",
                _scoped(stack, world, [other for other in SCOPES if other != scope]),
            )
        ]
        for scope in SCOPES
    }


def _scoped(stack: Stack, world: World, scopes: Sequence[str]) -> str:
    key: str = issue(stack, world.account, name="-".join(scopes), scopes=scopes)["key"]
    return key


def _bad_issued(stack: Stack, world: World) -> dict[str, str]:
    issued = {
        how: issue(stack, world.account, name=how, scopes=["admin"])
        for how in ("expired", "revoked", "disabled", "rotated")
    }
    paths = {how: f"/keys/{key['key_id']}" for how, key in issued.items()}
    admin(stack, "PATCH", paths["expired"], {"expires_at": _PAST})
    admin(stack, "DELETE", paths["revoked"])
    admin(stack, "PATCH", paths["disabled"], {"disabled": True})
    admin(stack, "POST", f"{paths['rotated']}/rotate", {"grace_seconds": 0})
    keys = {how: str(key["key"]) for how, key in issued.items()}
    return {**keys, "unknown": some_key(), "mistyped": f"{some_key()[:-1]}-"}
