"""The command `ni`: one module a noun, each adding its commands to `app`.

An expected failure (`NiError`) is one plain line on standard error and exit code 1.
"""

from __future__ import annotations

import importlib
import importlib.util
import sys

import typer

from ni.errors import NiError

app = typer.Typer(
    name="ni",
    help="NI: the one place that knows the available balance.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)

for _name in ("up", "core", "client", "migrate", "replay"):
    if importlib.util.find_spec(f"ni.cli.{_name}") is not None:
        importlib.import_module(f"ni.cli.{_name}").register(app)


def main() -> None:
    """Runs the command line and ends the process with its exit code."""
    try:
        app()
    except NiError as error:
        sys.exit(f"ni: {error}")
