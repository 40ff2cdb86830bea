"""Whose keys the proxy accepts."""

from ai_proxy_service.settings import ProxySettings
from service_kit.auth import Authenticate
from service_kit.keys import KeyRing, Principal

# OpenAI's clients send a bearer token; Azure's and Google's habits are accepted as well.
KEY_HEADERS = (b"api-key", b"x-api-key")


def authentication(settings: ProxySettings) -> Authenticate | None:
    """Return how keys are checked, or None where authentication is off."""
    if not settings.auth_enabled:
        return None
    ring = KeyRing((key, frozenset()) for key in settings.service_keys())

    async def authenticate(presented: str) -> Principal | None:
        return ring.find(presented)

    return authenticate
