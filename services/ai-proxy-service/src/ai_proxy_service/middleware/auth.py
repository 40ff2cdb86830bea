"""Whose keys the proxy accepts."""

from ai_proxy_service.services.key_verifier import KeyVerifier
from ai_proxy_service.settings import ProxySettings
from service_kit.auth import Authenticate
from service_kit.keys import KeyRing, Principal

# OpenAI's clients send a bearer token; Azure's and Google's habits are accepted as well.
KEY_HEADERS = (b"api-key", b"x-api-key")


def authentication(settings: ProxySettings, issued: KeyVerifier | None) -> Authenticate | None:
    """Return how keys are checked, or None where authentication is off.

    Args:
        settings: which keys are configured.
        issued: tells of all others; None where there is no credits service that issues keys.
    """
    if not settings.auth_enabled:
        return None
    ring = KeyRing((key, frozenset()) for key in settings.service_keys())

    async def authenticate(presented: str) -> Principal | None:
        principal = ring.find(presented)
        if principal is None and issued is not None:
            return await issued.verify(presented)
        return principal

    return authenticate
