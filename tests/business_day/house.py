"""A bank whose day closes and opens: an engine, packets, the switch, and a core with manners."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import asyncpg

from ni import night_copy
from ni.batch_state import Answer
from ni.business_day import BusinessDay
from ni.database import close_pool, open_unload_pool
from ni.day_switch import DayOrder
from ni.decisions import Decision
from ni.session import connected
from tests.engine.world import World
from tests.packets.desk import Desk, open_desk
from tests.support.databases import Database

OPERATOR: Final = "operator"
PRINT: Final = b"sixteen bytes..."
CORE_TABLES: Final = (Path(__file__).parent / "core_tables.sql").read_text()
NI_ON_CORE: Final = (Path(__file__).parent / "ni_on_core.sql").read_text()


def asked(key: str | None = None, **more: Any) -> DayOrder:
    """What an operator asks."""
    return DayOrder(**({"by": OPERATOR, "key": key, "fingerprint": PRINT} | more))


@asynccontextmanager
async def core_held(owner_dsn: str, *tables: str) -> AsyncIterator[asyncpg.Connection]:
    """The core holds tables of its own as a whole, by default all of them."""
    async with connected(owner_dsn) as core, core.transaction():
        names = tables or [row[0] for row in await core.fetch(CORE_TABLES)]
        for name in names:
            await core.execute(f"lock table {name} in access exclusive mode")
        yield core


@asynccontextmanager
async def no_lock_on_core(superuser_dsn: str) -> AsyncIterator[list[str]]:
    """Look every 5 ms; raises AssertionError if a session of NI's engine had a lock on the core."""
    began, stop = asyncio.Event(), asyncio.Event()
    found: list[str] = []

    async def look() -> None:
        async with connected(superuser_dsn) as session:
            statement = await session.prepare(NI_ON_CORE)
            while not stop.is_set():
                found.extend(
                    f"{row['relation']}: {row['query']}" for row in await statement.fetch()
                )
                began.set()
                await asyncio.sleep(0.005)

    looking = asyncio.create_task(look())
    try:
        await began.wait()
        yield found
        await asyncio.sleep(0.02)  # for a last look
    finally:
        stop.set()
        await looking
    assert found == []


@dataclass
class House:
    """A desk, and the switch between day and night."""

    desk: Desk
    day: BusinessDay

    @property
    def world(self) -> World:
        return self.desk.world

    async def close(self, key: str | None = None, **more: Any) -> dict[str, Any]:
        """The document of a close that was approved."""
        return done(await self.day.close(asked(key), **more))

    async def open(self, key: str | None = None) -> dict[str, Any]:
        """The document of an open that was approved."""
        return done(await self.day.open(asked(key)))

    async def status(self) -> dict[str, Any]:
        """How the day stands."""
        document: dict[str, Any] = json.loads(await self.day.status())
        return document

    async def mode(self) -> tuple[str, int]:
        """Mode and epoch as the database has them."""
        row = await self.world.owner.fetchrow("select mode, epoch from ni.mode")
        assert row is not None
        return row["mode"], row["epoch"]

    async def switches(self) -> list[tuple[int, str]]:
        """The switches that were made, in order."""
        rows = await self.world.owner.fetch("select epoch, mode from ni.day_switch order by epoch")
        return [tuple(row) for row in rows]

    async def events(self) -> list[tuple[str, int]]:
        """Types and epochs of the day's events, in order."""
        rows = await self.world.owner.fetch(
            "select type, epoch from ni.outbox where type like 'ni.day.%' order by event_id"
        )
        return [tuple(row) for row in rows]


def done(answer: Answer) -> dict[str, Any]:
    """The document of an approval."""
    assert answer.decision is Decision.approved, answer
    document: dict[str, Any] = json.loads(answer.document)
    return document


def why_not(answer: Answer) -> dict[str, Any]:
    """The facts of a refusal, with its name as `code`."""
    assert answer.decision is not Decision.approved, answer
    facts: dict[str, Any] = json.loads(answer.document)
    return facts | {"code": answer.decision.name}


@asynccontextmanager
async def open_house(database: Database, **limits: Any) -> AsyncIterator[House]:
    """A house on `database` with these settings."""
    async with open_desk(database, **limits) as desk:
        pool = await open_unload_pool(desk.world.settings)
        try:
            yield House(desk, BusinessDay(desk.world.reads, pool, desk.world.settings))
        finally:
            await close_pool(pool)


async def resynchronise(house: House) -> None:
    """Bring the night copy back, as its worker does, until it is exact."""
    settings = house.world.settings
    async with asyncio.timeout(20):
        while not await house.world.owner.fetchval("select ni.night_copy_is_exact_v1()"):
            await night_copy.resynchronise(house.world.pools.day, settings)
