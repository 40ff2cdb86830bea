"""The options that commands about issued keys share, and the body that they make."""

import json
from typing import Annotated, get_args

import typer

from credits_service.cli.amounts import NONE, amount_or_none
from credits_service.cli.failures import Json
from credits_service.keys.state import Scope
from service_kit.issued_keys import KEY_SIGN

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


def object_or_none(text: str) -> str:
    """Check a JSON object, or the word ``none``.

    Raises:
        BadParameter: it is neither.
    """
    if text == NONE:
        return text
    try:
        found = json.loads(text)
    except (ValueError, RecursionError):
        found = None
    if not isinstance(found, dict):
        raise typer.BadParameter(f"""a JSON object such as '{{"team":"a"}}', {_NONE_OR}""")
    return text


def key_id(text: str) -> str:
    """Check that an id is not the key itself, which must get into no address and no log.

    Raises:
        BadParameter: it is one; the message does not repeat it.
    """
    if text.startswith(KEY_SIGN):
        raise typer.BadParameter(
            "this is a key, and its id is wanted. `credits keys list --prefix` shows it; the "
            "prefix is what stands between sk- and the next -."
        )
    return text


KeyId = Annotated[
    str,
    typer.Argument(
        metavar="KEY_ID", parser=key_id, help="Its id, never the key.", show_default=False
    ),
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
Metadata = Annotated[
    str | None,
    typer.Option(
        metavar="JSON",
        parser=object_or_none,
        help=f'Your own notes, an object such as {{"team":"a"}}, {_NONE_OR}.',
    ),
]


def settings_body(
    *,
    scopes: list[str] | None,
    models: list[str] | None,
    counts: dict[str, str | None],
    limits: dict[str, str | None],
    expires_at: str | None,
    metadata: str | None,
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
    body |= {} if expires_at is None else {"expires_at": _null(expires_at)}
    noted = None if metadata in {None, NONE} else json.loads(str(metadata))
    return body | ({} if metadata is None else {"metadata": noted})


def _null(text: str) -> str | None:
    return None if text == NONE else text
