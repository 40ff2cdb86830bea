"""How long work tells how far it is."""

from collections.abc import Callable

# What is being done, how much of it is done, how much there is if that is known.
Report = Callable[[str, int, int | None], None]


def silent(_what: str, _done: int, _total: int | None) -> None:
    """Tell nobody."""
