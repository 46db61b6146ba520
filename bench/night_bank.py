"""The bank whose day closes and opens: the switch by REST, and the hands of its core."""

import asyncio
import json
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass

import asyncpg

from bench.measures import Bench
from bench.processes import BenchError, post
from bench.queries import query
from ni.session import connected

SWITCH_LIMIT_S = 180.0
EXACT_LIMIT_S = 600.0
EXACT_STEP_S = 0.05
WORKERS = ("packets", "night-copy", "housekeeping")


@dataclass(frozen=True, slots=True)
class Switched:
    """One switch as its caller saw it."""

    epoch: int
    instant: float
    """Of the flip, on the machine's monotonic clock."""
    call_ms: float
    """Request to answer, without the wait for unloads that were under way."""
    drain_ms: int
    gate_tries: int


async def switch(bench: Bench, core: asyncpg.Connection, to: str) -> Switched:
    """Close or open the day by REST. Raises BenchError if that is refused."""
    word = {"night": "close", "day": "open"}[to]
    began = time.perf_counter()
    status, body = await post(
        bench.world.api_port, f"/v1/business-day/{word}", b"{}", bearer=bench.world.key,
        key=f"{word}.{time.time_ns()}", limit_s=SWITCH_LIMIT_S,
    )  # fmt: skip
    call_ms = (time.perf_counter() - began) * 1000
    if status != 200 or json.loads(body)["mode"] != to:
        raise BenchError(f"the day did not {word}: {status} {body[:500]!r}")
    [row] = await core.fetch(query("last_switch"))
    instant = time.perf_counter() - row["ago_s"]
    drain_ms = row["drain_ms"]
    return Switched(row["epoch"], instant, call_ms - drain_ms, drain_ms, row["gate_tries"])


async def until_exact(core: asyncpg.Connection) -> None:
    """Wait until the copy is what the core is. Raises BenchError if that takes too long."""
    deadline = time.monotonic() + EXACT_LIMIT_S
    while not await core.fetchval("SELECT ni.night_copy_is_exact_v1()"):
        if time.monotonic() > deadline:
            raise BenchError(f"the night copy is not exact after {EXACT_LIMIT_S:.0f} s")
        await asyncio.sleep(EXACT_STEP_S)


@asynccontextmanager
async def core_of(bench: Bench) -> AsyncIterator[asyncpg.Connection]:
    """A session of the core's owner."""
    async with connected(bench.world.owner_dsn) as core:
        yield core


@asynccontextmanager
async def workers(bench: Bench) -> AsyncIterator[None]:
    """Run NI's workers as `ni up` does, and count afterwards what they booked.

    Raises BenchError if one has ended by itself.
    """
    async with core_of(bench) as core:
        before = await core.fetchval(query("straight_booked"))
        try:
            async with AsyncExitStack() as stack:
                for name in WORKERS:
                    await stack.enter_async_context(bench.world.worker(name))
                yield
        finally:
            booked = await core.fetchval(query("straight_booked")) - before
            bench.figures.packets.booked_told += booked


async def grow(bench: Bench, core: asyncpg.Connection) -> int:
    """Let the core open accounts up to the plan's number; return how many it has."""
    wanted = bench.plan.copy_accounts
    bench.say(f"   the bank grows to {wanted:,} accounts, the triggers keep its copy")
    await core.execute(query("core_grows"), wanted, timeout=EXACT_LIMIT_S)
    await core.execute(query("night_analyze"))
    await until_exact(core)
    accounts: int = await core.fetchval(query("night_accounts"))
    return accounts


@asynccontextmanager
async def core_held(bench: Bench) -> AsyncIterator[None]:
    """The core holds all its tables as a whole, in one transaction with an id."""
    async with core_of(bench) as core:
        await core.execute(query("holder_begin"))
        await core.execute(query("core_lock"))
        began = await core.fetchval(query("holder_xid"))
        yield
        if await core.fetchval(query("holder_xid")) != began:
            raise BenchError("the core's transaction did not stay open")
        await core.execute("ROLLBACK")
