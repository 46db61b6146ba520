"""What looks at the database beside a load, on a connection of its own, until it is left."""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from datetime import datetime

import asyncpg

from bench.packet_figures import LockCount
from bench.processes import BenchError
from bench.queries import query
from bench.world import CLIENT
from ni.database import LOST_CONNECTION

STEP_S = 0.010

Look = Callable[[asyncpg.Connection], Awaitable[None]]


@asynccontextmanager
async def looking(
    dsn: str, look: Look, server_settings: dict[str, str] | None = None
) -> AsyncIterator[None]:
    """Look every `STEP_S`, at once when that has passed, as long as the block runs.

    Raises BenchError at the end of the block if a look has failed.
    """
    connection: asyncpg.Connection = await asyncpg.connect(dsn, server_settings=server_settings)
    ended = asyncio.Event()
    task = asyncio.create_task(_look_on(connection, look, ended))
    try:
        yield
        ended.set()
        try:
            await task
        except (*LOST_CONNECTION, asyncpg.PostgresError) as error:
            raise BenchError(f"what looks at the database had to stop: {error}") from error
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        await connection.close()


async def _look_on(connection: asyncpg.Connection, look: Look, ended: asyncio.Event) -> None:
    while True:
        next_at = time.perf_counter() + STEP_S
        last = ended.is_set()
        await look(connection)
        if last:
            return
        await asyncio.sleep(max(next_at - time.perf_counter(), 0))


@asynccontextmanager
async def counting(dsn: str, name: str) -> AsyncIterator[LockCount]:
    """Count, every 10 ms, whether query `name` finds locks, and which. The value fills up."""
    found = LockCount()
    text, before = query(name), 0.0

    async def look(connection: asyncpg.Connection) -> None:
        nonlocal before
        locks = {row[0] for row in await connection.fetch(text)}
        now = time.perf_counter()
        found.samples += 1
        found.with_locks += bool(locks)
        found.kinds.update(locks)
        if before:
            found.longest_gap_ms = max(found.longest_gap_ms, (now - before) * 1000)
        before = now

    async with looking(dsn, look):
        yield found


def lock_watch(dsn: str) -> AbstractAsyncContextManager[LockCount]:
    """Count, every 10 ms, whether a decision waits for an unload."""
    return counting(dsn, "lock_waits")


@asynccontextmanager
async def run_watch(dsn: str) -> AsyncIterator[dict[str, tuple[int, datetime]]]:
    """Note when each run of a straight-through packet is first seen: by packet, number and when."""
    found: dict[str, tuple[int, datetime]] = {}
    text = query("runs_seen")

    async def look(connection: asyncpg.Connection) -> None:
        for row in await connection.fetch(text, CLIENT, list(found)):
            found[row["packet"]] = row["number"], row["seen_at"]

    async with looking(dsn, look):
        yield found
