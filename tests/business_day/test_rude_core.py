"""The core is too early, too late, or unloads are still under way when the day shall close."""

from __future__ import annotations

import asyncio
import os
import random
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any, Final

import pytest

from ni.decisions import Decision
from ni.straight_through import StraightThrough
from tests.business_day.house import House, asked, core_held, no_lock_on_core, why_not
from tests.engine.world import debit, made
from tests.packets.desk import order
from workers import packets as packets_worker

CLOSE_S: Final = 2.0
UNBOOKED: Final = 1_000_000 if os.environ.get("NI_TORTURE") else 200_000
STP: Final[dict[str, Any]] = {"packet": None, "straight_through": True}


@asynccontextmanager
async def traffic(house: House, names: list[str]) -> AsyncIterator[list[float]]:
    """Debits and reads on every account until the end; how long each took, in seconds."""
    over, took = asyncio.Event(), []

    async def work(call: Callable[[House, str], Awaitable[Any]], name: str) -> None:
        while not over.is_set():
            began = time.monotonic()
            await call(house, name)
            took.append(time.monotonic() - began)

    async with asyncio.TaskGroup() as group:
        for name in names:
            group.create_task(work(_debit, name))
            group.create_task(work(_read, name))
        try:
            yield took
        finally:
            over.set()


async def _debit(house: House, name: str) -> None:
    made(await house.world.engine.submit(debit(name, 1)))


async def _read(house: House, name: str) -> None:
    await house.world.balance(name)


@pytest.mark.parametrize(
    "limits", [{"decision_timeout_ms": 4_000, "lanes": 8, "retry_pause_ms": 1}]
)
async def test_a_core_that_locks_its_tables_by_day_is_beaten_by_the_close(house: House) -> None:
    """Within two seconds it is night, no call fails, and straight-through postings wait."""
    names = await house.world.open(24)
    for name in names:
        await house.desk.post(name, 1_00, **STP)
    async with traffic(house, names) as took:
        async with core_held(house.world.database.owner_dsn):
            await asyncio.sleep(random.uniform(0.2, 0.5))
            began = time.monotonic()
            night = await house.close()
            closed_s = time.monotonic() - began
            served = len(took)
            while len(took) < served + 50:
                await asyncio.sleep(0.01)
    tries = await house.world.owner.fetchval("select gate_tries from ni.day_switch")
    print(f"closed after {closed_s:.2f} s, {tries} tries, longest call {max(took):.2f} s")
    assert night["mode"] == "night"
    assert closed_s < CLOSE_S
    assert tries <= 2, "decisions let go of the gate within the patience of one try"
    assert None in [packet["packet"] for packet in night["unfinished_packets"]]


async def test_the_day_is_told_while_the_core_holds_its_tables(house: House) -> None:
    """Whoever asks learns that it is still day, and its dates: they are the copy's."""
    async with core_held(house.world.database.owner_dsn), asyncio.timeout(1):
        status = await house.status()
    assert (status["mode"], status["business_date"]) == ("day", "2031-03-03")


@pytest.mark.parametrize("limits", [{"night_copy_close_ms": 0}])
async def test_dates_that_the_copy_lacks_are_the_core_s_if_it_shows_them(house: House) -> None:
    owner = house.world.owner
    await house.close()
    await owner.execute(
        "update core.ledger set business_date = '2031-03-04', next_business_date = '2031-03-07'"
    )
    await house.open()
    assert (await house.status())["next_business_date"] == "2031-03-07"
    async with core_held(house.world.database.owner_dsn), asyncio.timeout(2):
        assert (await house.status())["next_business_date"] is None


async def test_grouping_waits_for_no_core_and_holds_no_gate(house: House) -> None:
    [account] = await house.world.open()
    await house.desk.post(account, 1_00, **STP)
    worker = StraightThrough(house.desk.packets.pool, house.world.settings)
    async with core_held(house.world.database.owner_dsn), asyncio.timeout(0.5):
        assert (await worker.step()).closed
    assert (await worker.step()).packets == 1


@pytest.mark.parametrize("limits", [{"drain_timeout_s": 20}])
async def test_a_close_waits_for_a_run_and_lets_no_other_begin(house: House) -> None:
    """The run under way is booked; another gets core_closed; decisions go on all the time."""
    one, two = await house.world.open(2, balance=100_00)
    await house.desk.post(one, 1_00, packet="slow")
    await house.desk.post(two, 1_00, packet="late")
    async with house.world.stranger() as core:
        await core.execute("begin")
        await core.execute("select from core.account where account = $1 for update", one)
        slow = asyncio.create_task(house.desk.unload("slow"))
        await _until(lambda: _unloading(house, 1))
        assert (await house.status())["unloading"] == 1
        closing = asyncio.create_task(house.close())
        await _until(lambda: _waits_for_runs(house))
        answer = await house.desk.packets.unload(order("late"), accepted=True)
        assert answer.decision is Decision.core_closed
        for _ in range(20):
            began = time.monotonic()
            await _debit(house, two)
            assert time.monotonic() - began < 1
        assert not closing.done()
        await core.execute("rollback")
    night = await closing
    assert night["mode"] == "night"
    names = [packet["packet"] for packet in night["unfinished_packets"]]
    assert "late" in names
    # A run that gives way to the core holds nothing for a moment; the close may come in between.
    outcome = await asyncio.gather(slow, return_exceptions=True)
    assert isinstance(outcome[0], AssertionError) is ("slow" in names)


@pytest.mark.parametrize("limits", [{"drain_timeout_s": 1}])
async def test_a_run_that_does_not_end_is_named(house: House) -> None:
    """Refused with who still unloads; nothing has changed, and the run goes on."""
    [account] = await house.world.open(balance=100_00)
    await house.desk.post(account, 1_00, packet="endless")
    async with house.world.stranger() as run, run.transaction():
        await run.execute("select * from ni.enter_unload_v1('tester', 'endless')")
        refusal = why_not(await house.day.close(asked("evening")))
    assert refusal["code"] == "packets_unfinished"
    assert refusal["unloading"] == 1
    assert refusal["packets"] == [{"client": "tester", "packet": "endless"}]
    assert "endless of tester" in refusal["detail"]
    assert await house.mode() == ("day", 1)
    assert (await house.close("evening"))["mode"] == "night"


async def test_an_unloader_that_is_killed_while_the_close_waits_leaves_the_way_free(
    house: House,
) -> None:
    [account] = await house.world.open(balance=100_00)
    await house.desk.post(account, 1_00, packet="killed")
    async with house.world.stranger() as run:
        await run.execute("begin")
        await run.execute("select * from ni.enter_unload_v1('tester', 'killed')")
        closing = asyncio.create_task(house.close())
        await _until(lambda: _waits_for_runs(house))
        await house.world.owner.execute("select pg_terminate_backend($1)", run.get_server_pid())
        night = await asyncio.wait_for(closing, 5)
        run.terminate()
    assert [packet["packet"] for packet in night["unfinished_packets"]] == ["killed"]
    assert await house.desk.core_balance(account) == 100_00


async def test_many_unbooked_postings_cost_a_close_next_to_nothing(house: House) -> None:
    """Many of them in a few packets: names are walked, not postings."""
    await house.world.owner.execute(
        "insert into ni.unbooked select 0, gen_random_uuid(), 'tester', 'p' || n % 3, 'pending',"
        " false, 1, 'CZK', 'ENGINE-CASH', null from generate_series(1, $1) as n",
        UNBOOKED,
    )
    began = time.monotonic()
    night = await house.close()
    took_s = time.monotonic() - began
    row = await house.world.owner.fetchrow("select switch_ms from ni.day_switch")
    assert row is not None
    print(f"close beside {UNBOOKED} unbooked postings: {took_s:.3f} s, switch {row[0]} ms")
    assert [packet["packet"] for packet in night["unfinished_packets"]] == ["p0", "p1", "p2"]
    assert row["switch_ms"] < 500


async def test_the_nights_postings_are_booked_as_soon_as_the_day_has_begun(house: House) -> None:
    """The worker that unloads has waited all night; its pauses have not grown."""
    names = await house.world.open(3, balance=100_00)
    stop = asyncio.Event()
    working = asyncio.create_task(packets_worker.run(house.world.settings, stop))
    try:
        await house.close()
        async with core_held(house.world.database.owner_dsn):
            async with no_lock_on_core(house.world.database.superuser_dsn):
                for name in names:
                    await house.desk.post(name, 1_00, **STP)
                await asyncio.sleep(2)
        await house.open()
        began = time.monotonic()
        await _until(lambda: _is_booked(house, names[-1]))
        print(f"the night's posting is booked after {time.monotonic() - began:.2f} s")
        assert time.monotonic() - began < 3
    finally:
        stop.set()
        await working
    assert [await house.desk.core_balance(name) for name in names] == [99_00] * 3


async def test_the_probe_sees_a_lock_on_the_core(house: House) -> None:
    with pytest.raises(AssertionError):  # noqa: PT012  the lock must be held while it looks
        async with no_lock_on_core(house.world.database.superuser_dsn):
            async with house.world.pools.day.acquire() as session, session.transaction():
                await session.fetch("select from account limit 1")
                await asyncio.sleep(0.1)


async def _until(test: Callable[[], Awaitable[bool]]) -> None:
    async with asyncio.timeout(15):
        while not await test():
            await asyncio.sleep(0.01)


async def _unloading(house: House, runs: int) -> bool:
    found = await house.world.owner.fetchval("select o_runs from ni.unloading_v1(0, 0)")
    return bool(found == runs)


async def _waits_for_runs(house: House) -> bool:
    return bool(
        await house.world.owner.fetchval(
            "select exists (select from pg_locks where relation = 'ni.unload_gate'::regclass"
            " and mode = 'ExclusiveLock' and not granted)"
        )
    )


async def _is_booked(house: House, account: str) -> bool:
    return await house.desk.core_balance(account) < 100_00


async def test_the_slower_of_two_closers_looks_at_no_table_of_the_core(house: House) -> None:
    """It asks whether the core is too early when the other one has closed already."""
    held = "select ni.core_held_v1()"
    async with core_held(house.world.database.owner_dsn):
        assert await house.world.owner.fetchval(held) in (
            "core.account",
            "core.block",
            "core.ledger",
        )
    await house.close()
    async with core_held(house.world.database.owner_dsn), asyncio.timeout(5):
        assert await house.world.owner.fetchval(held) is None
