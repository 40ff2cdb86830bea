"""The options that commands about issued keys share, and the body that they make."""

from typing import Annotated, get_args

import typer

from credits_service.cli.amounts import NONE, amount_or_none
from credits_service.cli.failures import Json
from credits_service.keys.state import Scope

_NONE_OR = "or the word none"
_SCOPES: tuple[str, ...] = get_args(Scope)


def count_or_none(text: str) -> str:
    """Check a number greater than 0, or the word ``none``.

    Raises:
        BadParameter: it is neither.
    """
    if text != NONE and not (text.isascii() and text.isdecimal() and int(text) > 0):
        raise typer.BadParameter(f"{text!r}: a number greater than 0, {_NONE_OR}")
    return text


def scope_name(text: str) -> str:
    """Check a scope's name.

    Raises:
        BadParameter: it is none.
    """
    if text not in _SCOPES:
        raise typer.BadParameter(f"{text!r}: one of {', '.join(_SCOPES)}")
    return text


KeyId = Annotated[
    str, typer.Argument(metavar="KEY_ID", help="Its id, never the key.", show_default=False)
]
Scopes = Annotated[
    list[str] | None,
    typer.Option(
        "--scope",
        metavar="SCOPE",
        parser=scope_name,
        help=f"What it may do: {', '.join(_SCOPES)}; may be repeated.",
        show_default=False,
    ),
]
Models = Annotated[
    list[str] | None,
    typer.Option(
        "--model",
        metavar="MODEL",
        help=f"A model that it may use, such as gemini-2.5-*; may be repeated; {_NONE_OR}.",
        show_default=False,
    ),
]
Rpm = Annotated[
    str | None,
    typer.Option(metavar="N", parser=count_or_none, help=f"Requests in a minute, {_NONE_OR}."),
]
Tpm = Annotated[
    str | None,
    typer.Option(metavar="N", parser=count_or_none, help=f"Tokens in a minute, {_NONE_OR}."),
]
MaxConcurrent = Annotated[
    str | None,
    typer.Option(metavar="N", parser=count_or_none, help=f"Requests at once, {_NONE_OR}."),
]
Day = Annotated[
    str | None,
    typer.Option(metavar="AMOUNT", parser=amount_or_none, help=f"USD a day (UTC), {_NONE_OR}."),
]
Month = Annotated[
    str | None,
    typer.Option(metavar="AMOUNT", parser=amount_or_none, help=f"USD a month (UTC), {_NONE_OR}."),
]
Total = Annotated[
    str | None,
    typer.Option(metavar="AMOUNT", parser=amount_or_none, help=f"USD ever, {_NONE_OR}."),
]
ExpiresAt = Annotated[
    str | None,
    typer.Option(metavar="MOMENT", help=f"RFC 3339: 2027-01-01T00:00:00Z, {_NONE_OR}."),
]


def settings_body(
    *,
    scopes: list[str] | None,
    models: list[str] | None,
    counts: dict[str, str | None],
    limits: dict[str, str | None],
    expires_at: str | None,
) -> Json:
    """Return the part of a body that the given options make; what is not given is not in it."""
    body: Json = {
        name: None if text == NONE else int(text)
        for name, text in counts.items()
        if text is not None
    }
    wanted = {name: _null(text) for name, text in limits.items() if text is not None}
    body |= {"limits": wanted} if wanted else {}
    body |= {"scopes": scopes} if scopes else {}
    body |= {"allowed_models": None if models == [NONE] else models} if models else {}
    return body | ({} if expires_at is None else {"expires_at": _null(expires_at)})


def _null(text: str) -> str | None:
    return None if text == NONE else text
