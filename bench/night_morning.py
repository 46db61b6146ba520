"""After opening: the copy is brought back, the night's postings reach the core, debits beside."""

import asyncio
import time
from functools import partial

import asyncpg

from bench import plan as plans
from bench.measures import LONGEST_SWEEP_S, Bench
from bench.night_bank import core_of, grow, switch, until_exact, workers
from bench.night_figures import Morning
from bench.night_watches import take_snapshot
from bench.packet_measures import offered
from bench.processes import BenchError
from bench.queries import query

LONGEST_MORNING_S = 900.0
CHARGED = 20
SNAPSHOT_PAUSE_S = 0.002
BEFORE, BESIDE = "morning before", "morning beside"
NIGHTS_MAX = 20


async def measure_morning(bench: Bench) -> None:
    """Debits before, then a night that leaves much behind, then debits until the copy is exact."""
    plan = bench.plan
    async with core_of(bench) as core, workers(bench):
        await grow(bench, core)
        await offered(bench, BEFORE, plan.before_s, partial(asyncio.sleep, plan.before_s))
        await switch(bench, core, "night")
        bench.say(f"   {plan.morning_postings:,} postings by night")
        result = await bench.load(
            "batch", plans.BATCH_CONNECTIONS, LONGEST_SWEEP_S, count=plan.morning_postings,
            packet=None,
        )  # fmt: skip
        if result.approved != plan.morning_postings:
            raise BenchError(f"only {result.approved} postings were taken by night")
        await core.execute(query("core_books"), plan.morning_keys, -1)
        found = Morning(plan.morning_keys, plan.morning_postings, 0.0)

        async def opened() -> None:
            await switch(bench, core, "day")
            began = time.perf_counter()
            await until_exact(core)
            found.exact_s = time.perf_counter() - began

        await offered(bench, BESIDE, LONGEST_MORNING_S, opened)
        bench.say(f"   exact after {found.exact_s:.1f} s")
        await _snapshots(bench, core, found)
    bench.figures.nights.morning = found


async def _snapshots(bench: Bench, core: asyncpg.Connection, found: Morning) -> None:
    """More such nights, until enough snapshots were taken while a copy was brought back.

    The core charges accounts meanwhile, so that its triggers meet the work that is under way.
    """
    found.snapshot_keys = bench.plan.snapshot_keys
    await core.execute(query("notes_index"))
    try:
        while found.snapshots < bench.plan.snapshots:
            if found.snapshot_nights == NIGHTS_MAX:
                raise BenchError(f"{NIGHTS_MAX} mornings gave {found.snapshots} snapshots")
            found.snapshot_nights += 1
            await until_exact(core)
            await switch(bench, core, "night")
            await core.execute(query("core_books"), found.changed, -1)
            await switch(bench, core, "day")
            await _look_until_exact(bench, core, found)
            bench.say(f"   {found.snapshots:,} snapshots, {found.unnoted} rows without a note")
        await until_exact(core)
    finally:
        await core.execute(query("notes_no_index"))


async def _look_until_exact(bench: Bench, core: asyncpg.Connection, found: Morning) -> None:
    ended = asyncio.Event()

    async def charge() -> None:
        async with core_of(bench) as other:
            while not ended.is_set():
                await other.execute(query("core_charges"), CHARGED, found.changed)
                await asyncio.sleep(SNAPSHOT_PAUSE_S)

    charging = asyncio.create_task(charge())
    try:
        while found.snapshots < bench.plan.snapshots and not await core.fetchval(
            "SELECT ni.night_copy_is_exact_v1()"
        ):
            await take_snapshot(core, found)
            await asyncio.sleep(SNAPSHOT_PAUSE_S)
    finally:
        ended.set()
        await charging
