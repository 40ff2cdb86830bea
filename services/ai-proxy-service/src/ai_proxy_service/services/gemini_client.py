"""Choose the Gemini client that the settings name."""

from collections.abc import Callable, Sequence
from typing import Literal

from ai_proxy_service.core.interfaces import GeminiClient
from ai_proxy_service.services.gemini_rest import RestGeminiClient

GeminiClientKind = Literal["rest", "sdk"]


def make_gemini_client(
    kind: GeminiClientKind,
    *,
    base_url: str,
    keys: Sequence[str],
    connections_max: int,
    sdk_threads: int,
    on_keys_set_aside: Callable[[int], object],
) -> GeminiClient:
    """Make the client; must be called on the running event loop.

    Args:
        kind: `rest` or `sdk`.
        base_url: where Gemini's REST API is.
        keys: API keys; `sdk` uses the first one only.
        connections_max: connections that `rest` may open; 0 for no limit.
        sdk_threads: calls that `sdk` may run side by side.
        on_keys_set_aside: called with how many keys `rest` does not use, whenever that changes.
    """
    if kind == "rest":
        return RestGeminiClient.connect(base_url, keys, connections_max, on_keys_set_aside)
    # Imported here because it takes a second and 50 MB, which only its users should pay.
    from ai_proxy_service.services.gemini_sdk import SdkGeminiClient  # noqa: PLC0415

    return SdkGeminiClient(base_url, keys[0], threads=sdk_threads)
