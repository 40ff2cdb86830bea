"""What a completion used, in the terms that are priced."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, fields, replace

from ai_proxy_service.core.gemini import (
    Candidate,
    GenerateContentResponse,
    GroundingMetadata,
    ModalityTokenCount,
    UsageMetadata,
)
from ai_proxy_service.core.gemini_answers import modality_name

AUDIO = "AUDIO"
IMAGE = "IMAGE"
# Kinds of tokens that Google's price list knows, in each direction.
_INPUT_KINDS = frozenset({"TEXT", IMAGE, AUDIO, "VIDEO", "DOCUMENT"})
_OUTPUT_KINDS = frozenset({"TEXT", IMAGE, AUDIO})
STANDARD_TIER = "standard"
# Types of server-side tools, as the parts of newer models name them.
_SEARCH_TOOLS = "GOOGLE_SEARCH"
_MAPS_TOOL = "GOOGLE_MAPS"


@dataclass(frozen=True, slots=True)
class TokenUsage:
    """Counts of one completion, as Gemini reported them.

    Attributes:
        prompt_tokens: `promptTokenCount`; cached tokens are inside it.
        tool_prompt_tokens: `toolUsePromptTokenCount`, which is not inside it.
        cached_tokens: `cachedContentTokenCount`.
        prompt_audio_tokens: the audio among `prompt_tokens`.
        cached_audio_tokens: the audio among `cached_tokens`.
        candidates_tokens: `candidatesTokenCount`, without thinking.
        thoughts_tokens: `thoughtsTokenCount`.
        output_audio_tokens: the audio among `candidates_tokens`.
        output_image_tokens: the images among `candidates_tokens`.
        prompt_other_tokens: what is of no known kind among `prompt_tokens`.
        output_other_tokens: what is of no known kind among `candidates_tokens`.
        total_tokens: `totalTokenCount`.
        search_queries: different queries to Google Search; not tokens.
        maps_queries: different queries to Google Maps; not tokens.
        service_tier: the tier that served it, in lower case; empty where it was not said.
    """

    prompt_tokens: int = 0
    tool_prompt_tokens: int = 0
    cached_tokens: int = 0
    prompt_audio_tokens: int = 0
    cached_audio_tokens: int = 0
    candidates_tokens: int = 0
    thoughts_tokens: int = 0
    output_audio_tokens: int = 0
    output_image_tokens: int = 0
    prompt_other_tokens: int = 0
    output_other_tokens: int = 0
    total_tokens: int = 0
    search_queries: int = 0
    maps_queries: int = 0
    service_tier: str = ""

    @property
    def input_tokens(self) -> int:
        """Tokens that are billed as input."""
        return self.prompt_tokens + self.tool_prompt_tokens

    @property
    def output_tokens(self) -> int:
        """Tokens that are billed as output: thinking is."""
        return self.candidates_tokens + self.thoughts_tokens

    def without_output(self) -> "TokenUsage":
        """Return what was used besides output."""
        return replace(
            self,
            candidates_tokens=0,
            thoughts_tokens=0,
            output_audio_tokens=0,
            output_image_tokens=0,
            output_other_tokens=0,
        )


_COUNTS = tuple(item.name for item in fields(TokenUsage) if item.type is int)


def usage_of(metadata: UsageMetadata, requested_tier: str = "") -> TokenUsage:
    """Read Gemini's counts; what is absent or negative counts as none.

    Args:
        metadata: one report.
        requested_tier: the service tier that counts where none is reported.
    """
    input_tokens = _count(metadata.prompt_token_count)
    tool_tokens = _count(metadata.tool_use_prompt_token_count)
    candidates = _count(metadata.candidates_token_count)
    thoughts = _count(metadata.thoughts_token_count)
    cached = min(_count(metadata.cached_content_token_count), input_tokens)
    prompt = _by_modality(metadata.prompt_tokens_details)
    audio = min(prompt.get(AUDIO, 0), input_tokens)
    in_cache = _by_modality(metadata.cache_tokens_details)
    output = _by_modality(metadata.candidates_tokens_details)
    output_audio = min(output.get(AUDIO, 0), candidates)
    output_images = min(output.get(IMAGE, 0), candidates - output_audio)
    return TokenUsage(
        prompt_tokens=input_tokens,
        tool_prompt_tokens=tool_tokens,
        cached_tokens=cached,
        prompt_audio_tokens=audio,
        cached_audio_tokens=min(in_cache.get(AUDIO, 0), audio, cached),
        candidates_tokens=candidates,
        thoughts_tokens=thoughts,
        output_audio_tokens=output_audio,
        output_image_tokens=output_images,
        prompt_other_tokens=min(_unknown(prompt, _INPUT_KINDS), input_tokens - audio),
        output_other_tokens=min(
            _unknown(output, _OUTPUT_KINDS), candidates - output_audio - output_images
        ),
        total_tokens=_count(metadata.total_token_count)
        or input_tokens + tool_tokens + candidates + thoughts,
        service_tier=(metadata.service_tier or requested_tier).lower(),
    )


def total_usage(usages: Sequence[TokenUsage]) -> TokenUsage:
    """Add up the counts of several completions; the tier is that of the last one."""
    total = usages[-1]
    for usage in usages[:-1]:
        sums = {name: getattr(total, name) + getattr(usage, name) for name in _COUNTS}
        total = replace(total, **sums)
    return total


class UsageTally:
    """Follows what one answer has used so far, chunk by chunk.

    Token counts are cumulative: the last report is the right one, never the sum. What was
    looked up is not among them, and is gathered from all chunks.

    Attributes:
        output_tokens: what is billed as output so far.
        largest_step_tokens: the most that came between two reports.
    """

    def __init__(self, requested_tier: str = STANDARD_TIER) -> None:
        """Start with nothing.

        Args:
            requested_tier: what counts where Gemini doesn't say which tier served.
        """
        self._requested_tier = requested_tier
        self.output_tokens = 0
        self.largest_step_tokens = 0
        self._report: UsageMetadata | None = None
        self._usage: TokenUsage | None = None
        self._lookups = LookupTally()

    def note(self, chunks: Iterable[GenerateContentResponse]) -> None:
        """Take the next chunks into account, in their order."""
        for chunk in chunks:
            report = chunk.usage_metadata
            if report is not None:
                self._report = report
                tokens = _count(report.candidates_token_count) + _count(report.thoughts_token_count)
                # Report by report: what arrives together was not produced in one step.
                self.largest_step_tokens = max(
                    self.largest_step_tokens, tokens - self.output_tokens
                )
                self.output_tokens = tokens
            self._lookups.note(chunk)
        # Read off the report only when somebody asks: most chunks of a stream nobody asks about.
        self._usage = None

    @property
    def input_counts(self) -> tuple[int, ...]:
        """What was used besides output: two that are equal cost the same."""
        report = self._report
        if report is None:
            return (self._lookups.noted,)
        return (
            report.prompt_token_count,
            report.tool_use_prompt_token_count,
            report.cached_content_token_count,
            self._lookups.noted,
        )

    @property
    def usage(self) -> TokenUsage | None:
        """What has been used; None before anything was reported."""
        if self._usage is None:
            self._usage = self._read()
        return self._usage

    def _read(self) -> TokenUsage | None:
        lookups = self._lookups
        counts = usage_of(self._report, self._requested_tier) if self._report is not None else None
        if not lookups.found:
            return counts
        return replace(
            counts or TokenUsage(service_tier=self._requested_tier),
            search_queries=lookups.search_queries,
            maps_queries=lookups.maps_queries,
        )


class LookupTally:
    """Counts what an answer looked up in Google Search and Maps.

    Google charges newer models for each different query, and ignores empty ones:
    https://ai.google.dev/gemini-api/docs/google-search#pricing

    Attributes:
        noted: how often something was said about lookups.
    """

    def __init__(self) -> None:
        """Start with nothing."""
        self.noted = 0
        self._queries: set[str] = set()
        self._maps_queries: set[str] = set()
        self._web_sources = False
        self._maps_sources = False

    @property
    def found(self) -> bool:
        """Whether anything was looked up."""
        return bool(self.search_queries or self.maps_queries)

    @property
    def search_queries(self) -> int:
        """The number of different queries to the web."""
        # Gemini lists queries to the map under the same name as those to the web.
        only_maps = self._maps_sources and not self._web_sources
        return 0 if only_maps else len(self._queries - self._maps_queries)

    @property
    def maps_queries(self) -> int:
        """The number of different queries to the map: at least one if places were found."""
        only_maps = self._maps_sources and not self._web_sources
        known = self._maps_queries | (self._queries if only_maps else set())
        return max(len(known), int(self._maps_sources))

    def note(self, chunk: GenerateContentResponse) -> None:
        """Take a chunk into account; a query that is repeated counts once."""
        for candidate in chunk.candidates or ():
            if candidate.grounding_metadata is not None:
                self.noted += 1
                self._note_grounding(candidate.grounding_metadata)
            self._note_calls(candidate)

    def _note_grounding(self, grounding: GroundingMetadata) -> None:
        self._queries.update(filter(None, grounding.web_search_queries or ()))
        # Pages that the request itself named count as sources, but were not searched for.
        for source in grounding.grounding_chunks or ():
            self._web_sources = self._web_sources or source.web is not None
            self._maps_sources = self._maps_sources or source.maps is not None

    def _note_calls(self, candidate: Candidate) -> None:
        """Read the queries off a model's own tool calls: some answers have them only there."""
        parts = candidate.content.parts if candidate.content is not None else None
        for part in parts or ():
            if part.tool_call is None:
                continue
            self.noted += 1
            tool = str(part.tool_call.get("toolType", ""))
            args = part.tool_call.get("args")
            queries = args.get("queries") if isinstance(args, dict) else None
            listed = queries if isinstance(queries, list) else ()
            texts = [query for query in listed if query and isinstance(query, str)]
            if tool.startswith(_SEARCH_TOOLS):
                self._queries.update(texts)
            elif tool == _MAPS_TOOL:
                self._maps_queries.update(texts)
                self._maps_sources = True


def _count(value: int) -> int:
    # A negative count would pay the client; Gemini never sends one, a broken proxy might.
    return max(0, value)


def _by_modality(details: list[ModalityTokenCount] | None) -> dict[str | None, int]:
    counts: dict[str | None, int] = {}
    for item in details or ():
        name = modality_name(item.modality)
        counts[name] = counts.get(name, 0) + _count(item.token_count)
    return counts


def _unknown(counts: dict[str | None, int], known: frozenset[str]) -> int:
    return sum(count for name, count in counts.items() if name not in known)
