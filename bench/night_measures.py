"""What day and night cost while nothing is switched: the gate, the triggers; and one close."""

import time
from collections.abc import Awaitable, Callable

import asyncpg

from bench import plan as plans
from bench.measures import Bench
from bench.night_bank import core_of, grow, switch, until_exact
from bench.night_figures import Closes
from bench.packet_measures import WARM_UP_POSTINGS, make_packet, unload_packet
from bench.processes import BenchError
from bench.queries import query

COPY_LIMIT_S = 1_800.0
FULL_SHARE = "100"
"""Per cent of the time that the full copy may work; `ni night-copy rebuild` takes 80 by itself."""


async def measure_gate(bench: Bench) -> None:
    """Debits with the gate and without, side by side, the first of a pair in turn."""
    async with core_of(bench) as core:

        async def debits(*, gate: bool) -> float:
            if not gate:
                await core.execute(query("gate_off"))
            try:
                result = await bench.load("posting", plans.CONNECTIONS, bench.plan.gate_s)
            finally:
                if not gate:
                    await core.execute(query("gate_on"))
            return result.rate

        for number in range(bench.plan.gate_pairs):
            pair = await _pair(number, lambda: debits(gate=True), lambda: debits(gate=False))
            bench.figures.nights.gate.append(pair)
    ratios = " ".join(f"{ratio:.3f}" for ratio in bench.figures.nights.gate_ratios())
    bench.say(f"   with ÷ without: {ratios}")


async def measure_triggers(bench: Bench) -> None:
    """A large packet with the triggers and without; at the end the copy is brought back."""
    size = bench.plan.largest_packet
    await unload_packet(bench, await make_packet(bench, WARM_UP_POSTINGS), WARM_UP_POSTINGS)
    async with core_of(bench) as core:

        async def unloaded(*, triggers: bool) -> float:
            name = await make_packet(bench, size)
            if not triggers:
                await core.execute(query("triggers_off"))
            try:
                await _expect_triggers(core, fire=triggers)
                return await unload_packet(bench, name, size)
            finally:
                await core.execute(query("triggers_on"))

        for number in range(bench.plan.trigger_pairs):
            pair = await _pair(
                number, lambda: unloaded(triggers=True), lambda: unloaded(triggers=False)
            )
            bench.figures.nights.triggers.append(pair)
            bench.say(f"   with {pair[0]:.3f} s, without {pair[1]:.3f} s")
        # Triggers that were off make the copy inexact; here it is compared, not made anew.
        await full_copy(bench, core)


async def measure_close(bench: Bench) -> None:
    """Close a large bank again and again, right after the core has changed many accounts."""
    async with core_of(bench) as core:
        accounts = await grow(bench, core)
        closes = []
        for _ in range(bench.plan.closes):
            await core.execute(query("core_books"), bench.plan.close_changed, -1)
            closes.append(await switch(bench, core, "night"))
            await switch(bench, core, "day")
        bench.say(f"   closed in {max(one.call_ms for one in closes):.0f} ms at most")
        await core.execute(query("night_empty"))
        copy_s, told = await full_copy(bench, core)
        copied = await core.fetchval(query("night_accounts"))
        if copied != accounts:
            raise BenchError(f"the full copy has {copied} accounts of {accounts}")
        bench.say(f"   a full copy into an empty one: {copy_s:.1f} s")
    bench.figures.nights.closes = Closes(
        accounts=accounts,
        changed=bench.plan.close_changed,
        close_ms=[one.call_ms for one in closes],
        drain_ms=[one.drain_ms for one in closes],
        copy_s=copy_s,
        copy_told=told,
    )


async def full_copy(bench: Bench, core: asyncpg.Connection) -> tuple[float, str]:
    """Look at every key and copy what differs; return the seconds and what the command said."""
    began = time.perf_counter()
    told = await bench.world.command(
        "night-copy", "rebuild", "--share", FULL_SHARE, limit_s=COPY_LIMIT_S
    )
    seconds = time.perf_counter() - began
    await until_exact(core)
    return seconds, told.splitlines()[-1]


async def _expect_triggers(core: asyncpg.Connection, *, fire: bool) -> None:
    [row] = await core.fetch(query("triggers_state"))
    if row["stand"] == 0 or row["fire"] != (row["stand"] if fire else 0):
        raise BenchError(f"the triggers should {'' if fire else 'not '}fire: {dict(row)}")


async def _pair(
    number: int, one: Callable[[], Awaitable[float]], other: Callable[[], Awaitable[float]]
) -> tuple[float, float]:
    """Measure both, each pair the other way round; return what `one` found first."""
    if number % 2 == 0:
        first = await one()
        return first, await other()
    second = await other()
    return await one(), second
