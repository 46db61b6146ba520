"""What the commands share: settings, the event loop, tables and the progress of a file."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from datetime import date, datetime
from typing import TypeVar

import asyncpg
import typer
from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn

from ni.core_ledger import core_session
from ni.errors import NiError
from ni.run_file import read_run
from ni.session import connected
from ni.settings import RUN_FILE, load_settings

Result = TypeVar("Result")

output = Console(soft_wrap=True, highlight=False)


def in_core(work: Callable[[asyncpg.Connection], Awaitable[Result]]) -> Result:
    """What `work` returns on a connection of the core's own role.

    Raises NiError when no core's address is known.
    """

    async def run() -> Result:
        async with core_session(
            known(load_settings().core_database_url, "NI_CORE_DATABASE_URL")
        ) as connection:
            return await work(connection)

    return asyncio.run(run())


def as_owner(work: Callable[[asyncpg.Connection], Awaitable[Result]]) -> Result:
    """What `work` returns on a connection of the database's owner.

    Raises NiError when no owner's address is known.
    """

    async def run() -> Result:
        async with connected(owner_dsn()) as connection:
            return await work(connection)

    return asyncio.run(run())


def owner_dsn() -> str:
    """The owner's database address. Raises NiError when it is not known."""
    return known(load_settings().owner_database_url, "NI_OWNER_DATABASE_URL")


def known(url: str | None, setting: str) -> str:
    """The address itself. Raises NiError that says how to make it known."""
    if not url:
        raise NiError(f"no database is known here: start one with `ni up` or set {setting}")
    return url


def api_address(client: str, base_url: str, key: str) -> tuple[str, str]:
    """NI's address and the key of `client`: as given, else as `ni up` noted them in run.json.

    Raises NiError when one of them is not known.
    """
    home = load_settings().home
    run = read_run(home)
    url = base_url or (run.base_url if run else "")
    if not url:
        raise NiError("NI does not run here: start it with `ni up` or give --base-url and NI_KEY")
    secret = key or (run.keys.get(client, "") if run else "")
    if not secret:
        raise NiError(f"{home / RUN_FILE} has no key of the client {client}: set NI_KEY")
    return url, secret


def clients_of_run() -> list[str]:
    """The clients whose keys `ni up` has noted; empty when NI does not run here."""
    run = read_run(load_settings().home)
    return sorted(run.keys) if run else []


def parse_date(text: str) -> date:
    """An option's date. Raises typer.BadParameter for anything but YYYY-MM-DD."""
    try:
        return date.fromisoformat(text)
    except ValueError as error:
        raise typer.BadParameter("must be a date such as 1993-01-04") from error


def parse_instant(text: str) -> datetime:
    """An option's instant. Raises typer.BadParameter when it is not RFC 3339 with an offset."""
    try:
        instant = datetime.fromisoformat(text)
    except ValueError as error:
        raise typer.BadParameter("must be a time such as 1993-01-04T10:00:00+01:00") from error
    if instant.tzinfo is None:
        raise typer.BadParameter("must have an offset, such as 1993-01-04T10:00:00+01:00")
    return instant


@contextmanager
def file_progress(title: str) -> Iterator[Callable[[int, int], None]]:
    """A bar on standard error; call what it yields with the work done and the whole."""
    columns = (TextColumn("{task.description}"), BarColumn(), TaskProgressColumn())
    console = Console(stderr=True)
    with Progress(
        *columns,
        TimeRemainingColumn(),
        console=console,
        transient=True,
        disable=not console.is_terminal,
    ) as bar:
        task = bar.add_task(title, total=None)

        def show(done: int, whole: int) -> None:
            bar.update(task, completed=done, total=whole)

        yield show
