"""What NI's workers and the core's scheduler do in a scenario, when it says so."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ni.core_end_of_day import Charges, end_of_day
from ni.core_ledger import core_session
from ni.database import close_pool, open_pool, open_unload_pool
from ni.night_copy import resynchronise
from ni.settings import Settings
from ni.straight_through import StraightThrough
from tests.support.databases import Database

if TYPE_CHECKING:
    from ni.database import Pool


@dataclass
class Backstage:
    """One database's workers, each doing one piece of work when it is asked."""

    database: Database
    settings: Settings
    unload_pool: Pool
    copy_pool: Pool

    async def unload_straight_through(self) -> None:
        """What the worker `packets` does until nothing waits."""
        worker = StraightThrough(self.unload_pool, self.settings)
        while (await worker.step()).packets:
            continue

    async def make_copy_exact(self) -> None:
        """What the worker `night-copy` does all day."""
        await resynchronise(self.copy_pool, self.settings)

    async def end_the_day(self, charges: Charges) -> None:
        """What the core does by night."""
        async with core_session(self.database.core_dsn) as core:
            assert not (await end_of_day(core, charges=charges)).was_done


@asynccontextmanager
async def open_backstage(database: Database) -> AsyncIterator[Backstage]:
    """The workers' side of a database."""
    settings = Settings(database_url=database.engine_dsn)
    unload_pool = await open_unload_pool(settings)
    try:
        copy_pool = await open_pool(settings, "day", 1)
        try:
            yield Backstage(database, settings, unload_pool, copy_pool)
        finally:
            await close_pool(copy_pool)
    finally:
        await close_pool(unload_pool)
