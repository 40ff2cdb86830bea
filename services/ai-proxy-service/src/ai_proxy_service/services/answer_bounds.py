"""How much is kept of answers under idempotency keys, and how long."""

from dataclasses import dataclass

ANSWERS_MAX = 100_000
STORED_BYTES_MAX = 512 * 1024 * 1024
EXPIRE_SECONDS = 24 * 3600


@dataclass(frozen=True, slots=True)
class AnswerBounds:
    """How much is kept, and how long.

    Attributes:
        answers: the most keys; the oldest beyond them are forgotten.
        stored_bytes: the most that answers weigh together; of the oldest beyond that is only kept
            that they were given.
        seconds: how long each is kept.
    """

    answers: int = ANSWERS_MAX
    stored_bytes: int = STORED_BYTES_MAX
    seconds: float = EXPIRE_SECONDS


BOUNDS = AnswerBounds()
