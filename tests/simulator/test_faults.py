"""Failures come where and when a test orders them, and what was received can be seen."""

import asyncio
import json
from typing import Any

import httpx
import pytest

from simulator.wire_client import FLASH_3, FLASH_25, WireClient, body, events, parts, text_of


def drain(response: httpx.Response, received: bytearray) -> None:
    for piece in response.iter_raw():
        received += piece


@pytest.mark.parametrize(
    ("directive", "code", "status", "reason"),
    [
        ("status=503", 503, "UNAVAILABLE", "overloaded"),
        ("error=high_demand", 503, "UNAVAILABLE", "high demand"),
        ("status=500", 500, "INTERNAL", "internal error"),
        ("error=token_limit", 400, "INVALID_ARGUMENT", "exceeds the maximum number of tokens"),
        ("error=location", 400, "FAILED_PRECONDITION", "location"),
        ("error=quota_bare", 429, "RESOURCE_EXHAUSTED", "check quota"),
        ('status=418 status_message="short and stout"', 418, "UNKNOWN", "short and stout"),
    ],
)
def test_errors_on_demand_have_geminis_form(
    gemini: WireClient, directive: str, code: int, status: str, reason: str
) -> None:
    error = gemini.error(body(f"Hi [[sim {directive}]]"))
    assert (error["code"], error["status"]) == (code, status)
    assert reason in error["message"]


def test_quota_errors_tell_limit_and_delay(gemini: WireClient) -> None:
    minute = gemini.error(body("[[sim status=429 retry_delay=1.5]]"))
    kinds = {detail["@type"].rpartition(".")[2]: detail for detail in minute["details"]}
    assert kinds["RetryInfo"]["retryDelay"] == "1.5s"
    assert "PerMinute" in kinds["QuotaFailure"]["violations"][0]["quotaId"]
    day = json.dumps(gemini.error(body("[[sim error=quota_day]]")))
    assert "PerDay" in day


def test_queued_faults_hit_the_matching_requests_and_then_end(gemini: WireClient) -> None:
    fault = {"status": 503, "times": 2, "model": FLASH_3, "method": "generateContent"}
    gemini.control("POST", "faults", json=fault)
    assert gemini.post("generateContent", body("Hi"), FLASH_25).status_code == 200
    codes = [gemini.post("generateContent", body("Hi"), FLASH_3).status_code for _ in range(3)]
    assert codes == [503, 503, 200]


def test_a_queued_fault_with_a_misspelt_order_is_refused(gemini: WireClient) -> None:
    response = gemini.http.post("/control/faults", json={"statsu": 503})
    assert response.status_code == 400


def test_a_cut_stream_ends_without_its_last_chunk(gemini: WireClient) -> None:
    received = bytearray()
    with (
        gemini.open_stream(body("[[sim cut_after=3 tokens=9]]")) as response,
        pytest.raises(httpx.RemoteProtocolError),
    ):
        drain(response, received)
    assert len(events(bytes(received))) == 3
    assert gemini.control("GET", "requests")["requests"][-1]["state"] == "cut"


def test_a_cut_response_is_shorter_than_it_promised(gemini: WireClient) -> None:
    with pytest.raises(httpx.RemoteProtocolError):
        gemini.post("generateContent", body("[[sim cut_after=0]]"))


def test_hanging_up_sends_nothing(gemini: WireClient) -> None:
    with pytest.raises(httpx.RemoteProtocolError):
        gemini.post("generateContent", body("[[sim hang_up]]"))


def test_an_error_within_a_stream_is_bare(gemini: WireClient) -> None:
    request = body("[[sim error_after=2 status=503 tokens=9]]")
    raw = gemini.post("streamGenerateContent?alt=sse", request).content
    before, _, error = raw.rpartition(b"\r\n\r\n")
    assert len(events(before + b"\r\n\r\n")) == 2
    assert json.loads(error)["error"]["status"] == "UNAVAILABLE"


def test_an_error_within_a_stream_can_be_an_event(gemini: WireClient) -> None:
    chunks = gemini.stream(body("[[sim error_after=2 error_form=data tokens=9]]"))
    assert [("error" in chunk) for chunk in chunks] == [False, False, True]


def test_an_error_within_an_array_is_its_last_element(gemini: WireClient) -> None:
    request = body("[[sim error_after=2 tokens=9]]")
    answer = gemini.post("streamGenerateContent", request).json()
    assert [("error" in chunk) for chunk in answer] == [False, False, True]


def test_garbage_cannot_be_read(gemini: WireClient) -> None:
    raw = gemini.post("streamGenerateContent?alt=sse", body("[[sim garbage_after=1]]")).content
    last = raw.split(b"\r\n\r\n")[-2].removeprefix(b"data: ")
    with pytest.raises(json.JSONDecodeError):
        json.loads(last)


def test_split_writes_change_no_byte(gemini: WireClient) -> None:
    whole = gemini.stream(body("[[sim tokens=6]] é🙂 [[sim echo]]"))
    split = gemini.stream(body("[[sim split_bytes=5 tokens=6]] é🙂 [[sim echo]]"))
    assert text_of(split) == text_of(whole)


@pytest.mark.parametrize(
    ("directive", "candidate"),
    [
        ("finish=UNEXPECTED_TOOL_CALL", {"finishReason": "UNEXPECTED_TOOL_CALL", "index": 0}),
        ("finish=RECITATION", {"finishReason": "RECITATION", "index": 0}),
        (
            "finish=MAX_TOKENS tokens=0",
            {"content": {"role": "model"}, "finishReason": "MAX_TOKENS", "index": 0},
        ),
        ("empty_candidate finish=OTHER", {"finishReason": "OTHER", "index": 0}),
        ("finish=NEVER_HEARD_OF", {"finishReason": "NEVER_HEARD_OF", "index": 0}),
    ],
)
@pytest.mark.parametrize("method", ["generate", "stream"])
def test_endings_without_text(
    gemini: WireClient, directive: str, candidate: dict[str, Any], method: str
) -> None:
    answer = getattr(gemini, method)(body(f"[[sim {directive}]]"))
    last = answer[-1] if isinstance(answer, list) else answer
    assert last["candidates"] == [candidate]
    assert "candidatesTokenCount" not in last["usageMetadata"]


def test_a_malformed_call_says_so(gemini: WireClient) -> None:
    candidate = gemini.generate(body("[[sim finish=MALFORMED_FUNCTION_CALL]]"))["candidates"][0]
    assert candidate["finishMessage"].startswith("Malformed function call: ")
    assert "content" not in candidate


def test_a_safety_ending_keeps_the_text_so_far(gemini: WireClient) -> None:
    chunks = gemini.stream(body("[[sim finish=SAFETY tokens=4]]"))
    assert len(chunks) == 4
    ending = chunks[-1]["candidates"][0]
    assert ending["finishReason"] == "SAFETY"
    assert any(rating.get("blocked") for rating in ending["safetyRatings"])


def test_a_blocked_prompt_has_no_candidates(gemini: WireClient) -> None:
    answer = gemini.generate(body('[[sim block=PROHIBITED_CONTENT block_message="no, sir"]]'))
    assert "candidates" not in answer
    assert answer["promptFeedback"]["blockReason"] == "PROHIBITED_CONTENT"
    assert answer["promptFeedback"]["blockReasonMessage"] == "no, sir"
    assert "candidates" not in gemini.stream(body("[[sim block=SAFETY]]"))[0]


def test_a_stream_may_end_without_a_finish_reason(gemini: WireClient) -> None:
    chunks = gemini.stream(body("[[sim finish=none tokens=4]]"))
    assert not any("finishReason" in chunk["candidates"][0] for chunk in chunks)


def test_a_finish_reason_may_come_before_the_end(gemini: WireClient) -> None:
    chunks = gemini.stream(body("[[sim early_finish_after=2 tokens=5]]"))
    finished = [("finishReason" in chunk["candidates"][0]) for chunk in chunks]
    assert finished == [False, True, False, False, True]


@pytest.mark.parametrize(
    ("shape", "content"),
    [
        ("role", {"role": "model"}),
        ("empty_text", {"parts": [{"text": ""}], "role": "model"}),
        ("absent", None),
    ],
)
def test_the_last_chunk_takes_any_recorded_shape(
    gemini: WireClient, shape: str, content: dict[str, Any] | None
) -> None:
    chunks = gemini.stream(body(f"[[sim tokens=2 finish_chunk={shape}]]"))
    assert len(chunks) == 3
    assert chunks[-1]["candidates"][0].get("content") == content


@pytest.mark.parametrize(
    ("order", "reported"),
    [
        ("all", [True] * 5),
        ("last", [False, False, False, False, True]),
        ("2", [False, True, False, True, True]),
        ("none", [False] * 5),
    ],
)
def test_usage_is_reported_as_ordered(gemini: WireClient, order: str, reported: list[bool]) -> None:
    chunks = gemini.stream(body(f"[[sim usage={order} tokens=5]]"))
    assert ["usageMetadata" in chunk for chunk in chunks] == reported


def test_the_last_usage_may_differ_from_those_before(gemini: WireClient) -> None:
    order = "[[sim tokens=2 final_prompt_tokens=300 cached=5 tool_prompt=7 thoughts=0]]"
    first, last = [chunk["usageMetadata"] for chunk in gemini.stream(body(order))]
    assert first["promptTokenCount"] < 300
    assert last["promptTokenCount"] == 300
    assert last["totalTokenCount"] == 300 + 2 + 7
    assert last["cachedContentTokenCount"] == 5


def test_chunks_may_carry_several_tokens(gemini: WireClient) -> None:
    chunks = gemini.stream(body("[[sim tokens=7 chunk=3]]"))
    counts = [chunk["usageMetadata"]["candidatesTokenCount"] for chunk in chunks]
    assert counts == [3, 6, 7]


def test_a_gate_lets_through_what_is_released_and_no_more(gemini: WireClient) -> None:
    with gemini.open_stream(body("[[sim gate=one tokens=5]]")) as response:
        pieces = response.iter_raw()
        gemini.control("GET", "gates/one?waiting=1")
        gemini.control("POST", "gates/one", json={"tokens": 2})
        gemini.control("GET", "gates/one?waiting=1")  # all that was released has gone through
        recorded = gemini.control("GET", "requests")
        assert recorded["open_streams"] == 1
        assert recorded["requests"][-1]["tokens"] == 2
        gemini.control("DELETE", "gates/one")
        assert len(events(b"".join(pieces))) == 5


def test_a_stream_stalls_after_the_tokens_it_was_given(gemini: WireClient) -> None:
    with gemini.open_stream(body("[[sim stall_after=3 gate=two tokens=6]]")) as response:
        gemini.control("GET", "requests?tokens=3")
        gemini.control("GET", "gates/two?waiting=1")
        assert gemini.control("GET", "requests")["requests"][-1]["tokens"] == 3
        gemini.control("DELETE", "gates/two")
        assert len(events(b"".join(response.iter_raw()))) == 6


@pytest.mark.parametrize("method", ["streamGenerateContent?alt=sse", "generateContent"])
async def test_production_stops_when_the_client_goes_away(
    gemini: WireClient, simulator_url: str, method: str
) -> None:
    name = f"left-{len(method)}"
    client = WireClient(simulator_url)
    path = f"/v1beta/models/{FLASH_25}:{method}"
    request = body(f"[[sim stall_after=2 gate={name} tokens=500]]")
    async with httpx.AsyncClient(base_url=simulator_url, headers=client.http.headers) as leaving:
        task = asyncio.create_task(leaving.post(path, json=request))
        await asyncio.to_thread(gemini.control, "GET", f"gates/{name}?waiting=1")
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        seen = await asyncio.to_thread(gemini.control, "GET", "requests?ended=true&count=1")
    client.http.close()
    (entry,) = seen["requests"]
    assert (entry["state"], entry["disconnected"], entry["tokens"]) == ("disconnected", True, 2)
    assert seen["open_streams"] == 0


def test_the_record_shows_what_was_sent_but_no_key(gemini: WireClient) -> None:
    request = body("Look")
    gemini.http.post(f"/v1beta/models/{FLASH_25}:generateContent?key=secret-one", json=request)
    seen = gemini.control("GET", "requests")
    (entry,) = seen["requests"]
    assert entry["path"] == f"/v1beta/models/{FLASH_25}:generateContent"
    assert entry["body"] == request
    assert (entry["status"], entry["state"]) == (200, "completed")
    assert entry["key_sha256"]
    assert "secret-one" not in json.dumps(seen)
    assert "test-key" not in json.dumps(seen)


def test_orders_apply_to_every_step_of_a_turn_of_calls(gemini: WireClient) -> None:
    request = body("[[sim answer=done]]")
    call = {"name": "f", "args": {}}
    request["contents"] += [
        {"role": "model", "parts": [{"functionCall": call}]},
        {"role": "user", "parts": [{"functionResponse": {"name": "f", "response": {}}}]},
    ]
    assert parts(gemini.generate(request))[0]["text"] == "done"
