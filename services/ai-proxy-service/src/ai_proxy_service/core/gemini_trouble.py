"""What Gemini's errors say of quotas and keys.

https://ai.google.dev/gemini-api/docs/troubleshooting, and `google.rpc.QuotaFailure`, `RetryInfo`
and `ErrorInfo`; any of them may be missing, and the text may be the only hint.
"""

import re
from http import HTTPStatus

from ai_proxy_service.core.gemini import GeminiError

_RETRY_IN = re.compile(r"retry in (\d+(?:\.\d+)?)s", re.IGNORECASE)
_DURATION = re.compile(r"(\d+(?:\.\d+)?)s")
# Refusals of a thing that the request names look like refusals of the key.
_NAMED_THING = re.compile(r"cachedcontent|file", re.IGNORECASE)
# How long a key is not used after a refusal of it as such, of its day's quota, or of too many
# requests without a word on when to come back.
BAD_KEY_SECONDS = 600.0
DAILY_QUOTA_SECONDS = 3600.0
BUSY_SECONDS = 10.0


def retry_seconds(error: GeminiError) -> float | None:
    """Return how long Gemini asks to wait, if it says so."""
    delay = _DURATION.fullmatch(str(error.detail("RetryInfo").get("retryDelay", "")))
    found = delay or _RETRY_IN.search(error.message)
    return float(found[1]) if found else None


def is_daily_quota(error: GeminiError) -> bool:
    """Tell whether a day's quota is used up; Gemini may ask to retry in seconds all the same."""
    violations = error.detail("QuotaFailure").get("violations")
    return isinstance(violations, list) and any(
        "PerDay" in str(violation.get("quotaId", ""))
        for violation in violations
        if isinstance(violation, dict)
    )


def is_invalid_key(error: GeminiError) -> bool:
    """Tell whether Gemini does not know the key: a 400, of all statuses."""
    return error.detail("ErrorInfo").get("reason") == "API_KEY_INVALID"


def key_trouble_seconds(error: GeminiError) -> float | None:
    """Return for how long a key should be set aside after an error; None if it is not the key's."""
    status = error.status
    if status == HTTPStatus.TOO_MANY_REQUESTS:
        if is_daily_quota(error):
            return DAILY_QUOTA_SECONDS
        return retry_seconds(error) or BUSY_SECONDS
    if status == HTTPStatus.BAD_REQUEST:
        of_key = is_invalid_key(error) or error.reason == "FAILED_PRECONDITION"
        return BAD_KEY_SECONDS if of_key else None
    if status in {HTTPStatus.UNAUTHORIZED, HTTPStatus.PAYMENT_REQUIRED}:
        return BAD_KEY_SECONDS
    if status == HTTPStatus.FORBIDDEN and not _NAMED_THING.search(error.message):
        return BAD_KEY_SECONDS
    return None
