"""What a client sees of Gemini's errors, and what it must not see."""

from typing import Any

import pytest

from ai_proxy_service.api.errors import error_body
from ai_proxy_service.core.gemini import GeminiError, GeminiUnreachableError
from ai_proxy_service.translation.errors import to_service_error
from service_kit.errors import ServiceError

RETRY_INFO = {"@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": "34.4s"}
PER_DAY = {
    "@type": "type.googleapis.com/google.rpc.QuotaFailure",
    "violations": [{"quotaId": "GenerateRequestsPerDayPerProjectPerModel"}],
}
BAD_KEY = {"@type": "type.googleapis.com/google.rpc.ErrorInfo", "reason": "API_KEY_INVALID"}


def shown(status: int, reason: str = "", message: str = "", *details: Any) -> ServiceError:
    return to_service_error(GeminiError(status, reason, message, list(details)))


@pytest.mark.parametrize(
    ("error", "status", "code"),
    [
        (GeminiError(400, "INVALID_ARGUMENT", "no"), 400, "invalid_value"),
        (GeminiError(400, "INVALID_ARGUMENT", "no", [BAD_KEY]), 502, "upstream_auth_error"),
        (GeminiError(400, "FAILED_PRECONDITION", "region"), 502, "upstream_error"),
        (GeminiError(401, "UNAUTHENTICATED", "no"), 502, "upstream_auth_error"),
        (GeminiError(402, "RESOURCE_EXHAUSTED", "pay"), 503, "server_is_overloaded"),
        (GeminiError(403, "PERMISSION_DENIED", "no"), 502, "upstream_auth_error"),
        (GeminiError(404, "NOT_FOUND", "no"), 400, "model_not_found"),
        (GeminiError(429, "RESOURCE_EXHAUSTED", "slow"), 429, "rate_limit_exceeded"),
        (GeminiError(429, "RESOURCE_EXHAUSTED", "x", [PER_DAY]), 429, "insufficient_quota"),
        (GeminiError(500, "INTERNAL", "x"), 500, "internal_error"),
        (GeminiError(503, "UNAVAILABLE", "x"), 503, "server_is_overloaded"),
        (GeminiError(504, "DEADLINE_EXCEEDED", "x"), 504, "upstream_timeout"),
        (GeminiError(418, "", "x"), 502, "upstream_error"),
        (GeminiUnreachableError("reset"), 503, "server_is_overloaded"),
        (GeminiUnreachableError("slow", timed_out=True), 504, "upstream_timeout"),
    ],
)
def test_each_failure_has_the_status_that_makes_a_client_do_the_right_thing(
    error: GeminiError, status: int, code: str
) -> None:
    seen = to_service_error(error)

    assert (seen.status, seen.code) == (status, code)


def test_the_gateways_own_key_trouble_never_looks_like_the_clients() -> None:
    for error in (shown(401), shown(403), shown(400, "INVALID_ARGUMENT", "", BAD_KEY)):
        assert error.status not in {401, 403}


def test_googles_text_is_not_passed_on() -> None:
    secret = "key AIzaSyCanary at projects/1234/locations"
    for status in (400, 401, 403, 404, 429, 500, 503):
        assert "Canary" not in error_body(shown(status, "X", secret), "req_1").decode()


@pytest.mark.parametrize(
    ("error", "seconds"),
    [
        (shown(429, "RESOURCE_EXHAUSTED", "", RETRY_INFO), "35"),
        (shown(429, "RESOURCE_EXHAUSTED", "Please retry in 48.939935699s."), "49"),
    ],
)
def test_googles_wait_is_passed_on(error: ServiceError, seconds: str) -> None:
    assert error.headers["retry-after"] == seconds


def test_a_wait_that_sdks_distrust_becomes_no_retry() -> None:
    error = shown(429, "RESOURCE_EXHAUSTED", "retry in 3600.0s")

    assert error.headers == {"x-should-retry": "false"}


def test_an_input_that_is_too_long_says_how_long_it_may_be() -> None:
    error = shown(
        400,
        "INVALID_ARGUMENT",
        "The input token count (1200000) exceeds the maximum number of tokens allowed (1048576).",
    )

    assert error.code == "context_length_exceeded"
    assert "maximum context length is 1048576 tokens" in error.message


def test_an_error_body_has_all_four_members_and_names_the_request_on_failures() -> None:
    body = error_body(ServiceError("Broken.", status=500), "req_42").decode()

    assert body == (
        '{"error":{"message":"Broken. (request id: req_42)","type":"server_error","param":null,'
        '"code":"internal_error"}}'
    )
