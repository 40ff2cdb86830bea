"""Nobody adds a route without saying whom it is for, and keys are asked for by default."""

import pytest
from fastapi import APIRouter, FastAPI

from ai_proxy_service.settings import ProxySettings
from credits_service.settings import CreditsSettings
from service_kit.settings import CommonSettings
from support.every_route import REVIEWED, Service, table_of

SERVICES: tuple[Service, ...] = ("proxy", "credits")


@pytest.mark.parametrize("service", SERVICES)
def test_a_route_that_nobody_has_reviewed_fails_by_name(service: Service) -> None:
    app, inner = FastAPI(openapi_url=None), APIRouter(prefix="/inner")
    for method, path in REVIEWED[service]:
        app.add_api_route(path, lambda: None, methods=[method])
    table_of(app, service)
    inner.add_api_route("/new", lambda: None, methods=["PUT"])
    app.include_router(inner, prefix="/v1")
    sub = FastAPI(openapi_url=None)
    sub.add_api_route("/below", lambda: None)
    app.mount("/mounted", sub)
    app.add_api_websocket_route("/socket", lambda _socket: None)

    with pytest.raises(AssertionError) as failed:
        table_of(app, service)

    named = [line.partition(" is new: declare ")[0] for line in str(failed.value).splitlines()]
    assert {f"PUT /v1/inner/new of {service}", f"GET /mounted/below of {service}"} <= set(named)
    assert any("/socket" in line for line in named)
    assert len(named) == 3


@pytest.mark.parametrize("service", SERVICES)
def test_a_route_that_is_gone_has_to_leave_the_review(service: Service) -> None:
    with pytest.raises(AssertionError, match=r"GET /health of .* is no longer there"):
        table_of(FastAPI(), service)


@pytest.mark.parametrize("settings", [ProxySettings, CreditsSettings])
def test_keys_are_asked_for_unless_somebody_says_otherwise(settings: type[CommonSettings]) -> None:
    assert settings.model_fields["auth_enabled"].default is True
