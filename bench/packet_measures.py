"""The measures of packets: how fast they reach the core, and whom they hold up."""

import asyncio
import json
import time
from collections.abc import Awaitable, Callable
from datetime import datetime
from functools import partial
from statistics import median

import asyncpg

from bench import plan as plans
from bench.measures import LONGEST_SWEEP_S, Bench
from bench.packet_figures import Lags, LockCount
from bench.processes import BenchError, post
from bench.queries import query
from bench.tools import open_load, run_one_by_one
from bench.watches import lock_watch, run_watch
from bench.world import CLIENT

UNLOAD_LIMIT_S = 150.0
WARM_UP_POSTINGS = 200
LONGEST_BESIDE_S = 300.0
BOOKED_LIMIT_S = 60.0
BOOKED_STEP_S = 0.1


async def measure_p(bench: Bench) -> None:
    """Packets of every size, and the same work with a commit a posting."""
    await unload_packet(bench, await make_packet(bench, WARM_UP_POSTINGS), WARM_UP_POSTINGS)
    found = bench.figures.packets.unloads
    for size, repeats in bench.plan.packets:
        names = [await make_packet(bench, size) for _ in range(repeats)]
        times = [await unload_packet(bench, name, size) for name in names]
        found[size].append(median(times))
        bench.say(f"   {size:,} postings: {found[size][-1]:.3f} s")
    await _one_by_one(bench)


async def measure_q(bench: Bench) -> None:
    """Debits offered at a share of (a)'s rate: before packets, and beside them."""
    found = bench.figures.packets
    found.offered = await offered_rate(bench)
    size = bench.plan.largest_packet
    for _ in range(bench.plan.beside_pairs):
        names = [await make_packet(bench, size) for _ in range(bench.plan.beside_packets)]
        before_s = bench.plan.before_s
        await offered(bench, "q before", before_s, partial(asyncio.sleep, before_s))
        beside = partial(_unload_beside, bench, names, size)
        await offered(bench, "q beside", LONGEST_BESIDE_S, beside)
        ratio = bench.figures.p99_ratios("q beside", "q before")[-1]
        bench.say(f"   p99 beside packets ÷ before: {ratio:.2f}")


async def measure_s(bench: Bench) -> None:
    """Straight-through postings at a fixed rate, and when they are seen in the core."""
    spec = bench.spec(
        "posting", plans.OPEN_CONNECTIONS, bench.plan.straight_s, packet=None,
        rate=float(plans.STRAIGHT_THROUGH_RATE),
    )  # fmt: skip
    dsn = bench.world.owner_dsn
    connection: asyncpg.Connection = await asyncpg.connect(dsn)
    try:
        async with bench.world.packets_worker(), run_watch(dsn) as runs:
            # The worker's start is not part of the lag: it has to have booked something.
            await bench.load("batch", 1, LONGEST_SWEEP_S, count=1, packet=None)
            await _until_none_waits(connection)
            async with open_load(spec) as load:
                await load.begun()
                bench.say(f"   {plans.STRAIGHT_THROUGH_RATE} postings a second are due")
                since = await connection.fetchval("SELECT clock_timestamp()")
                result = await load.result()
            await _until_none_waits(connection)
        bench.account_for("posting", result)
        bench.figures.add("s", result)
        await keep_lags(bench, connection, runs, since)
    finally:
        await connection.close()


async def offered_rate(bench: Bench) -> float:
    """Return the debits a second that are a share of (a)'s rate."""
    if not bench.figures.rates("a"):
        bench.say("   (a) gives the rate")
        await bench.measure_a()
    return plans.OFFERED_SHARE * median(bench.figures.rates("a"))


async def make_packet(bench: Bench, size: int) -> str:
    """Make a packet of so many postings, two an account; return its name."""
    name = bench.new_packet()
    bench.say(f"   {name} gets {size:,} postings")
    accounts = size // plans.POSTINGS_PER_ACCOUNT
    result = await bench.load(
        "batch", plans.BATCH_CONNECTIONS, LONGEST_SWEEP_S, count=size, accounts=accounts,
        packet=name,
    )  # fmt: skip
    if result.approved != size:
        raise BenchError(f"only {result.approved} of {size} postings of {name} were taken")
    return name


async def unload_packet(bench: Bench, name: str, size: int) -> float:
    """Unload a packet; return the seconds until the answer. Raises BenchError if not all of it."""
    path = f"/v1/packets/{name}/unload"
    began = time.perf_counter()
    status, body = await post(
        bench.world.api_port, path, b"{}", bearer=bench.world.key, key=name,
        limit_s=UNLOAD_LIMIT_S,
    )  # fmt: skip
    seconds = time.perf_counter() - began
    document = json.loads(body) if status == 200 else {}
    if document.get("booked") != size or document.get("problems_total") != 0:
        raise BenchError(f"{name} was not unloaded whole: {status} {body[:500]!r}")
    bench.figures.packets.booked_told += size
    return seconds


async def _one_by_one(bench: Bench) -> None:
    """The baseline: one connection, one posting a commit."""
    size = bench.plan.one_by_one
    name = await make_packet(bench, size)
    connection: asyncpg.Connection = await asyncpg.connect(bench.world.owner_dsn)
    try:
        if not bench.has_one_by_one:
            await connection.execute(query("one_by_one_schema"))
            bench.has_one_by_one = True
        await connection.execute(query("one_by_one_clear"))
        await connection.execute(query("one_by_one_fill"), CLIENT, name)
        await connection.execute(query("one_by_one_analyze"))
    finally:
        await connection.close()
    sample = await run_one_by_one(bench.world.pgbench, bench.world.owner_dsn, size)
    bench.figures.samples["p one"].append(sample)
    bench.figures.packets.booked_told += size


async def offered(
    bench: Bench, series: str, longest_s: float, work: Callable[[], Awaitable[None]]
) -> None:
    """Offer the debits while `work` is done, and look at the server's locks all the time."""
    found = bench.figures.packets
    rate = await offered_rate(bench)
    spec = bench.spec("posting", plans.OPEN_CONNECTIONS, longest_s, rate=rate)
    async with lock_watch(bench.world.owner_dsn) as locks, open_load(spec) as load:
        await load.begun()
        await work()
        result = await load.stop()
    bench.account_for("posting", result)
    bench.figures.add(series, result)
    if series == "q beside":
        found.locks = found.locks or LockCount()
        found.locks.add(locks)


async def _unload_beside(bench: Bench, names: list[str], size: int) -> None:
    for name in names:
        bench.figures.packets.beside.append(await unload_packet(bench, name, size))


async def _until_none_waits(connection: asyncpg.Connection) -> None:
    """Wait until every straight-through posting has been taken."""
    deadline = time.monotonic() + BOOKED_LIMIT_S
    while waiting := await connection.fetchval(query("straight_pending")):
        if time.monotonic() > deadline:
            raise BenchError(f"{waiting} straight-through postings wait after {BOOKED_LIMIT_S} s")
        await asyncio.sleep(BOOKED_STEP_S)


async def keep_lags(
    bench: Bench, connection: asyncpg.Connection, runs: dict[str, tuple[int, datetime]],
    since: datetime,
) -> None:  # fmt: skip
    """Keep how late what was accepted since `since` was seen in the core.

    Raises BenchError if the run of one was not seen.
    """
    numbers = [number for number, _ in runs.values()]
    instants = [seen_at for _, seen_at in runs.values()]
    [row] = await connection.fetch(
        query("straight_lags"), CLIENT, list(runs), numbers, instants, since
    )
    if row["unseen"]:
        raise BenchError(f"nobody saw when {row['unseen']} straight-through postings were booked")
    found = bench.figures.packets
    found.lags = Lags(row["postings"], row["p50_s"], row["p99_s"], row["max_s"])
    found.straight_packets = len(runs)
    found.booked_told += await connection.fetchval(query("straight_booked"))
