"""How often one address may ask the proxy."""

from collections.abc import Collection

from ai_proxy_service.settings import ProxySettings
from service_kit.rate_limit import RateRule


def rate_rules(settings: ProxySettings, completion_paths: Collection[str]) -> tuple[RateRule, ...]:
    """Return the limits per IP address: on everything, and on completions."""
    return (
        RateRule("requests", settings.rate_limit_per_minute),
        RateRule(
            "completions",
            settings.rate_limit_completions_per_minute,
            frozenset(completion_paths),
        ),
    )
