"""The composition of the `ai-proxy-service` command: its commands, its exit codes."""

import os
import sys

import typer

from ai_proxy_service.cli.output import CommandError, complain
from ai_proxy_service.cli.prices import prices
from ai_proxy_service.cli.usage import usage_commands

_EPILOG = """Without a command the proxy is served, by the settings in the environment and in .env.

Examples:
  ai-proxy-service
  ai-proxy-service prices --model gemini-2.5-flash
  ai-proxy-service prices --check new-prices.json && mv new-prices.json "$PRICE_CATALOG_PATH"
  ai-proxy-service usage export --from 2026-11-01 --to 2026-12-01 --output november.jsonl

Exit codes:
  0  done
  1  refused, or a setting or a file can't be used
  2  the command can't be understood
"""

app = typer.Typer(
    name="ai-proxy-service",
    # A traceback with values in it would show keys and passwords.
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
    no_args_is_help=True,
    add_completion=False,
)
app.command("prices")(prices)
app.add_typer(usage_commands, name="usage")


@app.callback(epilog=_EPILOG)
def options() -> None:
    """Gemini behind OpenAI's API, paid for from prepaid credit."""


def run() -> None:
    """Run the command that the arguments name and end with its exit code."""
    try:
        app()
    except CommandError as error:
        complain(str(error))
        sys.exit(1)
    except BrokenPipeError:
        # Whoever read the output has enough; nothing may be written when Python closes it.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)
