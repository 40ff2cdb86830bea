"""What Gemini's chunks add to an answer, piece by piece, and how the answer ends. One pass."""

import secrets
from dataclasses import dataclass, field
from enum import Enum, auto
from typing import NamedTuple

from ai_proxy_service.core.errors import unusable_answer
from ai_proxy_service.core.gemini import (
    Blob,
    Candidate,
    FunctionCall,
    GenerateContentResponse,
    GroundingMetadata,
    LogprobsResult,
    Part,
)
from ai_proxy_service.core.gemini_answers import BROKEN_FINISHES, finish_name
from ai_proxy_service.translation.finish import CONTENT_FILTER, LENGTH, finish_reason, prompt_block
from ai_proxy_service.translation.partial_args import PartialCall, arguments_text
from ai_proxy_service.translation.remembered import Remembered
from ai_proxy_service.translation.tools import CUSTOM_INPUT, Toolbox, ToolKind

UNSPECIFIED = "FINISH_REASON_UNSPECIFIED"
CALL_ID_CHARS_MAX = 64


class Kind(Enum):
    """What a piece of an answer is."""

    CONTENT = auto()
    REASONING = auto()
    CALL = auto()
    IMAGE = auto()
    AUDIO = auto()


@dataclass(frozen=True, slots=True)
class Call:
    """A tool call, as the client is to see it.

    Attributes:
        position: its place among the calls of its candidate, from 0.
        text: the arguments as JSON, or a custom tool's input.
        remembered: what Gemini wants to see again with it.
    """

    position: int
    call_id: str
    name: str
    kind: ToolKind
    text: str
    remembered: Remembered


class Piece(NamedTuple):
    """What a part adds to one candidate; `text` or the other member that its kind has."""

    candidate: int
    kind: Kind
    text: str = ""
    call: Call | None = None
    blob: Blob | None = None


@dataclass(slots=True)
class CandidateState:
    """One of the answers side by side, as far as it has come.

    Attributes:
        native_finish: Gemini's latest finish reason. Some streams have several; only the
            one that stands at the end counts.
        contents: what stands in the content, in order.
        inserted: which of them are not Gemini's text: programs and what they printed.
        signature: the thought signature of an answer without calls.
        groundings: what was looked up.
        logprobs: of all tokens.
    """

    index: int
    native_finish: str | None = None
    has_output: bool = False
    contents: list[str] = field(default_factory=list)
    inserted: set[int] = field(default_factory=set)
    thoughts: list[str] = field(default_factory=list)
    calls: list[Call] = field(default_factory=list)
    images: list[Blob] = field(default_factory=list)
    sounds: list[Blob] = field(default_factory=list)
    signature: str | None = None
    groundings: list[GroundingMetadata] = field(default_factory=list)
    logprobs: list[LogprobsResult] = field(default_factory=list)
    partial: PartialCall | None = None
    # Calls are let out when the next chunk shows that Gemini's own servers don't answer them.
    held: list[tuple[FunctionCall, Remembered]] = field(default_factory=list)
    before_call: list[dict[str, object]] = field(default_factory=list)
    partial_signature: str | None = None


@dataclass(slots=True)
class AnswerState:
    """An answer as far as it has come; no chunk is looked at twice.

    Args:
        toolbox: the tools that the client declared.
        one_call: the client wants at most one call in an answer.
        may_be_empty: an answer without anything is one; else it is a failure.

    Attributes:
        candidates: by index.
        blocked: why the prompt was refused as a whole, if it was.
    """

    toolbox: Toolbox = field(default_factory=Toolbox)
    one_call: bool = False
    may_be_empty: bool = True
    candidates: dict[int, CandidateState] = field(default_factory=dict)
    blocked: str | None = None
    _ids: set[str] = field(default_factory=set)

    def add(self, chunk: GenerateContentResponse) -> list[Piece]:
        """Take a chunk and return what it adds."""
        pieces: list[Piece] = []
        if not chunk.candidates:
            self.blocked = self.blocked or prompt_block(chunk)
            return pieces
        for candidate in chunk.candidates:
            state = self.candidate(candidate.index or 0)
            reason = finish_name(candidate.finish_reason)
            if reason is not None and (reason != UNSPECIFIED or state.native_finish is None):
                state.native_finish = reason
            parts = (candidate.content and candidate.content.parts) or ()
            if state.held:
                self._let_out(state, parts, pieces)
            for part in parts:
                self._add_part(state, part, pieces)
            self._note_rest(state, candidate)
        return pieces

    def finish(self) -> list[Piece]:
        """Return what was held back, once no more chunks come."""
        pieces: list[Piece] = []
        for state in self.candidates.values():
            self._let_out(state, (), pieces)
        return pieces

    def candidate(self, index: int) -> CandidateState:
        """Return the state of one of the answers side by side."""
        state = self.candidates.get(index)
        if state is None:
            state = self.candidates[index] = CandidateState(index)
        return state

    def _add_part(self, state: CandidateState, part: Part, pieces: list[Piece]) -> None:
        if part.text is not None and part.function_call is None:
            if part.text:
                self._add_text(state, part.text, pieces, thought=bool(part.thought))
        elif part.function_call is not None:
            self._add_call(state, part.function_call, part.thought_signature)
            return
        elif part.function_response is not None:
            _answered(state, part)
        elif part.inline_data is not None and not part.thought:
            self._add_blob(state, part.inline_data, pieces)
        elif part.executable_code is not None:
            language = str(part.executable_code.language or "").lower()
            name = language if language.isalpha() and "unspecified" not in language else "python"
            self._add_block(state, name, part.executable_code.code, pieces)
        elif part.code_execution_result is not None:
            self._add_block(state, "", part.code_execution_result.output, pieces)
        elif part.tool_call is not None or part.tool_response is not None:
            state.before_call.append(_as_sent(part))
            return
        if part.thought_signature is not None and not part.thought:
            state.signature = part.thought_signature

    @staticmethod
    def _add_text(state: CandidateState, text: str, pieces: list[Piece], *, thought: bool) -> None:
        if thought:
            state.thoughts.append(text)
            pieces.append(Piece(state.index, Kind.REASONING, text))
        else:
            state.has_output = True
            state.contents.append(text)
            pieces.append(Piece(state.index, Kind.CONTENT, text))

    def _add_block(
        self, state: CandidateState, language: str, text: str, pieces: list[Piece]
    ) -> None:
        """Show a program, or what it printed, as a block of its own in the text."""
        opening = "" if not state.contents or state.contents[-1].endswith("\n") else "\n"
        closing = "" if text.endswith("\n") else "\n"
        state.inserted.add(len(state.contents))
        block = f"{opening}```{language}\n{text}{closing}```\n"
        self._add_text(state, block, pieces, thought=False)

    @staticmethod
    def _add_blob(state: CandidateState, blob: Blob, pieces: list[Piece]) -> None:
        state.has_output = True
        if blob.mime_type.startswith("audio/"):
            state.sounds.append(blob)
            pieces.append(Piece(state.index, Kind.AUDIO, blob=blob))
        else:
            state.images.append(blob)
            pieces.append(Piece(state.index, Kind.IMAGE, blob=blob))

    def _add_call(self, state: CandidateState, call: FunctionCall, signature: str | None) -> None:
        if state.partial is not None and not call.name:
            state.partial.add(call)
            if call.will_continue:
                return
            call, signature = state.partial.whole(), state.partial_signature
            state.partial = None
        elif call.will_continue:
            state.partial, state.partial_signature = PartialCall(call), signature
            return
        if not call.name:
            return
        if call.partial_args:
            call = PartialCall(call).whole()
        before, state.before_call = state.before_call, []
        state.held.append((call, Remembered(signature, before or None)))

    def _let_out(
        self, state: CandidateState, parts: "list[Part] | tuple[()]", pieces: list[Piece]
    ) -> None:
        """Tell of the calls that are for the client, now that the next parts are there."""
        for part in parts:
            if part.function_response is not None:
                _answered(state, part)
        for call, remembered in state.held:
            if not (self.one_call and state.calls):
                told = self._tell(state, call, remembered)
                state.calls.append(told)
                pieces.append(Piece(state.index, Kind.CALL, call=told))
                state.has_output = True
        state.held.clear()

    def _tell(self, state: CandidateState, call: FunctionCall, remembered: Remembered) -> Call:
        name = self.toolbox.names.to_client(call.name or "")
        kind: ToolKind = "function"
        text = arguments_text(call.args)
        if self.toolbox.legacy:
            kind = "legacy"
        elif name in self.toolbox.names.custom:
            kind = "custom"
            text = str((call.args or {}).get(CUSTOM_INPUT, ""))
        return Call(len(state.calls), self._call_id(call.id), name, kind, text, remembered)

    def _call_id(self, given: str | None) -> str:
        """Return Gemini's id if a client can use it, else one of our own."""
        usable = given and len(given) <= CALL_ID_CHARS_MAX and given not in self._ids
        call_id = given if given and usable else f"call_{secrets.token_hex(12)}"
        self._ids.add(call_id)
        return call_id

    @staticmethod
    def _note_rest(state: CandidateState, candidate: Candidate) -> None:
        if candidate.grounding_metadata is not None:
            state.groundings.append(candidate.grounding_metadata)
        if candidate.logprobs_result is not None:
            state.logprobs.append(candidate.logprobs_result)

    @property
    def refusal(self) -> str | None:
        """The text that tells of a blocked prompt."""
        return f"Blocked: {self.blocked}" if self.is_blocked else None

    @property
    def is_blocked(self) -> bool:
        """Whether the prompt was refused as a whole."""
        return self.blocked is not None and not self.candidates

    def native_reason(self, index: int) -> str | None:
        """Return Gemini's own reason for the end of one of the answers, or for refusing all."""
        state = self.candidates.get(index)
        return self.blocked if state is None else state.native_finish

    def remembered(self) -> dict[str, bytes]:
        """Return what Gemini wants to see again with the calls of this answer, by their ids."""
        return {
            call.call_id: call.remembered.encode()
            for state in self.candidates.values()
            for call in state.calls
            if call.remembered
        }

    def reasons(self, choices: int, *, cut_off: bool = False) -> dict[int, str]:
        """Return OpenAI's finish reason of each answer by its index, once all has come.

        Args:
            choices: how many were asked for.
            cut_off: they were stopped on the way.

        Raises:
            UpstreamError: one is broken, or broke off without a reason.
        """
        if self.is_blocked:
            return {0: CONTENT_FILTER}
        return {index: self.reason(index, cut_off=cut_off) for index in range(choices)}

    def reason(self, index: int = 0, *, cut_off: bool = False) -> str:
        """Return OpenAI's finish reason of one of the answers; see `reasons`.

        Raises:
            UpstreamError: the answer is broken, or broke off without a reason.
        """
        if self.is_blocked:
            return CONTENT_FILTER
        state = self.candidates.get(index)
        if state is None or state.native_finish is None:
            if cut_off:
                return LENGTH
            raise unusable_answer(None)
        if state.native_finish in BROKEN_FINISHES:
            raise unusable_answer(state.native_finish)
        if state.native_finish == "STOP" and not state.has_output and not self.may_be_empty:
            # Agents take it for the end of their work.
            raise unusable_answer("empty_answer")
        calls = None
        if state.calls:
            calls = "function_call" if self.toolbox.legacy else "tool_calls"
        return finish_reason(state.native_finish, has_output=state.has_output, calls=calls)


def _answered(state: CandidateState, part: Part) -> None:
    """Forget a call that Gemini's own servers have made and answered: it is not the client's."""
    assert part.function_response is not None
    for number, (call, _) in enumerate(state.held):
        if call.name == part.function_response.name:
            del state.held[number]
            return


def _as_sent(part: Part) -> dict[str, object]:
    sent: dict[str, object] = {}
    if part.tool_call is not None:
        sent["toolCall"] = part.tool_call
    if part.tool_response is not None:
        sent["toolResponse"] = part.tool_response
    if part.thought_signature is not None:
        sent["thoughtSignature"] = part.thought_signature
    return sent
