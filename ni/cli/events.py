"""`ni events`: follow events as they leave, and see what has not left yet."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Annotated
from uuid import uuid4

import typer
from rich.markup import escape
from rich.table import Table

from ni.cli.support import as_owner, known, output
from ni.errors import NiError
from ni.event_door import ALL_TYPES, open_door
from ni.events import BadEvent, Event, parse
from ni.logs import configure_logs
from ni.settings import Settings, load_settings
from ni.sql import query

events = typer.Typer(help="Events: follow them, see what waits.", no_args_is_help=True)

TAIL_PREFETCH = 100


def register(app: typer.Typer) -> None:
    """Adds the commands to `ni`."""
    app.add_typer(events, name="events")


@events.command()
def tail(
    *,
    kind: Annotated[
        list[str] | None,
        typer.Option("--type", help="A type, or a pattern such as ni.hold.*; may be repeated."),
    ] = None,
    account: Annotated[str, typer.Option(help="Only events of this account.")] = "",
    count: Annotated[int, typer.Option(min=0, help="End after so many events; 0: never.")] = 0,
    json: Annotated[
        bool, typer.Option("--json", help="Print each event as it is, a line each.")
    ] = False,
) -> None:
    """Follow events as they leave, until Ctrl-C. Takes nothing away from anybody."""
    configure_logs("warning")  # the door's, beside what is printed
    settings = load_settings()
    if not settings.amqp_url:
        known(settings.database_url, "NI_DATABASE_URL or NI_AMQP_URL")
    try:
        asyncio.run(
            _follow(settings, tuple(kind or ALL_TYPES), account, count, _printer(json=json))
        )
    except KeyboardInterrupt:
        return
    except ValueError as error:
        raise NiError(str(error)) from error


async def _follow(
    settings: Settings, types: tuple[str, ...], account: str, count: int,
    show: Callable[[bytes], None],
) -> None:  # fmt: skip
    shown = 0
    queue = f"ni.tail.{uuid4().hex[:12]}"
    door = open_door(settings)
    async with door.consume(queue, types, TAIL_PREFETCH, temporary=True) as deliveries:
        async for delivery in deliveries:
            body = delivery.event_body
            await delivery.ack()
            if account and not _is_of(account, body):
                continue
            show(body)
            shown += 1
            if shown == count:
                return


def _read(body: bytes) -> Event | None:
    """None: it is of a version after this one, or not of NI."""
    try:
        return parse(body)
    except BadEvent:
        return None


def _is_of(account: str, body: bytes) -> bool:
    event = _read(body)
    return event is not None and event.subject == account


def _printer(*, json: bool) -> Callable[[bytes], None]:
    if json:
        return lambda body: typer.echo(body.decode(errors="replace"))
    return lambda body: output.print(_line(body))


def _line(body: bytes) -> str:
    """One line: when, what, whose, how much, and what is available now; else the event as it is."""
    event = _read(body)
    if event is None:
        return f"[dim]not known here[/dim]  {escape(body.decode(errors='replace'))}"
    data = event.data
    parts = [f"[dim]{event.time}[/dim]", f"[bold]{event.type}[/bold]"]
    if event.subject:
        parts.append(escape(event.subject))
    if data["sequence"] is not None:
        parts.append(f"#{data['sequence']}")
    if data["amount"] is not None:
        sign = {"debit": "-", "credit": "+"}.get(data["direction"], "")
        parts.append(f"{sign}{data['amount']} {data['currency']}")
    if data["available_after"] is not None:
        parts.append(f"available {data['available_after']}")
    extras = ("packet", "status", "reason", "business_date", "reference")
    parts += [f"{name} {escape(str(data[name]))}" for name in extras if data.get(name) is not None]
    return "  ".join(parts)


@events.command()
def waiting() -> None:
    """Show the events that have not been delivered yet, and the queues in PostgreSQL."""

    def table(title: str, *columns: str) -> Table:
        made = Table(title=title, title_justify="left")
        for column in columns:
            made.add_column(column)
        return made

    found = as_owner(lambda owner: owner.fetch(query("outbox_waiting")))
    shown = table("In the outbox", "type", "events", "oldest, s")
    for row in found:
        shown.add_row(row["type"], str(row["events"]), str(row["oldest_s"]))
    output.print(shown if found else "Nothing waits in the outbox.")
    queues = as_owner(lambda owner: owner.fetch(query("event_queues")))
    if queues:
        shown = table("Queues in PostgreSQL", "queue", "waiting", "put aside")
        for row in queues:
            shown.add_row(row["queue"], str(row["waiting"]), str(row["dead"]))
        output.print(shown)
