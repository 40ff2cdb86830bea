"""The composition of the `credits` command: its options, its commands, its exit codes."""

import os
import sys
from pathlib import Path
from typing import Annotated

import typer

from credits_service.cli import accounts, credit, keys, ledger, reconcile, reports
from credits_service.cli.failures import CommandError, ExitCode
from credits_service.cli.output import Output
from credits_service.cli.session import DEFAULT_RETRIES, DEFAULT_URL, JsonFlag, Session

_EPILOG = """Examples:
  credits topup ann 25 --reference pay_8812
  credits balance ann
  credits --json transactions ann --all | jq '.transactions | length'
  credits keys create ann --name laptop
  credits verify

The key comes from CREDITS_API_KEY, or is the first of ADMIN_API_KEYS, or is in --key-file.
verify, migrate, migrate-to, export and reconcile work on the database: DATABASE_URL or DATA_DIR,
as the service reads them. All of these may stand in .env in the current folder.

Exit codes:
  0  done
  1  refused, or violations or differences were found
  2  the command or a setting can't be used
  3  the service or the database can't be reached, or the outcome is not known
"""

app = typer.Typer(
    name="credits",
    # A traceback with values in it would show keys and passwords.
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
    no_args_is_help=True,
    add_completion=False,
)
for _name, _command in (
    ("topup", credit.topup),
    ("balance", reports.balance),
    ("statement", reports.statement),
    ("transactions", reports.transactions),
    ("holds", reports.holds),
    ("refund", credit.refund),
    ("freeze", accounts.freeze),
    ("unfreeze", accounts.unfreeze),
    ("close", accounts.close),
    ("limits", accounts.limits),
    ("verify", ledger.verify),
    ("migrate", ledger.migrate_schema),
    ("migrate-to", ledger.migrate_to),
    ("export", ledger.export_journal),
    ("reconcile", reconcile.reconcile),
):
    app.command(_name)(_command)
app.add_typer(keys.app, name="keys")


@app.callback(epilog=_EPILOG)
def options(
    context: typer.Context,
    *,
    url: Annotated[
        str, typer.Option(envvar="CREDITS_SERVICE_URL", help="The service's address.")
    ] = DEFAULT_URL,
    key_file: Annotated[
        Path | None, typer.Option(help="A file that holds the API key and nothing else.")
    ] = None,
    retries: Annotated[
        int,
        typer.Option(min=0, max=20, help="How often a change without an answer is repeated."),
    ] = DEFAULT_RETRIES,
    as_json: JsonFlag = False,
) -> None:
    """Prepaid credit: top up, look up, refund, check, move."""
    session = context.ensure_object(Session)
    session.url, session.key_file, session.retries = url, key_file, retries
    session.as_json = as_json


def main() -> None:
    """Run the command and end with its exit code."""
    session = Session()
    try:
        app(obj=session)
    except CommandError as error:
        Output(as_json=session.as_json).error(error)
        sys.exit(error.exit_code)
    except BrokenPipeError:
        # Whoever read the output has enough; nothing may be written when Python closes it.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(ExitCode.REFUSED)
