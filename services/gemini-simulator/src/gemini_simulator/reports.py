"""What a response reports besides the answer: token counts, and searches made for it."""

from typing import Any

from gemini_simulator.answer import Answer
from gemini_simulator.behaviour import Behaviour
from gemini_simulator.prompt import details


def has_usage(policy: str, number: int, *, last: bool) -> bool:
    """Tell whether the chunk of this number reports usage."""
    if policy == "none":
        return False
    return policy == "all" or last or (policy != "last" and number % int(policy) == 0)


def tools_are_due(behaviour: Behaviour, tokens: int, *, last: bool) -> bool:
    """Tell whether so late in the answer it is known what the service's own tools did."""
    return last or (behaviour.tools_after is not None and tokens >= behaviour.tools_after)


def grounding(behaviour: Behaviour) -> dict[str, Any]:
    """Return what a candidate says of the searches made for it."""
    if not behaviour.searches:
        return {}
    queries = [f"query {number}" for number in range(1, behaviour.searches + 1)]
    source = {"web": {"uri": "https://example.com/found", "title": "example.com"}}
    return {"groundingMetadata": {"webSearchQueries": queries, "groundingChunks": [source]}}


def usage_metadata(
    answer: Answer,
    behaviour: Behaviour,
    tokens: int,
    thoughts: int,
    *,
    last: bool,
    tools_told: bool,
) -> dict[str, Any]:
    """Return the counts so far.

    Args:
        answer: what is being sent.
        behaviour: what the test ordered.
        tokens: answer tokens sent.
        thoughts: thinking tokens spent.
        last: no report comes after this one.
        tools_told: what the service's own tools read is counted.
    """
    prompt = answer.prompt.copy()
    if last and behaviour.final_prompt_tokens is not None:
        prompt.clear()
        prompt["TEXT"] = behaviour.final_prompt_tokens
    used_by_tools = behaviour.tool_prompt if tools_told else 0
    usage: dict[str, Any] = {"promptTokenCount": prompt.total()}
    if tokens:
        usage["candidatesTokenCount"] = tokens
    usage["totalTokenCount"] = prompt.total() + tokens + thoughts + used_by_tools
    if behaviour.cached:
        cached = min(behaviour.cached, prompt.total())
        usage["cachedContentTokenCount"] = cached
        usage["cacheTokensDetails"] = [{"modality": "TEXT", "tokenCount": cached}]
    usage["promptTokensDetails"] = details(prompt)
    if tokens and answer.model.generation == (2, 0):
        usage["candidatesTokensDetails"] = [{"modality": "TEXT", "tokenCount": tokens}]
    if used_by_tools:
        usage["toolUsePromptTokenCount"] = used_by_tools
        usage["toolUsePromptTokensDetails"] = [{"modality": "TEXT", "tokenCount": used_by_tools}]
    if thoughts:
        usage["thoughtsTokenCount"] = thoughts
    usage["serviceTier"] = "standard"
    return usage
