"""What Gemini's errors say of quotas and keys, whichever of the hints is there."""

from typing import Any

import pytest

from ai_proxy_service.core.gemini import GeminiError, GeminiUnreachableError
from ai_proxy_service.core.gemini_trouble import (
    BAD_KEY_SECONDS,
    BUSY_SECONDS,
    DAILY_QUOTA_SECONDS,
    is_daily_quota,
    is_invalid_key,
    key_trouble_seconds,
    retry_seconds,
)

RPC = "type.googleapis.com/google.rpc."
HELP = {"@type": f"{RPC}Help", "links": []}
RETRY = {"@type": f"{RPC}RetryInfo", "retryDelay": "48s"}
BAD_KEY = {"@type": f"{RPC}ErrorInfo", "reason": "API_KEY_INVALID"}


def quota(*ids: str) -> dict[str, Any]:
    return {"@type": f"{RPC}QuotaFailure", "violations": [{"quotaId": one} for one in ids]}


PER_DAY = quota("GenerateRequestsPerMinute", "GenerateRequestsPerDayPerProjectPerModel-FreeTier")
PER_MINUTE = quota("GenerateContentInputTokensPerModelPerMinute-FreeTier")


def error(
    status: int, *details: Any, reason: str = "RESOURCE_EXHAUSTED", message: str = ""
) -> GeminiError:
    return GeminiError(status, reason, message, list(details))


@pytest.mark.parametrize(
    ("details", "message", "seconds"),
    [
        ([RETRY], "", 48.0),
        ([HELP, PER_MINUTE, RETRY], "", 48.0),
        ([RETRY, HELP, PER_MINUTE], "", 48.0),
        ([{"@type": f"{RPC}RetryInfo", "retryDelay": "34.4s"}], "", 34.4),
        ([], "Please retry in 48.939935699s.", 48.939935699),
        ([HELP], "quota. Please retry in 7s.", 7.0),
        ([{"@type": f"{RPC}RetryInfo"}], "", None),
        ([{"@type": f"{RPC}RetryInfo", "retryDelay": "soon"}], "", None),
        (["no object"], "Resource exhausted. Please try again later.", None),
        ([], "", None),
    ],
)
def test_the_wait_is_found_wherever_it_stands(
    details: list[Any], message: str, seconds: float | None
) -> None:
    assert retry_seconds(error(429, *details, message=message)) == seconds


@pytest.mark.parametrize(
    ("details", "daily"),
    [
        ([PER_DAY], True),
        ([RETRY, HELP, PER_DAY], True),
        ([PER_MINUTE], False),
        ([], False),
        ([{"@type": f"{RPC}QuotaFailure"}], False),
        ([{"@type": f"{RPC}QuotaFailure", "violations": "many"}], False),
        ([{"@type": f"{RPC}QuotaFailure", "violations": ["x", {"quotaId": None}]}], False),
    ],
)
def test_a_days_quota_is_told_from_a_minutes(details: list[Any], *, daily: bool) -> None:
    assert is_daily_quota(error(429, *details)) is daily


def test_an_unknown_key_is_told_by_its_reason() -> None:
    assert is_invalid_key(error(400, BAD_KEY))
    assert not is_invalid_key(error(400, {"@type": f"{RPC}ErrorInfo", "reason": "OTHER"}))
    assert not is_invalid_key(error(400))


@pytest.mark.parametrize(
    ("failure", "seconds"),
    [
        (error(400, BAD_KEY, reason="INVALID_ARGUMENT"), BAD_KEY_SECONDS),
        (error(400, reason="FAILED_PRECONDITION"), BAD_KEY_SECONDS),
        (error(400, reason="INVALID_ARGUMENT"), None),
        (error(401, reason="UNAUTHENTICATED"), BAD_KEY_SECONDS),
        (error(402), BAD_KEY_SECONDS),
        (error(403, reason="PERMISSION_DENIED"), BAD_KEY_SECONDS),
        # The thing is somebody else's, or gone: the key is all right.
        (error(403, message="CachedContent not found (or permission denied)"), None),
        (error(403, message="You do not have permission to access the File abc"), None),
        (error(404, reason="NOT_FOUND"), None),
        (error(429, RETRY, PER_MINUTE), 48.0),
        (error(429, RETRY, PER_DAY), DAILY_QUOTA_SECONDS),
        (error(429), BUSY_SECONDS),
        (error(429, {"@type": f"{RPC}RetryInfo", "retryDelay": "0s"}), BUSY_SECONDS),
        (error(500, reason="INTERNAL"), None),
        (error(503, reason="UNAVAILABLE"), None),
        (GeminiUnreachableError("reset"), None),
    ],
)
def test_only_trouble_with_the_key_sets_it_aside(
    failure: GeminiError, seconds: float | None
) -> None:
    assert key_trouble_seconds(failure) == seconds
