"""Failures that the service expects.

ConfigurationError          at start: says what to set
ServiceError (kit)          status, code and text that a client may see
└── LedgerUnavailableError  503: nothing is known to have failed but the database's answer
"""

from service_kit.errors import ServiceError

RETRY_AFTER_SECONDS = 1


class ConfigurationError(Exception):
    """The service can't start as it is set up; the message says what to do."""


class LedgerUnavailableError(ServiceError):
    """The ledger could not be asked, so nothing can be said: neither yes nor no."""

    status = 503
    code = "ledger_unavailable"

    def __init__(
        self, message: str = "The ledger can't be reached at the moment. Please try again."
    ) -> None:
        super().__init__(message, headers={"retry-after": str(RETRY_AFTER_SECONDS)})


class AccountsLockedError(LedgerUnavailableError):
    """Another session keeps accounts locked for longer than is waited for them.

    Attributes:
        positions: which of the commands are about such accounts; none of any was run.
    """

    def __init__(self, positions: frozenset[int]) -> None:
        super().__init__()
        self.positions = positions
