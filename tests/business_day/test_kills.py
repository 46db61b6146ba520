"""A switcher that is killed or stopped leaves the old mode or the new one, and nobody waiting."""

from __future__ import annotations

import asyncio
import signal
import subprocess
from pathlib import Path
from typing import Final

import pytest

from tests.business_day.house import House, asked, done
from tests.business_day.switcher import start
from tests.engine.world import debit, made
from tests.packets.desk import order
from tests.races.arena import TORTURE, rounds

pytestmark = pytest.mark.timeout(1_200 if TORTURE else 120)

POINTS: Final = {
    "night": ("passed", "entered", "drained", "listed", "flipped", "committed"),
    "day": ("entered", "core_had", "flipped", "committed"),
}
NEW_FROM: Final = "committed"
FREE_S: Final = 3.0


async def consistent(house: House) -> tuple[str, int]:
    """Mode and epoch; the switches and the events tell the same."""
    mode, epoch = await house.mode()
    switches = await house.switches()
    assert len(switches) == epoch - 1
    assert [number for number, _ in switches] == list(range(2, epoch + 1))
    assert mode == ("night" if epoch % 2 == 0 else "day")
    assert len(await house.events()) == epoch - 1
    return mode, epoch


async def served(house: House, account: str) -> None:
    """Nobody stands in the way of decisions and runs."""
    async with asyncio.timeout(FREE_S):
        made(await house.world.engine.submit(debit(account, 1)))
        while True:
            locks = await house.world.owner.fetchval(
                "select count(*) from pg_locks where mode = 'ExclusiveLock'"
                " and relation in ('ni.gate'::regclass, 'ni.unload_gate'::regclass)"
            )
            if locks == 0:
                return
            await asyncio.sleep(0.02)


async def ended(process: subprocess.Popen[str]) -> int:
    async with asyncio.timeout(20):
        while process.poll() is None:
            await asyncio.sleep(0.01)
    process.communicate()
    return int(process.returncode)


@pytest.mark.parametrize("to", ["night", "day"])
async def test_a_killed_switcher_leaves_one_mode_and_a_repeated_call_finishes(
    house: House, tmp_path: Path, to: str
) -> None:
    """At every step. The same key is sent again, as whoever lost its answer does."""
    [account] = await house.world.open(balance=100_00)
    trigger = tmp_path / "trigger"
    for number, point in enumerate(POINTS[to] * rounds(1, 20)):
        if (await house.mode())[0] == to:
            await (house.open() if to == "night" else house.close())
        before = await consistent(house)
        await house.desk.post(account, 1, packet=None, straight_through=True)
        trigger.write_text(f"{point} 1 KILL")
        killed = start(house.world.database.engine_dsn, trigger, to, f"key-{number}")
        assert await ended(killed) == -signal.SIGKILL, point
        await served(house, account)
        after = await consistent(house)
        assert after == ((to, before[1] + 1) if point == NEW_FROM else before), point
        again = house.day.close if to == "night" else house.day.open
        assert done(await again(asked(f"key-{number}")))["mode"] == to
        assert await consistent(house) == (to, before[1] + 1)


@pytest.mark.parametrize("point", ["drained", "flipped"])
async def test_a_stopped_switcher_is_not_waited_for(
    house: House, tmp_path: Path, point: str
) -> None:
    """A pause of its machine: with the gate in hand it has a second, with the unload gate five."""
    [account] = await house.world.open(balance=100_00)
    trigger = tmp_path / "trigger"
    trigger.write_text(f"{point} 1 STOP")
    stopped = start(house.world.database.engine_dsn, trigger, "night", "evening")
    try:
        async with asyncio.timeout(20):
            while trigger.exists():
                await asyncio.sleep(0.01)
        async with asyncio.timeout(4 if point == "flipped" else 8):
            for _ in range(5):
                made(await house.world.engine.submit(debit(account, 1)))
            night = done(await house.day.close(asked("again")))
        assert night["epoch"] == 2
        await consistent(house)
    finally:
        stopped.kill()
        stopped.communicate()


async def test_a_switcher_that_is_killed_while_it_waits_for_runs_lets_runs_begin(
    house: House, tmp_path: Path
) -> None:
    """The server looks whether the one that waits still lives."""
    one, two = await house.world.open(2, balance=100_00)
    await house.desk.post(one, 1_00, packet="slow")
    await house.desk.post(two, 1_00, packet="next")
    async with house.world.stranger() as run, run.transaction():
        await run.execute("select * from ni.enter_unload_v1('tester', 'slow')")
        waiting = start(house.world.database.engine_dsn, tmp_path / "none", "night", "evening")
        async with asyncio.timeout(20):
            while not await house.world.owner.fetchval(
                "select exists (select from pg_locks where not granted"
                " and relation = 'ni.unload_gate'::regclass)"
            ):
                await asyncio.sleep(0.01)
        waiting.kill()
        waiting.communicate()
        async with asyncio.timeout(FREE_S):
            while True:
                answer = await house.desk.packets.unload(order("next"), accepted=True)
                if answer.decision.name == "approved":
                    break
                assert answer.decision.name == "core_closed"
                await asyncio.sleep(0.05)
    assert await consistent(house) == ("day", 1)
