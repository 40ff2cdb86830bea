"""The credits service over HTTP: one question, one answer or one error.

A change that got no answer is asked for again under the same idempotency key, a bounded
number of times. What is refused is never asked for again.
"""

import random
import time
from collections.abc import Callable, Iterator, Mapping
from http import HTTPStatus
from typing import NamedTuple, NoReturn
from urllib.parse import quote

import httpx
import msgspec

from credits_service.cli.failures import CommandError, ExitCode, Json, usage

_PREFIX = "/api/v1"
_CONNECT_SECONDS = 5.0
_ANSWER_SECONDS = 60.0
_FIRST_PAUSE_SECONDS = 0.25
_PAUSE_SECONDS_MAX = 4.0
_RETRY_AFTER_SECONDS_MAX = 30
_PROBLEM = "application/problem+json"
_AGAIN = frozenset(
    {
        HTTPStatus.TOO_MANY_REQUESTS,
        HTTPStatus.BAD_GATEWAY,
        HTTPStatus.SERVICE_UNAVAILABLE,
        HTTPStatus.GATEWAY_TIMEOUT,
    }
)
_ADVICE = {
    "account_not_found": "`credits balance` lists the accounts; `credits topup` makes one.",
    "idempotency_key_reused": "Repeat the very same command, or leave --idempotency-key out.",
    "account_not_empty": "Say --forfeit to give up what is left.",
    "key_not_found": "`credits keys list` shows the keys and their ids.",
    "key_revoked": "`credits keys create` makes a new one.",
    "account_has_holds": "Wait until they end: `credits holds USER_ID --status active` shows them.",
}
_KEY_ADVICE = (
    "Set CREDITS_API_KEY (or ADMIN_API_KEYS, or --key-file) to a key of the service. Changes "
    "need an admin key."
)


class Answer(NamedTuple):
    """What the service said to a change.

    Attributes:
        body: the decoded answer.
        key: the idempotency key it is known under.
        replayed: it was done before, under the same key.
    """

    body: Json
    key: str
    replayed: bool

    def document(self) -> Json:
        """Return what scripts get."""
        return {**self.body, "idempotency_key": self.key, "replayed": self.replayed}


def segment(text: str) -> str:
    """Write an id as one segment of a path."""
    quoted = quote(text, safe="")
    # Clients and proxies would take these for steps in the path.
    return quoted.replace(".", "%2E") if quoted in {".", ".."} else quoted


class Service:
    """Calls the service.

    Args:
        url: its base URL.
        key: the API key to present, if any.
        retries: how many times a change is asked for again.
        note: tells people what is going on.
    """

    def __init__(
        self, url: str, key: str | None, *, retries: int, note: Callable[[str], None]
    ) -> None:
        self._url = _checked(url)
        self._retries = retries
        self._note = note
        self._client = httpx.Client(
            base_url=f"{self._url}{_PREFIX}",
            headers={"Authorization": f"Bearer {key}"} if key else {},
            timeout=httpx.Timeout(_ANSWER_SECONDS, connect=_CONNECT_SECONDS),
        )

    def read(self, path: str, params: Mapping[str, str | int | None] | None = None) -> Json:
        """Ask for something.

        Raises:
            CommandError: refused, or there is no answer.
        """
        try:
            response = self._client.get(path, params=_given(params))
        except httpx.TransportError as error:
            raise self._unreachable(error) from None
        return self._decoded(response)

    def stream(self, path: str, params: Mapping[str, str | int | None]) -> Iterator[bytes]:
        """Ask for a long text, piece by piece.

        Raises:
            CommandError: refused, there is no answer, or it breaks off.
        """
        started = False
        try:
            with self._client.stream("GET", path, params=_given(params)) as response:
                if not response.is_success:
                    response.read()
                    self._refuse(response)
                for piece in response.iter_bytes():
                    started = True
                    yield piece
        except httpx.TransportError as error:
            if not started:
                raise self._unreachable(error) from None
            raise CommandError(
                "The answer broke off: what was written so far is not all. Please ask again.",
                ExitCode.UNKNOWN,
            ) from None

    def change(self, method: str, path: str, body: Json, key: str) -> Answer:
        """Ask for a change, again under the same key while there is no answer.

        Raises:
            CommandError: refused; or unknown, then with `outcome_unknown` among its facts
                unless nothing was ever sent.
        """
        was_sent = False
        for attempt in range(self._retries + 1):
            pause = _pause(attempt)
            try:
                response = self._client.request(
                    method, path, json=body, headers={"Idempotency-Key": key}
                )
            except (httpx.ConnectError, httpx.ConnectTimeout) as error:
                trouble = self._unreachable(error)
            except httpx.TransportError as error:
                was_sent, trouble = True, self._unreachable(error)
            except KeyboardInterrupt:
                raise _unknown("Interrupted before the answer came.") from None
            else:
                if not _is_worth_repeating(response):
                    return self._answer(response, key)
                was_sent, trouble = True, self._failure(response)
                pause = max(pause, _retry_after(response))
            if attempt < self._retries:
                self._wait(trouble, pause)
        if was_sent:
            raise _unknown(str(trouble), trouble.facts)
        raise trouble

    def _wait(self, trouble: CommandError, pause: float) -> None:
        reason = str(trouble).partition("\n")[0]
        self._note(f"{reason} Trying again under the same key in {pause:.1f} s.")
        try:
            time.sleep(pause)
        except KeyboardInterrupt:
            raise _unknown("Interrupted while waiting.") from None

    def _answer(self, response: httpx.Response, key: str) -> Answer:
        try:
            body = self._decoded(response)
        except CommandError as error:
            if error.exit_code is ExitCode.UNKNOWN:
                raise _unknown(str(error), error.facts) from None
            raise
        return Answer(body, key, response.headers.get("Idempotency-Replayed") == "true")

    def _decoded(self, response: httpx.Response) -> Json:
        if not response.is_success:
            self._refuse(response)
        try:
            return msgspec.json.decode(response.content, type=Json)
        except msgspec.DecodeError:
            raise self._stranger(response) from None

    def _refuse(self, response: httpx.Response) -> NoReturn:
        raise self._failure(response)

    def _failure(self, response: httpx.Response) -> CommandError:
        """Read a problem document; whoever sends something else is not the service."""
        is_problem = response.headers.get("Content-Type", "").startswith(_PROBLEM)
        try:
            problem = msgspec.json.decode(response.content, type=Json) if is_problem else {}
        except msgspec.DecodeError:
            problem = {}
        if not problem:
            return self._stranger(response)
        code = ExitCode.UNKNOWN if _is_uncertain(response.status_code) else ExitCode.REFUSED
        return CommandError(_told(problem), code, problem)

    def _stranger(self, response: httpx.Response) -> CommandError:
        return CommandError(
            f"{self._url} answered {response.status_code}, but not as a credits service does. "
            "Check --url (CREDITS_SERVICE_URL), and what is between.",
            ExitCode.UNKNOWN,
            {"status": response.status_code},
        )

    def _unreachable(self, error: httpx.TransportError) -> CommandError:
        reason = str(error) or type(error).__name__
        return CommandError(
            f"The service at {self._url} does not answer: {reason.rstrip('.')}.\n"
            "Check that it runs, and --url (CREDITS_SERVICE_URL).",
            ExitCode.UNKNOWN,
        )


def _checked(url: str) -> str:
    parsed = httpx.URL(url) if url.isprintable() else None
    if parsed is None or parsed.scheme not in {"http", "https"} or not parsed.host:
        raise usage("--url must be like http://host:8001")
    if parsed.userinfo or parsed.query:
        raise usage("--url is the service's address only; the key comes from CREDITS_API_KEY")
    return url.rstrip("/")


def _given(params: Mapping[str, str | int | None] | None) -> dict[str, str | int]:
    return {name: value for name, value in (params or {}).items() if value is not None}


def _pause(attempt: int) -> float:
    """Return how long to wait after an attempt: twice as long each time, not in step."""
    seconds = min(_FIRST_PAUSE_SECONDS * 2.0**attempt, _PAUSE_SECONDS_MAX)
    return seconds * random.uniform(0.75, 1.25)  # noqa: S311 - no secret depends on it


def _retry_after(response: httpx.Response) -> int:
    text = response.headers.get("Retry-After", "")
    return min(int(text), _RETRY_AFTER_SECONDS_MAX) if text.isdecimal() else 0


def _is_uncertain(status: int) -> bool:
    return status >= HTTPStatus.INTERNAL_SERVER_ERROR or status == HTTPStatus.TOO_MANY_REQUESTS


def _is_worth_repeating(response: httpx.Response) -> bool:
    # 409 with a time to wait: the same key is being worked on at this moment.
    in_flight = response.status_code == HTTPStatus.CONFLICT and _retry_after(response) > 0
    return in_flight or response.status_code in _AGAIN


def _unknown(message: str, facts: Json | None = None) -> CommandError:
    return CommandError(message, ExitCode.UNKNOWN, {**(facts or {}), "outcome_unknown": True})


def _told(problem: Json) -> str:
    """Write a problem for people: what is wrong, where, how to find it in the logs, what to do."""
    lines = [str(problem.get("detail", "Refused."))]
    lines += [f"  field {e['field']}: {e['message']}" for e in problem.get("errors", ())]
    known = [
        f"{name}: {problem[name]}"
        for name in ("status", "code", "available", "required", "limit", "request_id")
        if name in problem
    ]
    lines.append("  " + ", ".join(known))
    if problem.get("status") in {HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN} and not str(
        problem.get("code", "")
    ).startswith("account_"):
        lines.append(_KEY_ADVICE)
    elif problem.get("code") in _ADVICE:
        lines.append(_ADVICE[problem["code"]])
    return "\n".join(lines)
