"""The command `ni`: one module a noun, each adding its commands to `app`.

An expected failure (`NiError`) is one plain line on standard error and exit code 1.
"""

from __future__ import annotations

import sys

import typer
from pydantic import ValidationError

from ni.cli import client, core, day, events, migrate, night_copy, packet, replay, sms, up, worker
from ni.errors import NiError
from ni.settings import Settings

app = typer.Typer(
    name="ni",
    help="NI: the one place that knows the available balance.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)

for module in (up, worker, core, client, packet, day, night_copy, events, sms, migrate, replay):
    module.register(app)


def main() -> None:
    """Runs the command line and ends the process with its exit code."""
    try:
        app()
    except NiError as error:
        sys.exit(f"ni: {error}")
    except ValidationError as error:
        if error.title != Settings.__name__:
            raise
        sys.exit(f"ni: {_wrong_settings(error)}")


def _wrong_settings(error: ValidationError) -> str:
    """Which environment variables are wrong and why, without repeating their values."""
    wrong = (f"NI_{str(fault['loc'][0]).upper()}: {fault['msg']}" for fault in error.errors())
    return "; ".join(wrong)
