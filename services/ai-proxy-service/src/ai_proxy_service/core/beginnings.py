"""How answers begin: what is read before anybody is shown anything, and whether it can be shown."""

from ai_proxy_service.core.completion import Completion
from ai_proxy_service.core.gemini import GenerateContentResponse
from ai_proxy_service.core.gemini_answers import (
    broken_finish,
    never_ends,
    says_nothing,
    shows_something,
)
from ai_proxy_service.core.interfaces import GeminiStream
from ai_proxy_service.core.meter import Meter
from ai_proxy_service.core.usage import UsageTally


async def first_chunks(
    stream: GeminiStream, tally: UsageTally, meter: Meter | None
) -> tuple[list[GenerateContentResponse], bool]:
    """Return what has come once there is something to show: before that, all can be undone.

    A model may think for long without showing it: that is metered, too, and the second value tells
    whether the account's credit has ended meanwhile.

    Args:
        stream: the answer.
        tally: takes note of what is read.
        meter: the answer's hold; None where nothing is enforced.
    """
    first = await stream.receive()
    tally.note(first)
    while first and not shows_something(first):
        if meter is not None and await meter.follow(tally):
            return first, True
        more = await stream.receive()
        if not more:
            break
        tally.note(more)
        first += more
    return first, False


def begins_broken(completion: Completion) -> bool:
    """Tell whether a stream has ended before there was anything to show, or says that it failed."""
    first = completion.first
    if completion.cut_off:
        return False
    if broken_finish(first) is not None:
        return True
    if shows_something(first):
        return False
    return never_ends(first) or not completion.order.may_be_empty


def is_unusable(completion: Completion) -> bool:
    """Tell whether a whole answer can't be shown to a client as one."""
    answer = completion.collected
    if broken_finish(answer) is not None or never_ends(answer):
        return True
    return says_nothing(answer) and not completion.order.may_be_empty


class WholeAnswer:
    """An answer that came in one piece, read as a stream of one chunk."""

    # Nothing is still to come that a limit could stop.
    received_bytes = 0

    def __init__(self, answer: GenerateContentResponse) -> None:
        self._left = [answer]

    async def receive(self) -> list[GenerateContentResponse]:
        """Return the answer, and then the end."""
        chunks, self._left = self._left, []
        return chunks

    async def aclose(self) -> None:
        """Nothing is open."""
