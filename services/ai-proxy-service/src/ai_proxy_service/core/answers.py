"""What is known of the answer under a client's idempotency key, and the store that knows it."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Protocol


class KeyState(StrEnum):
    """How far an answer has come."""

    RUNNING = "running"
    DONE = "done"
    # The others were charged but can't be shown again: a repeat is refused, not charged anew.
    TOO_LARGE = "too_large"
    LOST = "lost"
    PRUNED = "pruned"


@dataclass(frozen=True, slots=True)
class KeyEntry:
    """What a store knows of one key.

    Attributes:
        fingerprint: of the request that is answered.
        token: names the run that answers it; each run has its own.
        state: how far it has come.
        charged: a charge for it may have been made.
        beat: grows whenever the run reports; one that stands still has no process any more.
        pieces: how many pieces of the answer are kept.
    """

    fingerprint: bytes
    token: bytes
    state: KeyState = KeyState.RUNNING
    charged: bool = False
    beat: int = 0
    pieces: int = 0


@dataclass(frozen=True, slots=True)
class KeyReport:
    """What the run of an answer reports of it.

    Attributes:
        position: how many pieces were kept before.
        pieces: what has come since.
        charged: a charge may have been made, or is about to be.
        state: how far it has come.
    """

    position: int = 0
    pieces: Sequence[bytes] = ()
    charged: bool = False
    state: KeyState = KeyState.RUNNING


class AnswerStore(Protocol):
    """Keeps answers by the name of their key for a while. Any method may fail in any way."""

    @property
    def timeout_seconds(self) -> float:
        """How long a call may take."""

    async def claim(
        self, name: bytes, fingerprint: bytes, token: bytes, stale: KeyEntry | None
    ) -> KeyEntry:
        """Take a key for a run, by the rule of `claimed`, and return what holds then."""

    async def report(self, name: bytes, token: bytes, report: KeyReport) -> bool:
        """Keep what a run reports, by the rule of `reported`; return whether the key is its own.

        The same report may be made twice, if it is not known whether it has arrived.
        """

    async def read(
        self, name: bytes, token: bytes, position: int
    ) -> tuple[KeyEntry, list[bytes]] | None:
        """Return what is known of a run and some of its pieces from a position on.

        Returns:
            None if the key is not the run's any more.
        """

    async def drop(self, name: bytes, token: bytes) -> None:
        """Forget a key, if it is the run's: nothing was charged, so it may be tried again."""

    async def aclose(self) -> None:
        """Let go of what is held."""


def claimed(
    known: KeyEntry | None, fingerprint: bytes, token: bytes, stale: KeyEntry | None
) -> KeyEntry:
    """Return what holds of a key after a run has asked for it.

    Args:
        known: what held before.
        fingerprint: of the run's request.
        token: the run's.
        stale: what was last seen of an earlier run that has reported nothing for too long. If it
            has still not, its key is taken over; but if it may have been charged, it is lost.
    """
    fresh = KeyEntry(fingerprint, token)
    if known is None:
        return fresh
    if (
        stale is None
        or known.state is not KeyState.RUNNING
        or (known.token, known.beat) != (stale.token, stale.beat)
    ):
        return known
    return replace(known, state=KeyState.LOST) if known.charged else fresh


def reported(known: KeyEntry, report: KeyReport) -> KeyEntry:
    """Return what holds of a key after its run has reported."""
    keeps = report.state in {KeyState.RUNNING, KeyState.DONE}
    return replace(
        known,
        state=report.state,
        charged=known.charged or report.charged,
        beat=known.beat + 1,
        pieces=report.position + len(report.pieces) if keeps else 0,
    )
