"""The order of the middleware, in one place, outermost first."""

from starlette.middleware import Middleware
from starlette.middleware.cors import CORSMiddleware

from service_kit.auth import Authenticate, BearerAuthMiddleware
from service_kit.body_limit import BodyLimitMiddleware
from service_kit.errors import ErrorForm, UnhandledErrorMiddleware
from service_kit.metrics import HttpMetrics, HttpMetricsMiddleware
from service_kit.metrics_port import MetricsPortMiddleware
from service_kit.rate_limit import IpRateLimiter, RateLimitMiddleware, RateRule
from service_kit.request_id import RequestIdMiddleware
from service_kit.settings import CommonSettings
from service_kit.store_health import StoreHealth
from service_kit.trace_middleware import TraceMiddleware

EXPOSED_HEADERS = (
    "x-request-id",
    "x-ratelimit-limit-requests",
    "x-ratelimit-remaining-requests",
    "x-ratelimit-reset-requests",
    "x-ratelimit-limit-tokens",
    "x-ratelimit-remaining-tokens",
    "x-ratelimit-reset-tokens",
    "retry-after",
    "retry-after-ms",
)


def middleware_stack(
    settings: CommonSettings,
    *,
    form: ErrorForm,
    http_metrics: HttpMetrics,
    authenticate: Authenticate | None,
    rate_rules: tuple[RateRule, ...],
    key_headers: tuple[bytes, ...] = (),
    limit_known_callers: bool = True,
    exposed_headers: tuple[str, ...] = (),
    limit_store: StoreHealth | None = None,
) -> list[Middleware]:
    """Return all layers from the request id to the key's check.

    They are request id, trace, metrics, CORS, error net, body limit, metrics' port, IP limit, auth.

    Args:
        settings: which of them are on, and their figures.
        form: how they write their own errors.
        http_metrics: what the metrics middleware counts into.
        authenticate: the service's policy; None where authentication is off.
        rate_rules: limits per address. They count before authentication, so that guessing
            keys is limited as well.
        key_headers: further headers that may carry the key.
        limit_known_callers: whether the limits count requests with an accepted key as well;
            if not, and no key is needed, everybody is known.
        exposed_headers: further headers of answers that a browser's program may read.
        limit_store: what is known of the limits' store, where others in the service ask it too.
    """
    stack = [
        Middleware(RequestIdMiddleware),
        Middleware(TraceMiddleware),
        Middleware(HttpMetricsMiddleware, metrics=http_metrics),
    ]
    if settings.cors_allowed_origins:
        stack.append(_cors(settings, exposed_headers))
    stack += [
        Middleware(UnhandledErrorMiddleware, form=form),
        Middleware(BodyLimitMiddleware, limit_bytes=settings.max_body_bytes, form=form),
    ]
    if settings.metrics_port:
        stack.append(Middleware(MetricsPortMiddleware, port=settings.metrics_port, form=form))
    somebody_is_limited = limit_known_callers or authenticate is not None
    if settings.rate_limit_enabled and somebody_is_limited:
        storage_uri = settings.rate_limit_storage_uri.get_secret_value()
        limiter = IpRateLimiter(
            rate_rules,
            storage_uri=storage_uri,
            workers=settings.workers,
            store_timeout_seconds=settings.rate_limit_store_timeout_seconds,
            health=limit_store or StoreHealth(http_metrics.limit_store, storage_uri),
        )
        unlimited = None if limit_known_callers else authenticate
        stack.append(
            Middleware(
                RateLimitMiddleware,
                limiter=limiter,
                form=form,
                unlimited=unlimited,
                on_refused=http_metrics.count_rate_limited,
            )
        )
    if authenticate is not None:
        stack.append(
            Middleware(
                BearerAuthMiddleware,
                authenticate=authenticate,
                exempt_paths=settings.auth_exempt_paths,
                form=form,
                key_headers=key_headers,
            )
        )
    return stack


def _cors(settings: CommonSettings, exposed_headers: tuple[str, ...]) -> Middleware:
    # "reflect" admits whatever a browser client asks to send, such as OpenAI's x-stainless-*.
    reflect = settings.cors_allowed_headers == ("reflect",)
    return Middleware(
        CORSMiddleware,
        allow_origins=list(settings.cors_allowed_origins),
        allow_methods=["GET", "POST"],
        allow_headers=["*"] if reflect else list(settings.cors_allowed_headers),
        expose_headers=[*EXPOSED_HEADERS, *exposed_headers],
        max_age=600,
    )
