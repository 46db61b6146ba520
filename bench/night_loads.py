"""Loads beside the switch, beside a core that holds its tables, and through a long night."""

import asyncio
import dataclasses
import tempfile
from collections.abc import Awaitable, Callable
from pathlib import Path

import asyncpg

from bench import plan as plans
from bench.load_spec import PACKET
from bench.measures import Bench
from bench.night_bank import Switched, core_held, core_of, switch, until_exact, workers
from bench.night_figures import Locked, LongNight, MixedLoad, Switches
from bench.night_spec import NightResult, NightSpec
from bench.night_trace import Trace
from bench.night_watches import core_watch, outbox_reader
from bench.processes import BenchError
from bench.queries import query
from bench.tools import open_load

OPENING_MINOR = 10_000_000_000_000
"""What every account of the bank began with."""
BOOKED_MINOR = 1_000_000_000
"""More than all loads of a run take from one account."""
LONGEST_S = 20_000.0
Work = Callable[[], Awaitable[None]]


async def measure_switch(bench: Bench) -> None:
    """The same load without switches, then with them."""
    plan, made = bench.plan, list[Switched]()
    async with core_of(bench) as core, workers(bench):

        async def stay() -> None:
            await asyncio.sleep(2 * plan.nights * plan.mode_s)

        async def nights() -> None:
            for number in range(1, plan.nights + 1):
                made.extend(await _night(bench, core))
                if number % 10 == 0 or number == plan.nights:
                    bench.say(f"   {2 * number:,} of {2 * plan.nights:,} switches")

        await until_exact(core)
        equal, _ = await mixed_load(bench, core, stay, packet=None)
        switched, trace = await mixed_load(bench, core, nights, packet=None)
    near = trace.near((one.instant for one in made), plans.NEAR_S)
    bench.figures.nights.switches = Switches(
        equal=equal,
        switched=switched,
        switches=len(made),
        near_calls=len(near.calls),
        near_p99_ms=near.p99_ms(),
        close_ms=[one.call_ms for one in made[0::2]],
        open_ms=[one.call_ms for one in made[1::2]],
        gate_tries=max(one.gate_tries for one in made),
        longest_after_s=trace.longest_after_s(one.instant for one in made),
    )


async def _night(bench: Bench, core: asyncpg.Connection) -> list[Switched]:
    """Close, let the core book and take its next date, open, wait until the copy is exact."""
    mode_s = bench.plan.mode_s
    closed = await switch(bench, core, "night")
    await asyncio.sleep(mode_s / 2)
    await core.execute(query("core_books"), plans.MIX_ACCOUNTS, BOOKED_MINOR)
    await core.execute(query("core_turns_date"))
    await asyncio.sleep(mode_s / 2)
    opened = await switch(bench, core, "day")
    await asyncio.gather(asyncio.sleep(mode_s), until_exact(core))
    return [closed, opened]


async def measure_locked(bench: Bench) -> None:
    """A night in which the core holds every table of its own."""
    held_s = bench.plan.locked_s
    async with core_of(bench) as core, workers(bench):
        await until_exact(core)
        await switch(bench, core, "night")
        async with core_held(bench):

            async def stay() -> None:
                async with core_watch(bench.world.owner_dsn) as found.locks:
                    await asyncio.sleep(held_s)

            found = Locked(MixedLoad(), held_s)
            found.load, _ = await mixed_load(bench, core, stay, packet=PACKET)
        await switch(bench, core, "day")
    bench.figures.nights.locked = found


async def measure_night(bench: Bench) -> None:
    """A night beside the core's open transaction: half the load on one account."""
    plan = bench.plan
    async with core_of(bench) as core, workers(bench):
        await until_exact(core)
        await core.execute(query("outbox_delivered"))
        await switch(bench, core, "night")
        async with core_held(bench), outbox_reader(bench.world.owner_dsn) as outbox:

            async def stay() -> None:
                await asyncio.sleep(plan.night_s)

            load, trace = await mixed_load(
                bench, core, stay, packet=PACKET, hot_share=plans.HOT_SHARE
            )
        await switch(bench, core, "day")
    first, last = trace.edges(plan.night_edge_s)
    bench.figures.nights.night = LongNight(
        load, plan.night_edge_s, plans.HOT_SHARE, first.p99_ms(), last.p99_ms(),
        outbox.events, len(outbox.polls_ms), *outbox.edges(),
    )  # fmt: skip


async def mixed_load(
    bench: Bench, core: asyncpg.Connection, work: Work, *, packet: str | None, hot_share: int = 0
) -> tuple[MixedLoad, Trace]:
    """Offer the mix while `work` is done; return its figures and every call.

    Raises BenchError if a base is already so that answers could not tell one night from another.
    """
    with tempfile.TemporaryDirectory(dir=bench.world.home) as folder:
        trace = Path(folder) / "trace"
        spec = await _spec(bench, core, trace, packet, hot_share)
        async with open_load(spec) as run:
            await run.begun()
            await work()
            run.end()
            result = NightResult.from_json(await run.output())
        calls = Trace.read(trace)
    bench.figures.packets.arrivals += result.calls
    bench.figures.packets.late += result.late
    bench.figures.postings_acknowledged += result.approved
    return told(result, calls), calls


def told(result: NightResult, calls: Trace) -> MixedLoad:
    """Return what a generator found."""
    return MixedLoad(
        seconds=result.seconds, calls=result.calls, failures=result.failures, mixed=result.mixed,
        checked=result.checked, p99_ms=calls.p99_ms(), longest_ms=calls.longest_ms(),
        samples=result.samples, of_kind=result.of_kind,
    )  # fmt: skip


async def _spec(
    bench: Bench, core: asyncpg.Connection, trace: Path, packet: str | None, hot_share: int
) -> NightSpec:
    load = bench.spec(
        "posting", plans.OPEN_CONNECTIONS, LONGEST_S, accounts=plans.MIX_ACCOUNTS, packet=packet,
        account=0 if hot_share else None, rate=float(plans.MIX_RATE),
    )  # fmt: skip
    # Sessions that rested all day warm up, too, before the start is measured.
    load = dataclasses.replace(load, warm_seconds=bench.plan.mix_warm_s)
    [ground] = await core.fetch(query("mix_ground"), plans.MIX_ACCOUNTS)
    spec = NightSpec(
        load=load, opening_minor=OPENING_MINOR, booked_minor=BOOKED_MINOR,
        first_epoch=ground["epoch"] - (ground["mode"] == "night"),
        first_date=str(ground["business_date"]), trace=str(trace), hot_share=hot_share,
    )  # fmt: skip
    nights = spec.nights_in(ground["highest"])
    if spec.nights_in(ground["lowest"] - BOOKED_MINOR // 2) != nights:
        raise BenchError(f"balances do not tell one night from another: {dict(ground)}")
    return dataclasses.replace(spec, opening_minor=OPENING_MINOR + nights * BOOKED_MINOR)
