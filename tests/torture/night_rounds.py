"""Rounds of bad luck for the switch: it is killed at every step, under load, then all is counted.

After each kill it is the old mode or the new one, and the same call given again finishes it. The
other rounds: two switchers at once, a core's transaction across the flip, an unloader that is
killed while the switch waits for it.
"""

from __future__ import annotations

import asyncio
import random
import signal
import subprocess
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Final

from tests.business_day.test_kills import NEW_FROM, POINTS
from tests.support.caller import fresh_key
from tests.torture.account_for import UnaccountedError
from tests.torture.night_bench import NAMES, OTHER, NightBench, count, ended
from tests.torture.packet_rounds import until_working
from tests.torture.rounds import POINT_SECONDS

STEPS: Final = {to: (*points, "random") for to, points in POINTS.items()}
WAITS: Final = (Path(__file__).parent / "night_waits.sql").read_text()


async def kill_switcher_in_turn(nights: NightBench, number: int, draw: random.Random) -> str:
    """The kill of this number, day and night in turn and each step in turn; which it was."""
    to = "night" if number % 2 else "day"
    step = STEPS[to][number // 2 % len(STEPS[to])]
    await kill_switcher(nights, to, step, draw)
    return f"{to} {step}"


async def kill_switcher(nights: NightBench, to: str, step: str, draw: random.Random) -> None:
    """Kill a switch under load at a named step or at any moment, finish it, and count."""
    await bring_to(nights, OTHER[to])
    _, before = await nights.mode()
    key, trigger = fresh_key(), nights.home / "switch.trigger"
    trigger.write_text("" if step == "random" else f"{step} 1 KILL")
    async with nights.bench.load.running():
        killed = nights.switcher(to, key, trigger)
        if step == "random":
            await until_switching(nights, killed)
            await asyncio.sleep(draw.uniform(0, 0.25))
            killed.kill()
        await ended(killed)
        mode, epoch = await nights.mode()
        if step != "random":
            expect(killed.returncode == -signal.SIGKILL, f"the switch never came to {step}")
            expect(epoch == before + (step == NEW_FROM), f"{mode} {epoch} after {step}")
        expect(epoch in (before, before + 1), f"epoch {epoch} after {before}")
        returncode, said = await ended(nights.switcher(to, key))
        expect((returncode, said) == (0, "approved"), f"again: {returncode} {said}")
        expect(await nights.mode() == (to, before + 1), f"not {to} {before + 1}")
        nights.note_switch(to)
        if to == "night":
            await nights.core_works(draw.uniform(0, 0.2))
    await count(nights)


async def bring_to(nights: NightBench, mode: str) -> None:
    """Be in this mode, with a copy that may serve."""
    if (await nights.mode())[0] != mode:
        await nights.switch(mode)
    if mode == "day":
        await nights.until_exact()


async def two_switchers(nights: NightBench, draw: random.Random) -> None:
    """Two at once close, then two at once open: one switch each, both are told so."""
    await bring_to(nights, "day")
    for to in ("night", "day"):
        _, before = await nights.mode()
        async with nights.bench.load.running():
            both = [nights.switcher(to, fresh_key()) for _ in range(2)]
            told = await asyncio.gather(*(ended(one) for one in both))
            expect(told == [(0, "approved")] * 2, f"two at once: {told}")
            expect(await nights.mode() == (to, before + 1), "two at once switched twice")
            nights.note_switch(to)
            if to == "night":
                await nights.core_works(draw.uniform(0, 0.2))
        await count(nights)


async def core_across(nights: NightBench, draw: random.Random) -> None:
    """A core's transaction that begins by day and commits by night, and one the other way."""
    await bring_to(nights, "day")
    one, other, third = draw.sample(NAMES, 3)
    async with nights.bench.load.running():
        core = await nights.packets.owner()
        try:
            await core.execute("begin")
            await core_books(core.execute, one, 7_00)
            await nights.switch("night")
            await core_books(core.execute, other, 3_00)
            await asyncio.sleep(draw.uniform(0, 0.1))
            await core.execute("commit")
            nights.by_day.update({one: 7_00, other: 3_00})
            nights.by_night.update({one: 7_00, other: 3_00})
        finally:
            await core.close()
    await count(nights)
    async with nights.bench.load.running():
        core = await nights.packets.owner()
        try:
            await core.execute("begin")
            await core_books(core.execute, third, 5_00)
            await nights.switch("day")
            await core.execute("commit")
            nights.by_day.update({third: 5_00})
        finally:
            await core.close()
    await count(nights)


async def core_books(execute: Callable[..., Awaitable[object]], name: str, minor: int) -> None:
    """The core's own booking."""
    await execute("update core.account set balance = balance + $2 where account = $1", name, minor)


async def kill_draining(nights: NightBench, draw: random.Random) -> bool:
    """Kill an unloader while a close waits for it; return whether it was seen to wait."""
    await bring_to(nights, "day")
    unloader, seen = nights.packets.unloader, False
    unloader.start()
    try:
        async with nights.bench.load.running():
            await until_working(nights.packets)
            unloader.trigger.write_text("unloaded 1 STOP")
            async with asyncio.timeout(POINT_SECONDS):
                while unloader.trigger.exists():
                    await asyncio.sleep(0.002)
            closing = asyncio.create_task(nights.switch("night"))
            seen = await until_waiting(nights, closing)
            await asyncio.sleep(draw.uniform(0, 0.2))
            unloader.kill()
            await closing
            await nights.core_works(0)
    finally:
        unloader.kill()
    await count(nights)
    return seen


async def until_waiting(nights: NightBench, closing: asyncio.Task[None]) -> bool:
    """Return True when the close waits for unloads, False when it has ended without."""
    owner = await nights.packets.owner()
    try:
        while not closing.done():
            if await owner.fetchval(WAITS):
                return True
            await asyncio.sleep(0.002)
    finally:
        await owner.close()
    return False


async def until_switching(nights: NightBench, switcher: subprocess.Popen[str]) -> None:
    """Return when the switcher has its session, or has ended; raises TimeoutError."""
    async with asyncio.timeout(POINT_SECONDS):
        while switcher.poll() is None and not await nights.owner.fetchval(
            "select exists (select from pg_stat_activity where application_name = 'ni switch')"
        ):
            await asyncio.sleep(0.005)


def expect(truth: bool, otherwise: str) -> None:
    """Raises UnaccountedError with what is so instead."""
    if not truth:
        raise UnaccountedError(otherwise)
