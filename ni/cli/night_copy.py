"""`ni night-copy`: how the night copy stands, copy it anew, compare it with the core."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Annotated, TypeVar

import typer

from ni import clock
from ni import night_copy as copy
from ni.cli.support import file_progress, known, output
from ni.database import LOST_CONNECTION, close_pool, open_pool
from ni.errors import NiError, Unavailable
from ni.settings import Settings, load_settings

if TYPE_CHECKING:
    from ni.database import Pool

Result = TypeVar("Result")

night_copy = typer.Typer(help="The night copy: status, rebuild, check.", no_args_is_help=True)
CLOSED = "it is night: the core is closed, so nothing can be compared or copied; open the day first"


def register(app: typer.Typer) -> None:
    """Adds the commands to `ni`."""
    app.add_typer(night_copy, name="night-copy")


@night_copy.command()
def status() -> None:
    """Show whether the copy is exact; exit code 1 when it is not."""
    found = _in_pool(lambda pool, _settings: copy.status(pool))
    output.print(f"exact         {'yes' if found.exact else 'no'}")
    output.print(f"changed keys  {found.changed_keys}")
    output.print(f"copied at     {found.copied_at}")
    for fault in found.faults:
        output.print(f"fault         {fault}", markup=False)
    if not found.exact:
        raise typer.Exit(1)


@night_copy.command()
def rebuild(
    share: Annotated[
        int, typer.Option(min=1, max=100, help="Percent of the time that it may work.")
    ] = 80,
) -> None:
    """Copy everything anew, while NI runs. Exit code 1 when something stays noted."""

    async def work(pool: Pool, settings: Settings) -> copy.Resynchronised:
        if await copy.note_everything(pool) != "day":
            raise NiError(CLOSED)
        whole = await copy.size(pool)
        with file_progress("night copy") as show:
            return await copy.resynchronise(
                pool,
                settings,
                share_percent=share,
                told=lambda keys: show(keys, max(whole, keys)),
            )

    began = clock.monotonic()
    done = _in_pool(work)
    output.print(f"{done.keys} keys looked at in {clock.monotonic() - began:.1f} s")
    if not done.exact:
        raise NiError(
            "the copy is not exact: the core is changing it, or another `ni night-copy` or the "
            "worker has the rest in hand; see `ni night-copy status`"
        )


@night_copy.command()
def check(
    *,
    note: Annotated[
        bool, typer.Option("--note", help="Note what differs, so that it is copied again.")
    ] = False,
) -> None:
    """Compare the copy with the core, key by key, while NI runs. Exit code 1 on a difference."""

    async def work(pool: Pool, settings: Settings) -> tuple[int, list[copy.Difference]]:
        checker = copy.Checker(pool, settings)
        differences = []
        whole = await copy.size(pool)
        with file_progress("comparing") as show:
            while not checker.walks:
                mode, found = await checker.step(note=note)
                if mode != "day":
                    raise NiError(CLOSED)
                differences += [found] if found else []
                show(checker.keys, max(whole, checker.keys))
        return checker.keys, differences

    keys, differences = _in_pool(work)
    for found in differences:
        for key in found.keys:
            output.print(f"{found.relation} {key} differs and is not noted", markup=False)
    count = sum(len(found.keys) for found in differences)
    output.print(f"{keys} keys compared, {count} differ")
    if differences:
        raise typer.Exit(1)


def _in_pool(work: Callable[[Pool, Settings], Awaitable[Result]]) -> Result:
    """What `work` returns on a session of the engine's own role. Raises NiError."""

    async def run() -> Result:
        settings = load_settings()
        known(settings.database_url, "NI_DATABASE_URL")
        pool = await open_pool(settings, "day", 1)
        try:
            return await work(pool, settings)
        except LOST_CONNECTION as error:
            raise Unavailable(f"PostgreSQL does not answer: {error}") from error
        finally:
            await close_pool(pool)

    return asyncio.run(run())
