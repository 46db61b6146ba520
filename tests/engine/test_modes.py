"""Day and night: the engine moves to the other pool unseen, and by night touches no core."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import TYPE_CHECKING, Any

import asyncpg
import pytest

from ni.batch_state import Answer, Effects
from ni.decisions import Decision
from ni.errors import Unavailable
from tests.engine.hooks import before_write
from tests.engine.world import (
    CASH,
    WAIT_SECONDS,
    World,
    cancel,
    capture,
    debit,
    decisions,
    hold,
    id_of,
    made,
    minor,
    release,
)

if TYPE_CHECKING:
    from ni.database import Session

BUCKETS = pytest.mark.parametrize("buckets", [1, 8])
NIGHT_MORE = 1_000_000_00
"""What every account has more in the night copy than in the core, so that a base is recognised."""

_COPY = """
delete from night.account;
delete from night.ledger;
insert into night.account
select ni.bucket_of(account), account, kind, currency, status, balance + 100000000, credit_limit
from core.account;
insert into night.ledger
select 0, '1', business_date, next_business_date from core.ledger;
"""
_CORE_RELATIONS = ("core.account", "core.block", "core.ledger", "core.entry", "core.packet")
_CORE_LOCKS = """
select relation::regclass::text from pg_locks join pg_class as c on c.oid = relation
where pid = $1 and c.relnamespace in ('core'::regnamespace, 'day_alias'::regnamespace)
"""


async def switch(session: asyncpg.Connection, mode: str) -> None:
    """What the switch of the mode does, without its tests."""
    async with session.transaction():
        await session.execute("lock table ni.gate in exclusive mode")
        await session.execute("update ni.mode set mode = $1, epoch = epoch + 1", mode)


@asynccontextmanager
async def core_closed(world: World) -> AsyncIterator[None]:
    """The core holds its tables, as its end of day does."""
    async with world.stranger() as core, core.transaction():
        for relation in _CORE_RELATIONS:
            await core.execute(f"lock table {relation} in access exclusive mode")
        yield


@BUCKETS
async def test_the_engine_moves_with_the_mode_unseen(world: World) -> None:
    """Day, night, day: every command is approved at once, on the figures of its mode."""
    (name,) = await world.open(balance=100)
    made(await world.engine.submit(debit(name, 1)))
    await world.owner.execute(_COPY)
    await switch(world.owner, "night")
    body = made(await world.engine.submit(debit(name, 101)))
    assert body["debit"]["available_after"] == "999999.98"
    assert (body["epoch"], body["value_date"]) == (2, "2031-03-04")
    balance = await world.balance(name)
    assert (balance["mode"], balance["epoch"]) == ("night", 2)
    assert minor(balance["booked"]) == 100 + NIGHT_MORE
    await switch(world.owner, "day")
    balance = await world.balance(name)
    assert (balance["mode"], balance["epoch"], balance["booked"]) == ("day", 3, "1.00")
    answer = await world.engine.submit(debit(name, 1))
    assert answer.decision is Decision.insufficient_funds
    assert made(await world.engine.submit(debit(CASH, 5, credit=name)))["epoch"] == 3


@BUCKETS
async def test_by_night_nothing_waits_for_the_core(world: World) -> None:
    """The core holds every table of its own; NI decides and reads, with fresh sessions too."""
    one, two = await world.open(2)
    await world.owner.execute(_COPY)
    await switch(world.owner, "night")
    async with core_closed(world), asyncio.timeout(WAIT_SECONDS):
        posting = id_of(await world.engine.submit(debit(one, 1, credit=two)))
        held = id_of(await world.engine.submit(hold(one, 5)))
        made(await world.engine.submit(capture(held, "0.02", final=False)))
        made(await world.engine.submit(release(held)))
        made(await world.engine.submit(cancel(posting)))
        batch = [debit(two, 1), debit(CASH, 1, credit="NOBODY")]
        answers = await world.engine.submit_batch(batch, atomic=False)
        assert decisions(answers) == ["approved", "account_not_found"]
        assert minor((await world.balance(one))["available"]) == 1000_00 + NIGHT_MORE - 2
        assert (await world.balance(CASH))["pending"] == "0.03"
        assert await world.reads.movements(one, None, None, 10) is not None
        async with world.another_engine() as engine:
            made(await engine.submit(debit(one, 1)))


@BUCKETS
@pytest.mark.parametrize("mode", ["day", "night"])
async def test_by_night_no_lock_on_the_core_is_taken(
    world: World, monkeypatch: pytest.MonkeyPatch, mode: str
) -> None:
    """Not in locking, reading, planning or writing; by day there are some, so the probe works."""
    one, two = await world.open(2)
    await world.owner.execute(_COPY)
    await switch(world.owner, mode)
    found: set[str] = set()

    async def look(session: Session, _effects: Effects) -> None:
        rows = await world.owner.fetch(_CORE_LOCKS, session.get_server_pid())
        found.update(row[0] for row in rows)

    made(await world.engine.submit(debit(one, 1)))
    before_write(monkeypatch, look)
    for _ in range(7):  # plans are made anew in the first calls
        posting = id_of(await world.engine.submit(debit(one, 1, credit=two)))
        made(await world.engine.submit(cancel(posting)))
    assert ("core.account" in found) == (mode == "day")
    assert mode == "day" or not found


@BUCKETS
async def test_the_mode_cannot_change_during_a_decision(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    (name,) = await world.open()
    taken = []

    async def try_gate(_session: Session, _effects: Effects) -> None:
        with suppress(asyncpg.LockNotAvailableError):
            taken.append(False)
            async with world.owner.transaction():
                await world.owner.execute("lock table ni.gate in exclusive mode nowait")
            taken.append(True)

    before_write(monkeypatch, try_gate)
    made(await world.engine.submit(debit(name, 1)))
    assert taken == [False]


@BUCKETS
async def test_what_meets_a_switch_waits_and_goes_by_the_new_mode(world: World) -> None:
    """The gate is had first, the mode is read in the next statement."""
    (name,) = await world.open()
    await world.owner.execute(_COPY)
    async with world.stranger() as switcher, switcher.transaction():
        await switcher.execute("lock table ni.gate in exclusive mode")
        await switcher.execute("update ni.mode set mode = 'night', epoch = 2")
        decision = asyncio.create_task(world.engine.submit(debit(name, 1)))
        read = asyncio.create_task(world.balance(name))
        await world.until_waiting(2)
    body = made(await decision)
    assert (body["epoch"], body["debit"]["available_after"]) == (2, "1000999.99")
    assert (await read)["booked"] == "1001000.00"


async def test_the_gate_becomes_free_while_the_core_holds_its_tables_by_day(world: World) -> None:
    """The core was too early. Deciders break off their waits, so that the close can win."""
    names = await world.open(8)
    await world.owner.execute(_COPY)
    closed = asyncio.Event()

    async def work(name: str) -> None:
        while not closed.is_set():
            made(await world.engine.submit(debit(name, 1)))

    async with core_closed(world), world.stranger() as switcher, asyncio.timeout(WAIT_SECONDS):
        workers = [asyncio.create_task(work(name)) for name in names]
        await world.until_waiting()
        tries = await close(switcher)
        closed.set()
        await asyncio.gather(*workers)
    assert tries <= 7
    assert await world.owner.fetchval("select count(*) from ni.posting where epoch = 2") >= 8


async def close(switcher: asyncpg.Connection) -> int:
    """Take the gate with a short patience, again and again; how many tries it took."""
    await switcher.execute("set lock_timeout = '150ms'")
    for tries in range(1, 20):
        try:
            await switch(switcher, "night")
        except asyncpg.LockNotAvailableError:
            await asyncio.sleep(random.uniform(0.2, 0.3))
        else:
            return tries
    raise AssertionError("the close never won")


@BUCKETS
@pytest.mark.parametrize("limits", [{"lanes": 6}])
async def test_a_storm_of_switches_never_mixes_the_bases(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every decision and read has the base of the mode whose epoch it names.

    Sessions come to hand slowly, so that the mode changes between choosing and using one.
    """
    names = await world.open(12)
    await world.owner.execute(_COPY)
    slow_sessions(monkeypatch)
    over = asyncio.Event()
    answers: list[dict[str, Any]] = []

    async def decide(name: str) -> None:
        while not over.is_set():
            answers.append(made(await world.engine.submit(debit(name, 1))) | {"name": name})

    async def read() -> None:
        while not over.is_set():
            with suppress(Unavailable):  # a read gives up when the mode changes three times
                balance = await world.balance(random.choice(names))
                shown = "night" if minor(balance["booked"]) > NIGHT_MORE else "day"
                assert balance["mode"] == shown

    async with asyncio.TaskGroup() as group:
        for name in names:
            group.create_task(decide(name))
        group.create_task(read())
        for turn in range(30):
            await asyncio.sleep(0.01)
            await switch(world.owner, "day" if turn % 2 else "night")
        over.set()
    for body in answers:
        available = minor(body["debit"]["available_after"]) + body["debit"]["sequence"]
        by_night = body["epoch"] % 2 == 0
        assert available == 1000_00 + (NIGHT_MORE if by_night else 0), body


def slow_sessions(patch: pytest.MonkeyPatch) -> None:
    """A pool's session comes a little later than asked for."""
    acquire = asyncpg.Pool._acquire  # type: ignore[attr-defined]  # the one way to a session

    async def slow(self: Any, patience: float | None) -> Any:
        await asyncio.sleep(random.uniform(0, 0.01))
        return await acquire(self, patience)

    patch.setattr(asyncpg.Pool, "_acquire", slow)


@BUCKETS
async def test_a_read_that_is_tried_again_keeps_its_mode_and_session_together(
    world: World,
) -> None:
    """Somebody saw a short night while a read of the day waited for the core's table."""
    (name,) = await world.open()
    await world.owner.execute(_COPY)
    async with core_closed(world):
        reading = asyncio.create_task(world.balance(name))
        await world.until_waiting()
        world.pools.mode = "night"
        await asyncio.sleep(1.5 * world.settings.lock_timeout_ms / 1000)
    balance = await reading
    assert (balance["mode"], balance["booked"]) == ("day", "1000.00")


@pytest.mark.parametrize("limits", [{"decision_timeout_ms": 300}])
async def test_a_core_that_keeps_its_tables_by_day_is_waited_for_in_vain(world: World) -> None:
    """503 within the deadline, nothing stored; afterwards all is as before."""
    (name,) = await world.open()
    async with core_closed(world):
        with pytest.raises(Unavailable):
            await world.engine.submit(debit(name, 1, key="early"))
        with pytest.raises(Unavailable):
            await world.balance(name)
    answer: Answer = await world.engine.submit(debit(name, 1, key="early"))
    assert made(answer)["debit"]["sequence"] == 1
    assert not answer.replayed
