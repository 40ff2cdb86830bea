"""The period that is looked at."""

import msgspec

from credits_service.core.moments import MICROS_PER_SECOND

_SECONDS_PER_HOUR = 3600


class Period(msgspec.Struct, frozen=True):
    """From one moment up to another, which is not in it."""

    from_micros: int
    to_micros: int

    def __contains__(self, at_micros: int) -> bool:
        """Whether a moment is in it."""
        return self.from_micros <= at_micros < self.to_micros

    def widened(self, hours: int) -> "Period":
        """Return a longer one: by a margin on both sides."""
        margin_micros = hours * _SECONDS_PER_HOUR * MICROS_PER_SECOND
        return Period(self.from_micros - margin_micros, self.to_micros + margin_micros)
