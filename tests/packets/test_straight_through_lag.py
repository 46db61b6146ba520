"""One packet that does not pass holds up no other; a worker's pauses end with its troubles."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, Final
from uuid import UUID

import asyncpg
import pytest

import workers.packets
from ni import clock
from ni.straight_through import Pass, StraightThrough, last_pass
from tests.engine.world import CASH, FEES
from tests.packets.desk import Desk
from workers.packets import run

STP: Final[dict[str, Any]] = {"packet": None, "straight_through": True}
LAG_S: Final = 2.0


@asynccontextmanager
async def _working(desk: Desk, **limits: int) -> AsyncIterator[None]:
    stop = asyncio.Event()
    task = asyncio.create_task(run(desk.world.settings.model_copy(update=limits), stop))
    try:
        yield
    finally:
        stop.set()
        await task


async def _lag_s(desk: Desk, posting: UUID) -> float:
    begun = clock.monotonic()
    while await desk.statuses(posting) != ["booked"] and clock.monotonic() - begun < 2 * LAG_S:
        await asyncio.sleep(0.05)
    return clock.monotonic() - begun


async def test_a_row_that_the_core_holds_stops_its_packet_alone(desk: Desk) -> None:
    [held, other] = await desk.world.open(2, balance=100_00)
    async with _working(desk), desk.world.stranger() as core, core.transaction():
        await core.execute("select from core.account where account = $1 for update", held)
        stuck = await desk.post(held, 1_00, client="cards", **STP)
        await asyncio.sleep(1.5)
        posting = await desk.post(other, 1_00, client="payments", **STP)
        assert await _lag_s(desk, posting) <= LAG_S
        assert await desk.statuses(stuck) == ["pending"]


async def test_many_packets_that_the_core_holds_leave_room_for_others(desk: Desk) -> None:
    """More packets than are tried at a time, each with a row that the core holds."""
    *held, other = await desk.world.open(31, balance=100_00)
    async with _working(desk, stp_postings_max=1), desk.world.stranger() as core:
        async with core.transaction():
            await core.execute("select from core.account where account = any($1) for update", held)
            for name in held:
                await desk.post(name, 1_00, **STP)
            await asyncio.sleep(6)
            lags = [
                await _lag_s(desk, await desk.post(other, 1_00, credit=FEES, **STP))
                for _ in range(3)
            ]
            assert max(lags) <= LAG_S, lags


async def test_postings_refused_only_together_slow_nobody(desk: Desk) -> None:
    pair = await desk.world.open(2, balance=100_00)
    [other] = await desk.world.open(balance=100_00)
    await desk.world.owner.execute(
        "alter table core.account add constraint odd check (balance not between 150 and 299)"
    )
    await desk.world.owner.execute("update core.account set balance = 0 where account = $1", CASH)
    bad = [await desk.post(name, 100, client="bad", **STP) for name in pair]
    async with _working(desk):
        posting = await desk.post(other, 3_00, client="good", credit=FEES, **STP)
        assert await _lag_s(desk, posting) <= LAG_S
        assert await _lag_s(desk, bad[0]) <= LAG_S
        assert await desk.statuses(*bad) == ["booked", "problem"]


async def test_the_pauses_begin_anew_after_a_pass_that_went_well(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    after_trouble: list[float] = []
    stop = asyncio.Event()
    passes = 0
    troubled = False

    async def noted(_stop: asyncio.Event, seconds: float) -> None:
        nonlocal troubled
        if troubled:
            after_trouble.append(seconds)
        troubled = False
        if len(after_trouble) == 5:
            stop.set()

    async def good_three_times(_worker: StraightThrough) -> Pass:
        nonlocal passes, troubled
        passes += 1
        if passes % 4 == 0:
            troubled = True
            raise asyncpg.DeadlockDetectedError("the core was chosen as the victim")
        return Pass()

    monkeypatch.setattr(workers.packets, "pause", noted)
    monkeypatch.setattr(StraightThrough, "begin", good_three_times)
    await run(desk.world.settings, stop)
    assert max(after_trouble) <= 1, after_trouble


async def test_a_packet_that_fails_is_tried_again_with_longer_and_longer_pauses(
    desk: Desk,
) -> None:
    straight = StraightThrough(desk.packets.pool, desk.world.settings)
    pauses = [straight._back_off_s(failures) for failures in (1, 2, 3, 100)]
    assert pauses == [0.5, 1.0, 2.0, desk.world.settings.stp_backoff_max_s]


async def test_the_last_pass_tells_what_it_could_not_unload(desk: Desk) -> None:
    [held, other] = await desk.world.open(2, balance=100_00)
    await desk.post(held, 1_00, client="cards", **STP)
    await desk.post(other, 1_00, client="payments", **STP)
    pool, settings = desk.packets.pool, desk.world.settings
    async with desk.world.stranger() as core, core.transaction():
        await core.execute("select from core.account where account = $1 for update", held)
        done = await last_pass(pool, settings, 5)
        assert (done.packets, done.postings, done.failed, done.complete) == (2, 2, 1, False)
        assert await desk.core_balance(other) == 99_00
        begun = clock.monotonic()
        assert not (await last_pass(pool, settings, 1)).complete
        assert clock.monotonic() - begun < 3
    assert (await last_pass(pool, settings, 5)).complete
    assert await desk.core_balance(held) == 99_00


async def test_the_last_pass_takes_more_than_fits_one_look(desk: Desk) -> None:
    accounts = await desk.world.open(25, balance=100_00)
    for name in accounts:
        await desk.post(name, 1_00, **STP)
    settings = desk.world.settings.model_copy(update={"stp_postings_max": 1})
    done = await last_pass(desk.packets.pool, settings, 20)
    assert (done.packets, done.postings, done.complete) == (25, 25, True)
    assert {await desk.core_balance(name) for name in accounts} == {99_00}
