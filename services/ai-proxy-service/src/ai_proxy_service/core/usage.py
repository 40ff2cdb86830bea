"""What a completion used, in the terms that are priced."""

from dataclasses import dataclass

from ai_proxy_service.core.gemini import ModalityTokenCount, UsageMetadata

AUDIO = "AUDIO"


@dataclass(frozen=True, slots=True)
class TokenUsage:
    """Token counts of one completion, as Gemini reported them.

    Attributes:
        prompt_tokens: `promptTokenCount`; cached tokens are inside it.
        tool_prompt_tokens: `toolUsePromptTokenCount`, which is not inside it.
        cached_tokens: `cachedContentTokenCount`.
        prompt_audio_tokens: the audio among `prompt_tokens`.
        cached_audio_tokens: the audio among `cached_tokens`.
        candidates_tokens: `candidatesTokenCount`, without thinking.
        thoughts_tokens: `thoughtsTokenCount`.
        output_audio_tokens: the audio among `candidates_tokens`.
        total_tokens: `totalTokenCount`.
    """

    prompt_tokens: int = 0
    tool_prompt_tokens: int = 0
    cached_tokens: int = 0
    prompt_audio_tokens: int = 0
    cached_audio_tokens: int = 0
    candidates_tokens: int = 0
    thoughts_tokens: int = 0
    output_audio_tokens: int = 0
    total_tokens: int = 0

    @property
    def input_tokens(self) -> int:
        """Tokens that are billed as input."""
        return self.prompt_tokens + self.tool_prompt_tokens

    @property
    def output_tokens(self) -> int:
        """Tokens that are billed as output: thinking is."""
        return self.candidates_tokens + self.thoughts_tokens


def usage_of(metadata: UsageMetadata) -> TokenUsage:
    """Read Gemini's counts; what is absent or negative counts as none."""
    input_tokens = _count(metadata.prompt_token_count)
    tool_tokens = _count(metadata.tool_use_prompt_token_count)
    candidates = _count(metadata.candidates_token_count)
    thoughts = _count(metadata.thoughts_token_count)
    cached = min(_count(metadata.cached_content_token_count), input_tokens)
    audio = min(_modality(metadata.prompt_tokens_details, AUDIO), input_tokens)
    cached_audio = min(_modality(metadata.cache_tokens_details, AUDIO), audio, cached)
    return TokenUsage(
        prompt_tokens=input_tokens,
        tool_prompt_tokens=tool_tokens,
        cached_tokens=cached,
        prompt_audio_tokens=audio,
        cached_audio_tokens=cached_audio,
        candidates_tokens=candidates,
        thoughts_tokens=thoughts,
        output_audio_tokens=min(_modality(metadata.candidates_tokens_details, AUDIO), candidates),
        total_tokens=_count(metadata.total_token_count)
        or input_tokens + tool_tokens + candidates + thoughts,
    )


def _count(value: int) -> int:
    # A negative count would pay the client; Gemini never sends one, a broken proxy might.
    return max(0, value)


def _modality(details: list[ModalityTokenCount] | None, modality: str) -> int:
    return sum(_count(item.token_count) for item in details or () if item.modality == modality)
