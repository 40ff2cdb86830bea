"""What the routes work with, made once by the app's lifespan."""

from collections.abc import Mapping
from dataclasses import dataclass

from starlette.requests import Request

from ai_proxy_service.core.interfaces import CallMemory, GeminiClient, MediaFetcher
from ai_proxy_service.core.metrics import ProxyMetrics
from ai_proxy_service.core.pricing import PriceCatalog
from ai_proxy_service.core.relay import Relay
from ai_proxy_service.translation.google_options import Threshold
from service_kit.keys import Principal

ANONYMOUS = Principal("anonymous")


@dataclass(frozen=True, slots=True)
class Gateway:
    """The proxy's working parts.

    Attributes:
        aliases: other names of models.
        catalog: models that can be served, with prices.
        gemini: Gemini itself, for what costs nothing.
        relay: the one way to a completion.
        metrics: what is counted.
        calls: what Gemini wants to see again with its calls.
        media: fetches files that messages name by URL.
        safety_threshold: the operator's safety filter, where a request has none.
        usage_always: streams tell their usage also where it was not asked for.
    """

    aliases: Mapping[str, str]
    catalog: PriceCatalog
    gemini: GeminiClient
    relay: Relay
    metrics: ProxyMetrics
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
