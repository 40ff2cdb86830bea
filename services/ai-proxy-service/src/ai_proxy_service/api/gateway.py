"""What the routes work with, made once by the app's lifespan."""

from collections.abc import Mapping
from dataclasses import dataclass

from starlette.requests import Request
from starlette.types import Scope

from ai_proxy_service.core.answering import Answers
from ai_proxy_service.core.interfaces import CallMemory, GeminiClient, MediaFetcher
from ai_proxy_service.core.issued_keys import IssuedKey
from ai_proxy_service.core.key_limits import UNLIMITED_USE, KeyUse
from ai_proxy_service.core.key_refusals import KeyRefusals, RefusedUse
from ai_proxy_service.core.metrics import ProxyMetrics
from ai_proxy_service.core.price_book import PriceBook
from ai_proxy_service.core.quoting import Quoter
from ai_proxy_service.core.recording import Recording
from ai_proxy_service.core.relay import Relay
from ai_proxy_service.core.usage_log import Receipts
from ai_proxy_service.translation.google_options import Threshold
from service_kit.keys import Principal
from service_kit.request_id import current_request_id

ANONYMOUS = Principal("anonymous")


@dataclass(frozen=True, slots=True)
class Gateway:
    """The proxy's working parts.

    Attributes:
        aliases: other names of models.
        prices: models that can be served, with the prices of now.
        gemini: Gemini itself, for what costs nothing.
        relay: the one way to a completion.
        answers: those under idempotency keys.
        quoter: tells what one would cost.
        receipts: tells what one has cost.
        metrics: what is counted.
        refusals: refused uses of issued keys, for the keys' records.
        calls: what Gemini wants to see again with its calls.
        media: fetches files that messages name by URL.
        safety_threshold: the operator's safety filter, where a request has none.
        usage_always: streams tell their usage also where it was not asked for.
    """

    aliases: Mapping[str, str]
    prices: PriceBook
    gemini: GeminiClient
    relay: Relay
    answers: Answers
    quoter: Quoter
    receipts: Receipts
    metrics: ProxyMetrics
    refusals: KeyRefusals
    calls: CallMemory
    media: MediaFetcher
    safety_threshold: Threshold | None = None
    usage_always: bool = False


def gateway_of(request: Request) -> Gateway:
    """Return the parts that serve this request."""
    gateway: Gateway = request.state.gateway
    return gateway


def principal_of(request: Request) -> Principal:
    """Return who is asking."""
    principal: Principal = request.scope["state"].get("principal", ANONYMOUS)
    return principal


def issued_key_of(request: Request) -> IssuedKey | None:
    """Return the key with which it is asked, if it is an issued one."""
    principal = principal_of(request)
    return principal if isinstance(principal, IssuedKey) else None


def note_refusal(request: Request, key: IssuedKey, reason: RefusedUse) -> None:
    """Note for a key's record that a use of it is refused."""
    gateway_of(request).refusals.note(key.name, reason, current_request_id())


def key_use_of(request: Request) -> KeyUse:
    """Return what a request counts for among the limits of its key."""
    use: KeyUse = request.scope["state"].get("key_use", UNLIMITED_USE)
    return use


def recording_of(request: Request) -> Recording | None:
    """Return where a request's answer is recorded, if it has an idempotency key."""
    recording: Recording | None = request.scope["state"].get("recording")
    return recording


def with_recording(scope: Scope, recording: Recording) -> Scope:
    """Return the scope (ASGI) of a request whose answer is recorded."""
    return {**scope, "state": {**scope["state"], "recording": recording}}
