"""`ni migrate`: brings the database to this version of NI."""

from __future__ import annotations

import asyncio

import typer

from ni.cli.support import owner_dsn
from ni.migrate import migrate
from ni.settings import load_settings


def register(app: typer.Typer) -> None:
    """Adds the command to `ni`."""
    app.command(name="migrate")(run)


def run() -> None:
    """Apply what is new of the migrations and functions. Safe to repeat, and to start twice."""
    applied = asyncio.run(migrate(owner_dsn(), buckets=load_settings().buckets))
    for name in applied:
        typer.echo(f"applied {name}")
    if not applied:
        typer.echo("the database is up to date")
