"""What streams report on the way: thinking step by step, and what the service's own tools did."""

from simulator.wire_client import WireClient, body, parts

THINKING = {"generationConfig": {"thinkingConfig": {"includeThoughts": True}}}


def test_thinking_may_come_in_steps_that_a_gate_holds(gemini: WireClient) -> None:
    order = "[[sim tokens=1 thoughts=7 thought_chunk=3 gate=thinking]]"
    gemini.control("POST", "gates/thinking", json={"tokens": 8})

    chunks = gemini.stream(body(order, **THINKING))

    thoughts = [chunk["usageMetadata"].get("thoughtsTokenCount", 0) for chunk in chunks]
    assert thoughts == [3, 6, 7, 7]
    assert [bool(parts(chunk)[0].get("thought")) for chunk in chunks] == [True, True, True, False]
    assert gemini.control("GET", "gates/thinking")["released"] == 0


def test_what_tools_did_is_told_from_the_token_that_is_named(gemini: WireClient) -> None:
    order = "[[sim tokens=4 thoughts=0 tool_prompt=9 searches=2 tools_after=2]]"

    chunks = gemini.stream(body(order))

    read = [chunk["usageMetadata"].get("toolUsePromptTokenCount", 0) for chunk in chunks]
    assert read == [0, 9, 9, 9]
    grounded = [chunk["candidates"][0].get("groundingMetadata") for chunk in chunks]
    assert [found is not None for found in grounded] == [False, True, False, False]
    assert grounded[1] is not None
    assert grounded[1]["webSearchQueries"] == ["query 1", "query 2"]


def test_what_tools_did_is_told_at_the_end_by_itself(gemini: WireClient) -> None:
    order = "[[sim tokens=2 thoughts=0 tool_prompt=9 searches=1]]"

    first, last = gemini.stream(body(order))
    whole = gemini.generate(body(order))

    assert "groundingMetadata" not in first["candidates"][0]
    assert "toolUsePromptTokenCount" not in first["usageMetadata"]
    assert last["usageMetadata"] == whole["usageMetadata"]
    grounding = whole["candidates"][0]["groundingMetadata"]
    assert last["candidates"][0]["groundingMetadata"] == grounding


def test_the_last_usage_that_was_sent_is_on_record(gemini: WireClient) -> None:
    chunks = gemini.stream(body("[[sim tokens=5 usage=2]]"))
    whole = gemini.generate(body("whole"))

    recorded = gemini.control("GET", "requests")["requests"]

    assert recorded[-2]["usage"] == chunks[-1]["usageMetadata"]
    assert recorded[-1]["usage"] == whole["usageMetadata"]
