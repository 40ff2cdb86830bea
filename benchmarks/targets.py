"""What is compared, each checked: its answers byte by byte, its charges to the nano-USD."""

import json
import time
from dataclasses import dataclass
from functools import cached_property

from benchmarks import canned
from benchmarks.load import Expected, Load, Measured, without
from benchmarks.processes import BenchmarkError, LoadRun, Running, fetch, run_load
from benchmarks.services import CLIENT_KEY, GEMINI_KEY, balance_nanos, bearer

DIRECT, MINIMAL = "direct to the fake", "FastAPI + httpx, bare"
PROXY, BILLED = "our proxy, unbilled", "our proxy, billed on {}"
GRANTED_USD = 100_000
ACCOUNT = "bench"
_RSS_EVERY_SECONDS = 0.1
_VARYING = [r'"id": ?"(chatcmpl-[0-9a-f]{28})"', r'"created": ?(\d{10})']
_GEMINI = f"/v1beta/models/{canned.MODEL}"
_CHAT = "/v1/chat/completions"


@dataclass
class Target:
    """One way to an answer.

    Attributes:
        process: the one whose CPU and memory are read.
        ledger: where its charges are booked, if they are.
    """

    name: str
    process: Running
    ledger: Running | None = None
    charged_nanos: int = 0

    @cached_property
    def _whole(self) -> Expected:
        return self._learned(canned.CHUNKS, stream=False)

    @cached_property
    def _fast(self) -> Expected:
        return self._learned(canned.CHUNKS, stream=True)

    @cached_property
    def _paced(self) -> Expected:
        return self._learned(canned.PACED_CHUNKS, stream=True)

    @property
    def cpu_seconds(self) -> tuple[float, float]:
        """CPU time of the process, and of its ledger's."""
        return self.process.cpu_seconds, self.ledger.cpu_seconds if self.ledger else 0.0

    def whole(self, connections: int, seconds: float) -> Load:
        """Ask for whole answers."""
        return self._load(canned.CHUNKS, connections, seconds, self._whole, stream=False)

    def streams(self, connections: int, seconds: float | None) -> Load:
        """Ask for streams whose chunks come back to back."""
        return self._load(canned.CHUNKS, connections, seconds, self._fast, stream=True)

    def paced_streams(self, connections: int) -> Load:
        """Ask for one paced stream on each connection."""
        return self._load(canned.PACED_CHUNKS, connections, None, self._paced, stream=True)

    def measure(self, load: Load) -> Measured:
        """Run a load in a process of its own, and check what it was charged."""
        found = run_load(load)
        self.check_charges(load, found)
        return found

    def check_charges(self, load: Load, found: Measured) -> None:
        """Check that each answer was charged, once, and exactly."""
        if self.ledger is None:
            return
        chunks = canned.PACED_CHUNKS if canned.PACED_MARK.encode() in load.body else canned.CHUNKS
        self._expect_charges(found.answers * canned.charge_nanos(chunks))

    def _expect_charges(self, nanos: int) -> None:
        if self.ledger is None:
            return
        self.charged_nanos += nanos
        left_nanos = balance_nanos(self.ledger, ACCOUNT)
        off_nanos = GRANTED_USD * 10**9 - self.charged_nanos - left_nanos
        if off_nanos:
            raise BenchmarkError(f"{self.name}: the charges are off by {off_nanos} nano-USD")

    def _load(
        self, chunks: int, connections: int, seconds: float | None, expected: Expected,
        *, stream: bool,
    ) -> Load:  # fmt: skip
        path, headers, body = self._request(stream=stream, paced=chunks == canned.PACED_CHUNKS)
        return Load(self.process.url + path, headers, body, connections, seconds, expected)

    def _request(self, *, stream: bool, paced: bool) -> tuple[str, dict[str, str], bytes]:
        if self.name != DIRECT:
            return _CHAT, bearer(CLIENT_KEY), canned.chat_request(stream=stream, paced=paced)
        headers = {"x-goog-api-key": GEMINI_KEY, "content-type": "application/json"}
        method = "streamGenerateContent?alt=sse" if stream else "generateContent"
        return f"{_GEMINI}:{method}", headers, canned.gemini_request(paced=paced)

    def _learned(self, chunks: int, *, stream: bool) -> Expected:
        """Ask once, check what the answer means, and take its form for the others."""
        path, headers, body = self._request(stream=stream, paced=chunks == canned.PACED_CHUNKS)
        answer = fetch(self.process.url + path, headers, body)
        if self.name == DIRECT:
            _check_direct(answer, chunks, stream=stream)
        else:
            _check_chat(answer, chunks, stream=stream)
        self._expect_charges(canned.charge_nanos(chunks))
        return Expected(_VARYING, 200, without(answer, _VARYING))


def _check_direct(answer: bytes, chunks: int, *, stream: bool) -> None:
    whole = canned.answer(canned.text(chunks), chunks * canned.TOKENS_PER_CHUNK, "STOP")
    if answer != (b"".join(canned.events(chunks)) if stream else whole):
        raise BenchmarkError(f"the fake Gemini said {answer[:500]!r}")


def _check_chat(answer: bytes, chunks: int, *, stream: bool) -> None:
    """Check text, finish reason and usage, in whatever form they come."""
    said, finish, usage = "", None, None
    if stream:
        *events, last, rest = answer.split(b"\n\n")
        if last != b"data: [DONE]" or rest:
            raise BenchmarkError(f"the stream ends with {answer[-200:]!r}")
        parts = [json.loads(event.removeprefix(b"data: ")) for event in events]
    else:
        parts = [json.loads(answer)]
    for part in parts:
        usage = part.get("usage") or usage
        for choice in part["choices"]:
            said += (choice.get("delta") or choice.get("message") or {}).get("content") or ""
            finish = choice.get("finish_reason") or finish
    tokens = chunks * canned.TOKENS_PER_CHUNK
    counts = (usage or {}).get("prompt_tokens"), (usage or {}).get("completion_tokens")
    if (said, finish, counts) != (canned.text(chunks), "stop", (canned.PROMPT_TOKENS, tokens)):
        raise BenchmarkError(f"not the answer that was expected: {answer[:1000]!r}")


def crowd(target: Target, size: int) -> tuple[Measured, float]:
    """Open many paced streams at once; return what came of it and the largest memory seen."""
    load = target.paced_streams(size)
    running = LoadRun(load)
    peak_mb = 0.0
    while running.is_running:
        peak_mb = max(peak_mb, target.process.rss_mb)
        time.sleep(_RSS_EVERY_SECONDS)
    found = running.result()
    target.check_charges(load, found)
    return found, peak_mb
