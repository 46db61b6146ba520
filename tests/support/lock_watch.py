"""Who waits for whom: no decision may ever wait for an unload."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from ni.session import connected

HELD: Final = (Path(__file__).parent / "unloads_held.sql").read_text()
HELD_SECONDS: Final = 20.0
WAITING: Final = (Path(__file__).parent / "lock_watch.sql").read_text()
INTERVAL_S: Final = 0.01


@dataclass
class LockWatch:
    """What was seen, looking every 10 ms."""

    looks: int = 0
    waiting: list[str] = field(default_factory=list)


@asynccontextmanager
async def no_decision_waits(superuser_dsn: str) -> AsyncIterator[LockWatch]:
    """Look beside what the caller does; raises AssertionError if a decision waited."""
    watch, stop = LockWatch(), asyncio.Event()

    async def look() -> None:
        async with connected(superuser_dsn) as session:
            asked = await session.prepare(WAITING)
            while not stop.is_set():
                watch.waiting += [row["query"] for row in await asked.fetch()]
                watch.looks += 1
                await asyncio.sleep(INTERVAL_S)

    looking = asyncio.create_task(look())
    try:
        yield watch
    finally:
        stop.set()
        await looking
    assert not watch.waiting, watch.waiting[:3]
    assert watch.looks


async def until_unload_held(superuser_dsn: str) -> None:
    """Return when an unload stands still because somebody else has a row that it needs."""
    async with connected(superuser_dsn) as session, asyncio.timeout(HELD_SECONDS):
        while not await session.fetchval(HELD):
            await asyncio.sleep(0.005)
