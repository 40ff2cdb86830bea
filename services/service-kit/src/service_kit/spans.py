"""What a span is to those who make one: recorded, or nothing at all."""

from collections.abc import Mapping
from contextvars import ContextVar
from types import TracebackType
from typing import TYPE_CHECKING, Any, Literal, Self

if TYPE_CHECKING:
    from service_kit.trace_export import Exporting

Kind = Literal["internal", "server", "client"]
Value = str | bool | int | float | list[str]

_REFUSED = 400


def error_type_of(error: BaseException) -> str:
    """Return the class of an error: its code, if it has one; never its text."""
    code = getattr(error, "code", None)
    return code if isinstance(code, str) and code else type(error).__name__


class Span:
    """A span that does nothing, and the form of those that do.

    As a context manager it is the current one inside, and marked as failed by what it raises.
    """

    __slots__ = ()
    trace_id: str = ""
    recording: bool = False

    def set(self, attributes: Mapping[str, Value]) -> None:
        """Record attributes."""

    def event(self, name: str) -> None:
        """Record that something happens now."""

    def fail(self, error_type: str) -> None:
        """Mark as failed.

        Args:
            error_type: a class of errors, such as a code; never a message.
        """

    def answered(self, status: int) -> None:
        """Record the status of the answer to a call of ours; one that refuses is a failure."""

    def rename(self, name: str) -> None:
        """Give it another name."""

    def link(self, other: "Span") -> None:
        """Record that another span, which may be in another trace, belongs to this one."""

    def end(self) -> None:
        """Record that it ends now; once."""

    def headers(self) -> dict[str, str]:
        """Return the headers that make the next service's spans children of this one."""
        return {}

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        _kind: type[BaseException] | None,
        error: BaseException | None,
        _traceback: TracebackType | None,
    ) -> None:
        """Do nothing."""


class _Entered(Span):
    """A span that is the current one inside its `with`."""

    __slots__ = ("_token",)

    def __enter__(self) -> Self:
        self._token = _current.set(self)
        return self

    def __exit__(
        self,
        _kind: type[BaseException] | None,
        error: BaseException | None,
        _traceback: TracebackType | None,
    ) -> None:
        _current.reset(self._token)
        if error is not None:
            self.fail(error_type_of(error))
        self.end()


class PassedOn(_Entered):
    """A client's trace where nothing is recorded: its headers go on as they are."""

    __slots__ = ("_headers", "trace_id")

    def __init__(self, trace_id: str, headers: dict[str, str]) -> None:
        self.trace_id = trace_id
        self._headers = headers

    def headers(self) -> dict[str, str]:
        """See `Span`."""
        return dict(self._headers)


class LiveSpan(_Entered):
    """A span that is recorded; `service_kit.trace_export` has the details."""

    __slots__ = ("_exporting", "recording", "span", "trace_id")

    def __init__(self, exporting: "Exporting", span: Any) -> None:
        self._exporting = exporting
        self.span = span
        self.recording = span.is_recording()
        self.trace_id = f"{span.get_span_context().trace_id:032x}"

    def set(self, attributes: Mapping[str, Value]) -> None:
        """See `Span`."""
        self.span.set_attributes(attributes)

    def event(self, name: str) -> None:
        """See `Span`."""
        self.span.add_event(name)

    def fail(self, error_type: str) -> None:
        """See `Span`."""
        self._exporting.fail(self.span, error_type)

    def answered(self, status: int) -> None:
        """See `Span`."""
        self.set({"http.response.status_code": status})
        if status >= _REFUSED:
            self.fail(str(status))

    def rename(self, name: str) -> None:
        """See `Span`."""
        self.span.update_name(name)

    def link(self, other: Span) -> None:
        """See `Span`."""
        if isinstance(other, LiveSpan):
            self.span.add_link(other.span.get_span_context())

    def end(self) -> None:
        """See `Span`."""
        self.span.end()

    def headers(self) -> dict[str, str]:
        """See `Span`."""
        return self._exporting.headers(self.span)


NO_SPAN = Span()
_current: ContextVar[Span] = ContextVar("span", default=NO_SPAN)


def current_span() -> Span:
    """Return the span that what runs here belongs to; one that does nothing if there is none."""
    return _current.get()
