"""Why a command could not do what was asked, and the exit code that says so."""

from enum import IntEnum
from typing import Any

Json = dict[str, Any]


class ExitCode(IntEnum):
    """How a command ended.

    Attributes:
        OK: done.
        REFUSED: the service or the ledger said no, or violations were found.
        USAGE: the command can't be understood, or its settings can't be used.
        UNKNOWN: the service or the database can't be reached, or its answer was lost.
    """

    OK = 0
    REFUSED = 1
    USAGE = 2
    UNKNOWN = 3


class CommandError(Exception):
    """A command ends without having done what was asked; the message says what to do next.

    Attributes:
        exit_code: of the process.
        facts: what scripts get beside the message.
    """

    def __init__(self, message: str, exit_code: ExitCode, facts: Json | None = None) -> None:
        super().__init__(message)
        self.exit_code = exit_code
        self.facts = facts or {}

    def document(self) -> Json:
        """Return what scripts get instead of the answer."""
        return {"detail": str(self), **self.facts, "exit_code": int(self.exit_code)}


def refused(message: str) -> CommandError:
    """Return the error of something that will not be done, for a known reason."""
    return CommandError(message, ExitCode.REFUSED)


def usage(message: str) -> CommandError:
    """Return the error of a command that makes no sense as it is."""
    return CommandError(message, ExitCode.USAGE)
