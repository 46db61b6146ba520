"""`ni day`: close, open, and how the day stands, as the REST API has them."""

from __future__ import annotations

from typing import Annotated

import typer

from ni.cli import day_tables as tables
from ni.cli.api import open_api
from ni.cli.packet import OPERATOR, Caller
from ni.cli.support import output
from ni.database import switch_limit_s
from ni.settings import load_settings

day = typer.Typer(help="The day: close, open, status.", no_args_is_help=True)

PATH = "/v1/business-day"


def register(app: typer.Typer) -> None:
    """Adds the commands to `ni`."""
    app.add_typer(day, name="day")


@day.callback()
def where(
    context: typer.Context,
    base_url: Annotated[str, typer.Option(help="NI's address, if `ni up` does not run here.")] = "",
    key: Annotated[str, typer.Option(envvar="NI_KEY", help="A client's key, likewise.")] = "",
) -> None:
    """The day: close, open, status."""
    context.obj = (base_url, key)


@day.command()
def status(context: typer.Context, as_: Caller = None) -> None:
    """Show the mode, the dates, the night copy, and what needs somebody's eyes."""
    with open_api(as_ or OPERATOR, *context.obj) as api:
        output.print(*tables.day(api.get(PATH)))


@day.command()
def close(
    context: typer.Context,
    *,
    require_unloaded: Annotated[
        bool,
        typer.Option("--require-unloaded", help="Do not close while a packet is unfinished."),
    ] = False,
    as_: Caller = None,
) -> None:
    """Turn to the night: unload what waits, wait for running unloads, switch. Safe to repeat."""
    with open_api(as_ or OPERATOR, *context.obj, timeout_s=_patience_s()) as api:
        document = api.post(f"{PATH}/close", {"require_unloaded": require_unloaded})
    output.print(*tables.day(document))


@day.command(name="open")
def open_(context: typer.Context, as_: Caller = None) -> None:
    """Turn to the day, when the core has opened. Safe to repeat."""
    with open_api(as_ or OPERATOR, *context.obj, timeout_s=_patience_s()) as api:
        document = api.post(f"{PATH}/open", {})
    output.print(*tables.day(document))


def _patience_s() -> int:
    """What a close may last: the last pass, and the switch itself."""
    settings = load_settings()
    return settings.drain_timeout_s + switch_limit_s(settings)
