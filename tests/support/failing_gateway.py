"""The proxy with a mistake in it, as a command: an unexpected exception in the midst of a request.

Where it is raised, local variables hold the prompt and Gemini's key.
"""

from typing import Any, NoReturn
from unittest import mock

from fastapi import FastAPI

from ai_proxy_service import main as proxy
from ai_proxy_service.api.errors import OpenAIErrorForm
from ai_proxy_service.core.gemini import GenerateContentBody
from ai_proxy_service.services.gemini_rest import RestGeminiClient
from ai_proxy_service.settings import ProxySettings
from service_kit.server import prepare_process, serve_service
from service_kit.settings import load_settings


class FailingGemini(RestGeminiClient):
    """Fails by a mistake of our own, with everything that is secret at hand."""

    async def generate_completion(self, model: str, body: GenerateContentBody) -> NoReturn:
        """Fail."""
        secrets = {"model": model, "key": self._keys.take(), "body": body}
        raise LookupError(f"{len(secrets)} things, and none of them was expected")

    async def generate_completion_stream(self, model: str, body: GenerateContentBody) -> NoReturn:
        """Fail."""
        await self.generate_completion(model, body)


def _failing(_kind: str, **options: Any) -> FailingGemini:
    return FailingGemini.connect(
        options["base_url"],
        options["keys"],
        options["connections_max"],
        options["on_keys_set_aside"],
    )


def build_app() -> FastAPI:
    """Make the proxy's app with the mistake in it."""
    mock.patch("ai_proxy_service.main.make_gemini_client", _failing).start()
    return proxy.build_app()


def main() -> None:
    """Serve it: ``python -m support.failing_gateway``."""
    settings = load_settings(ProxySettings)
    prepare_process(proxy.SERVICE, settings)
    serve_service("support.failing_gateway:build_app", settings, form=OpenAIErrorForm())


if __name__ == "__main__":
    main()
