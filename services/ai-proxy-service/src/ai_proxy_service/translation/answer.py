"""Collects Gemini's chunks into one answer: what was said, and how it ended."""

from dataclasses import dataclass, field

from ai_proxy_service.core.errors import UpstreamError
from ai_proxy_service.core.gemini import GenerateContentResponse
from ai_proxy_service.translation.finish import BROKEN, CONTENT_FILTER, finish_reason, prompt_block

UNSPECIFIED = "FINISH_REASON_UNSPECIFIED"


@dataclass(slots=True)
class Delta:
    """What one chunk adds."""

    text: str = ""
    reasoning: str = ""


@dataclass(slots=True)
class AnswerState:
    """An answer as far as it has come. One pass, no chunk is looked at twice.

    Attributes:
        has_output: whether any text has come.
        native_finish: Gemini's latest finish reason. Some streams have several; only the
            one that stands at the end counts.
        blocked: why the prompt was refused as a whole, if it was.
    """

    has_output: bool = False
    native_finish: str | None = None
    blocked: str | None = None
    texts: list[str] = field(default_factory=list)
    thoughts: list[str] = field(default_factory=list)

    def add(self, chunk: GenerateContentResponse) -> Delta:
        """Take a chunk and return what it adds to the first candidate."""
        delta = Delta()
        self.blocked = self.blocked or prompt_block(chunk)
        for candidate in chunk.candidates or ():
            if candidate.index:
                continue
            if candidate.finish_reason and candidate.finish_reason != UNSPECIFIED:
                self.native_finish = candidate.finish_reason
            for part in (candidate.content and candidate.content.parts) or ():
                if not part.text:
                    continue
                if part.thought:
                    delta.reasoning += part.text
                else:
                    delta.text += part.text
        self.has_output = self.has_output or bool(delta.text)
        return delta

    def collect(self, chunk: GenerateContentResponse) -> None:
        """Take a chunk and keep what it says."""
        delta = self.add(chunk)
        if delta.text:
            self.texts.append(delta.text)
        if delta.reasoning:
            self.thoughts.append(delta.reasoning)

    @property
    def refusal(self) -> str | None:
        """The text that tells of a blocked prompt."""
        return f"Blocked: {self.blocked}" if self.blocked else None

    def finish(self) -> str:
        """Return OpenAI's finish reason, once the answer has ended.

        Raises:
            UpstreamError: the answer is broken, or broke off without a reason.
        """
        if self.native_finish in BROKEN:
            raise UpstreamError(
                "The model produced an answer that can't be used. Please try again.",
                code=self.native_finish.lower(),
            )
        if self.native_finish is not None:
            return finish_reason(self.native_finish, has_output=self.has_output)
        if self.blocked:
            return CONTENT_FILTER
        raise broken_off()


def broken_off() -> UpstreamError:
    """Return the error for an answer that ended without saying why."""
    return UpstreamError("The model's answer broke off. Please try again.")
