"""A core beside its night copy: who writes the core, who brings the copy back, what differs."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import asyncpg

from ni.database import close_pool, open_pool
from ni.night_copy import Resynchronised, resynchronise
from ni.session import connected
from ni.settings import Settings
from tests.support.bank import Bank, CoreAccount
from tests.support.databases import Database

if TYPE_CHECKING:
    from ni.database import Pool

DIFFERENCES: Final = (Path(__file__).parent / "differences.sql").read_text()
EXACT: Final = "select ni.night_copy_is_exact_v1()"


def names(count: int, stem: str = "A") -> list[str]:
    """Accounts of many buckets."""
    return [f"{stem}-{number:04}" for number in range(count)]


@dataclass
class Scene:
    """`core` is the core's own session, `pool` NI's, `owner` looks at everything."""

    database: Database
    settings: Settings
    owner: asyncpg.Connection
    core: asyncpg.Connection
    pool: Pool
    stack: AsyncExitStack = field(default_factory=AsyncExitStack)

    async def session(self, dsn: str | None = None) -> asyncpg.Connection:
        """One more session; of the core unless said otherwise."""
        return await self.stack.enter_async_context(connected(dsn or self.database.core_dsn))

    async def turn(self, mode: str) -> None:
        """What the switch of the mode does, without its tests."""
        async with self.owner.transaction():
            await self.owner.execute("lock table ni.gate in exclusive mode")
            await self.owner.execute("update ni.mode set mode = $1, epoch = epoch + 1", mode)

    async def open(self, count: int = 10) -> list[str]:
        """Accounts with money and one block, opened by the core."""
        opened = names(count)
        await Bank(self.core).open_accounts(CoreAccount(name, balance=1000) for name in opened)
        await Bank(self.core).block(opened[0], "debit")
        return opened

    async def is_exact(self) -> bool:
        """What the close of the day asks."""
        return bool(await self.owner.fetchval(EXACT))

    async def differences(self) -> list[tuple[str, str, bool]]:
        """Relation, key and whether it is noted, of what differs."""
        rows = await self.owner.fetch(DIFFERENCES)
        return [(row["relation"], row["key"], row["noted"]) for row in rows]

    async def notes(self) -> list[tuple[str, str]]:
        """Noted keys, each once; a note of everything has its side."""
        rows = await self.owner.fetch(
            "select distinct relation, coalesce(side, key) as what from night.changed"
            " order by relation, what"
        )
        return [(row["relation"], row["what"]) for row in rows]

    async def bring_back(self, **more: Any) -> Resynchronised:
        """What the worker does."""
        return await resynchronise(self.pool, self.settings, **more)

    async def is_the_same(self) -> bool:
        """Nothing differs, nothing is noted, and the copy says so."""
        return await self.differences() == [] and await self.is_exact()


@asynccontextmanager
async def open_scene(database: Database, **limits: Any) -> AsyncIterator[Scene]:
    """A scene on `database` with these settings."""
    values: dict[str, Any] = {
        "database_url": database.engine_dsn,
        "night_copy_share_percent": 100,
    } | limits
    settings = Settings(**values)
    async with AsyncExitStack() as stack:
        owner = await stack.enter_async_context(connected(database.owner_dsn))
        core = await stack.enter_async_context(connected(database.core_dsn))
        pool = await open_pool(settings, "day", 3)
        stack.push_async_callback(close_pool, pool)
        await Bank(core).open_ledger(date(2031, 3, 3), date(2031, 3, 4))
        yield Scene(database, settings, owner, core, pool, stack)
