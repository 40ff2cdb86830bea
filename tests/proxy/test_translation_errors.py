"""What a client sees of Gemini's errors, and what it must not see."""

import json
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
        (GeminiUnreachableError("reset"), 502, "upstream_error"),
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


# Texts of Gemini's refusals, and the parameter that a client should look at.
REFUSALS = [
    ("Multiple candidates is not enabled for this model", "n"),
    ("Logprobs is not enabled for models/gemini-2.5-pro", "logprobs"),
    (
        "Function calling with a response mime type: 'application/json' is unsupported",
        "response_format",
    ),
    ("Tool use with function calling is unsupported", "tools"),
    ("The specified schema produces a constraint that has too much branching", "response_format"),
    (
        (
            "* GenerateContentRequest.generation_config.response_schema.properties: should be "
            "non-empty for OBJECT type"
        ),
        "response_format",
    ),
    (
        (
            'Invalid JSON payload received. Unknown name "foo" at '
            "'tools[0].function_declarations[0].parameters_json_schema'"
        ),
        "tools",
    ),
    (
        (
            "* GenerateContentRequest.tools[0].function_declarations[0].parameters.properties: "
            "should be non-empty for OBJECT type"
        ),
        "tools",
    ),
    (
        (
            "Please ensure that the number of function response parts is equal to the number of "
            "function call parts of the function call turn."
        ),
        "messages",
    ),
    ("Role 'function' is not supported", "messages"),
    ("Please use a valid role: user, model.", "messages"),
    ("Corrupted thought signature.", "messages"),
    (
        "Function call is missing a thought_signature in functionCall parts.",
        "messages",
    ),
    ("Budget 0 is invalid. This model only works in thinking mode.", "reasoning_effort"),
    ("Thinking level MINIMAL is not supported for this model.", "reasoning_effort"),
    ("Unable to process input image. Please retry or report.", "messages"),
    ("something else altogether", None),
]


@pytest.mark.parametrize(("text", "param"), REFUSALS)
def test_a_refusal_names_the_parameter_that_it_is_about(text: str, param: str | None) -> None:
    error = shown(400, "INVALID_ARGUMENT", text)

    assert (error.status, error.code, error.field) == (400, "invalid_value", param)
    assert text not in error.message


def test_the_fields_that_google_names_count_too() -> None:
    violation = {
        "@type": "type.googleapis.com/google.rpc.BadRequest",
        "fieldViolations": [{"field": "generation_config.stop_sequences", "description": "no"}],
    }

    assert shown(400, "INVALID_ARGUMENT", "Invalid.", violation).field == "stop"


def test_a_file_that_is_not_there_is_not_a_missing_model() -> None:
    error = shown(404, "NOT_FOUND", "File files/abc not found.")

    assert (error.status, error.field) == (400, "messages")
    assert error.code != "model_not_found"


@pytest.mark.parametrize(
    ("error", "headers"),
    [
        (shown(400, "FAILED_PRECONDITION", "region"), {"x-should-retry": "false"}),
        (shown(402, "RESOURCE_EXHAUSTED", "pay"), {"x-should-retry": "false"}),
        (shown(429, "RESOURCE_EXHAUSTED", "", RETRY_INFO, PER_DAY), {"x-should-retry": "false"}),
        (
            shown(429, "RESOURCE_EXHAUSTED", "", RETRY_INFO),
            {"retry-after": "35", "retry-after-ms": "34400"},
        ),
        (shown(429, "RESOURCE_EXHAUSTED", "Please try again later"), {}),
        (shown(500, "INTERNAL"), {}),
    ],
)
def test_headers_say_whether_and_when_to_try_again(
    error: ServiceError, headers: dict[str, str]
) -> None:
    assert error.headers == headers


def test_an_overload_is_worth_a_few_seconds() -> None:
    assert 2 <= int(shown(503, "UNAVAILABLE", "overloaded").headers["retry-after"]) <= 5


@pytest.mark.parametrize(
    ("status", "reason", "type_name"),
    [
        (400, "INVALID_ARGUMENT", "invalid_request_error"),
        (401, "UNAUTHENTICATED", "server_error"),
        (429, "RESOURCE_EXHAUSTED", "rate_limit_error"),
        (500, "INTERNAL", "server_error"),
        (503, "UNAVAILABLE", "service_unavailable_error"),
        (504, "DEADLINE_EXCEEDED", "timeout_error"),
    ],
)
def test_each_status_has_openais_type(status: int, reason: str, type_name: str) -> None:
    body = json.loads(error_body(shown(status, reason), "req_1"))

    assert body["error"].keys() == {"message", "type", "param", "code"}
    assert body["error"]["type"] == type_name


def test_a_quota_that_is_used_up_has_a_type_of_its_own() -> None:
    body = json.loads(error_body(shown(429, "RESOURCE_EXHAUSTED", "", PER_DAY), "req_1"))

    assert body["error"]["type"] == body["error"]["code"] == "insufficient_quota"


def test_an_error_body_has_all_four_members_and_names_the_request_on_failures() -> None:
    body = error_body(ServiceError("Broken.", status=500), "req_42").decode()

    assert body == (
        '{"error":{"message":"Broken. (request id: req_42)","type":"server_error","param":null,'
        '"code":"internal_error"}}'
    )
