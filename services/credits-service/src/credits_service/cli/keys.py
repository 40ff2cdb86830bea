"""Commands about issued keys: create, list, show, change, rotate, revoke, events."""

import json
from typing import Annotated

import typer

from credits_service.cli.failures import Json, usage
from credits_service.cli.key_options import (
    Day,
    ExpiresAt,
    KeyId,
    MaxConcurrent,
    Metadata,
    Models,
    Month,
    Rpm,
    Scopes,
    Total,
    Tpm,
    settings_body,
)
from credits_service.cli.reports import AllFlag, PageLimit, pages, show_rows
from credits_service.cli.service import Answer, segment
from credits_service.cli.session import JsonFlag, KeyOption, Session, UserId, YesFlag, session_of

app = typer.Typer(help="Issued API keys: make them, change them, end them.", no_args_is_help=True)

_FACTS = (
    "key_id",
    "status",
    "prefix",
    "last_four",
    "scopes",
    "allowed_models",
    "rpm",
    "tpm",
    "max_concurrent",
    "expires_at",
    "created_at",
    "created_by",
    "updated_at",
    "last_used_at",
    "rotated_from",
    "grace_until",
    "revoked_at",
)
_COLUMNS = ("key_id", "account", "name", "status", "prefix", "expires_at", "last_used_at")


@app.command("create")
def create(
    context: typer.Context,
    account: UserId,
    *,
    name: Annotated[str, typer.Option(help="For people.", show_default=False)],
    scope: Scopes = None,
    model: Models = None,
    rpm: Rpm = None,
    tpm: Tpm = None,
    max_concurrent: MaxConcurrent = None,
    day: Day = None,
    month: Month = None,
    total: Total = None,
    expires_at: ExpiresAt = None,
    metadata: Metadata = None,
    key: KeyOption = None,
    as_json: JsonFlag = False,
) -> None:
    """Make a key that pays from an account. It is shown once, on standard output, and not kept.

    --day, --month and --total bind what is spent with it, beside the limits of the account
    (credits limits).

    Examples:
      credits keys create ann --name "Ann's laptop"
      credits keys create ann --name ci --scope chat --model 'gemini-2.5-*' --rpm 60 --day 2
      credits keys create ann --name app --metadata '{"team":"a"}'
    """
    session = session_of(context, as_json=as_json)
    body = settings_body(
        scopes=scope,
        models=model,
        counts={"rpm": rpm, "tpm": tpm, "max_concurrent": max_concurrent},
        limits={"day": day, "month": month, "total": total},
        expires_at=expires_at,
        metadata=metadata,
    )
    answer = session.change("POST", "/keys", {"account": account, "name": name, **body}, key)
    _show_secret(session, answer)


@app.command("list")
def list_keys(
    context: typer.Context,
    account: Annotated[
        str | None, typer.Argument(metavar="USER_ID", help="Only this account's.")
    ] = None,
    *,
    prefix: Annotated[
        str | None,
        typer.Option(help="Only the key with this prefix, which logs show.", show_default=False),
    ] = None,
    limit: PageLimit = 50,
    everything: AllFlag = False,
    as_json: JsonFlag = False,
) -> None:
    """List keys, newest first, revoked ones as well.

    Examples:
      credits keys list ann
      credits keys list --prefix 8fK2mQ0x
    """
    session = session_of(context, as_json=as_json)
    found = pages(
        session,
        "/keys",
        "keys",
        {"account": account, "prefix": prefix},
        limit=None if everything else limit,
    )
    show_rows(session, found, "keys", _COLUMNS)


@app.command("show")
def show(context: typer.Context, key_id: KeyId, *, as_json: JsonFlag = False) -> None:
    """Show a key.

    Examples:
      credits keys show 0198c0de-0000-7000-8000-000000000000
    """
    session = session_of(context, as_json=as_json)
    _show(session, session.service.read(f"/keys/{segment(key_id)}"))


@app.command("change")
def change(
    context: typer.Context,
    key_id: KeyId,
    *,
    name: Annotated[str | None, typer.Option(help="For people.")] = None,
    disabled: Annotated[
        bool | None, typer.Option("--disable/--enable", help="Refuse it; accept it again.")
    ] = None,
    scope: Scopes = None,
    model: Models = None,
    rpm: Rpm = None,
    tpm: Tpm = None,
    max_concurrent: MaxConcurrent = None,
    day: Day = None,
    month: Month = None,
    total: Total = None,
    expires_at: ExpiresAt = None,
    metadata: Metadata = None,
    key: KeyOption = None,
    as_json: JsonFlag = False,
) -> None:
    """Change a key. What is not named stays as it is.

    Examples:
      credits keys change 0198c0de-0000-7000-8000-000000000000 --disable
      credits keys change 0198c0de-0000-7000-8000-000000000000 --rpm none --day 5
    """
    session = session_of(context, as_json=as_json)
    body = settings_body(
        scopes=scope,
        models=model,
        counts={"rpm": rpm, "tpm": tpm, "max_concurrent": max_concurrent},
        limits={"day": day, "month": month, "total": total},
        expires_at=expires_at,
        metadata=metadata,
    )
    body |= {} if name is None else {"name": name}
    body |= {} if disabled is None else {"disabled": disabled}
    if not body:
        raise usage("There is nothing to change: no option says what.")
    _show_answer(session, session.change("PATCH", f"/keys/{segment(key_id)}", body, key))


@app.command("rotate")
def rotate(
    context: typer.Context,
    key_id: KeyId,
    *,
    grace: Annotated[
        int,
        typer.Option(
            min=0,
            metavar="SECONDS",
            help="How long the old key works still; 0: not at all.",
            show_default=False,
        ),
    ],
    key: KeyOption = None,
    as_json: JsonFlag = False,
) -> None:
    """Give a key a new secret, which is shown once. The old one works until the grace ends.

    Examples:
      credits keys rotate 0198c0de-0000-7000-8000-000000000000 --grace 86400
    """
    session = session_of(context, as_json=as_json)
    path = f"/keys/{segment(key_id)}/rotate"
    _show_secret(session, session.change("POST", path, {"grace_seconds": grace}, key))


@app.command("revoke")
def revoke(
    context: typer.Context, key_id: KeyId, *, yes: YesFlag = False, as_json: JsonFlag = False
) -> None:
    """End a key at once and for good.

    Examples:
      credits keys revoke 0198c0de-0000-7000-8000-000000000000
    """
    session = session_of(context, as_json=as_json)
    path = f"/keys/{segment(key_id)}"
    if not yes:
        found = session.service.read(path)
        asked = f"Revoke {found['name']} (sk-{found['prefix']}…) of {found['account']}, for good?"
        session.confirm(asked, yes=False)
    _show(session, session.change("DELETE", path, {}, None).body)


@app.command("events")
def events(
    context: typer.Context,
    key_id: KeyId,
    *,
    limit: PageLimit = 50,
    everything: AllFlag = False,
    as_json: JsonFlag = False,
) -> None:
    """Tell what happened to a key, newest first: who made, changed, rotated, revoked it.

    Uses that were refused are told by reason: how many since those that were told before.

    Examples:
      credits keys events 0198c0de-0000-7000-8000-000000000000
    """
    session = session_of(context, as_json=as_json)
    path = f"/keys/{segment(key_id)}/events"
    found = pages(session, path, "events", {}, limit=None if everything else limit)
    if not session.as_json:
        for event in found["events"]:
            event["details"] = json.dumps(event["details"], ensure_ascii=False)
    columns = ("seq", "happened_at", "kind", "principal", "details", "request_id")
    show_rows(session, found, "events", columns)


def _show_secret(session: Session, answer: Answer) -> None:
    """Show what a new key is; or where it can't be had any more."""
    _show_answer(session, answer)
    if "key" in answer.body:
        session.output.note("The key is shown only now: keep it in a safe place.")
        return
    session.output.note(
        "This was done before, under the same idempotency key. The key was shown then, and is "
        f"not kept. If that answer was lost, make a new secret:\n"
        f"  credits keys rotate {answer.body['key_id']} --grace 0"
    )


def _show_answer(session: Session, answer: Answer) -> None:
    if session.as_json:
        session.output.document(answer.document())
    else:
        _show(session, answer.body)


def _show(session: Session, found: Json) -> None:
    if session.as_json:
        session.output.document(found)
        return
    facts = [(name, _text(found[name])) for name in _FACTS]
    facts += [(f"limit ({window})", limit) for window, limit in found["limits"].items()]
    facts += [(f"spent ({window})", amount) for window, amount in found.get("spent", {}).items()]
    facts += [("held", found["held"])] if "held" in found else []
    if found["metadata"] is not None:
        facts.append(("metadata", json.dumps(found["metadata"], ensure_ascii=False)))
    facts += [("key", found["key"])] if "key" in found else []
    session.output.facts(f"{found['name']}: {found['account']}", facts)


def _text(value: object) -> object:
    return ", ".join(map(str, value)) if isinstance(value, list) else value
