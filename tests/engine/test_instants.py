"""One instant per change, taken after the lock: sequence, created_at and id order are one order."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from uuid import UUID

import pytest

from ni.clock import EPOCH
from ni.decisions import Decision
from ni.identifiers import bucket_of
from tests.engine.world import (
    CASH,
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
from tests.support.clock import install_clock, set_clock
from workers.housekeeping import Housekeeper

BUCKETS = pytest.mark.parametrize("buckets", [1, 8])
T0 = datetime(2031, 3, 3, 8, 0, tzinfo=UTC)
SECOND = timedelta(seconds=1)
MICROSECOND = timedelta(microseconds=1)

_CHANGES = """
select account, sequence, event_id as id, bucket,
       coalesce((select p.created_at from ni.posting as p where p.posting_id = o.movement_id
                 and p.home and o.type = 'ni.posting.created'),
                (select h.created_at from ni.hold as h where h.hold_id = o.movement_id
                 and o.type = 'ni.hold.placed')) as created_at, movement_id, type
from ni.outbox as o order by account, sequence
"""
_TICKING = """
create sequence ni.ticks;
grant usage on sequence ni.ticks to ni_engine;
create or replace function ni.clock() returns timestamptz language sql volatile
as 'select timestamptz ''2031-03-03T08:00:00Z'' + interval ''1 second'' * case
    when current_schema() = ''night_alias'' then 0 else nextval(''ni.ticks'') end';
"""
"""Each look is a second later; those of the night's sessions, which are being warmed, are not."""


async def stop_clock(world: World, instant: datetime) -> None:
    """The database's clock stands at `instant` until it is set again."""
    await install_clock(world.owner)
    await set_clock(world.owner, instant)


def instant_of_id(identifier: UUID) -> datetime:
    """What the time bits of a UUIDv7 of method 3 say, rounded to the microsecond."""
    milliseconds = identifier.int >> 80
    fraction_us = -(-((identifier.int >> 64 & 0xFFF) * 1000) // 4096)
    return EPOCH + timedelta(milliseconds=milliseconds, microseconds=fraction_us)


@BUCKETS
async def test_all_orders_are_one_order_however_the_clock_goes(world: World) -> None:
    """The clock stands, jumps ahead and goes backwards under load."""
    names = await world.open(6)
    for shift in (0, 0, 10, -3600, 5, 5):
        await stop_clock(world, T0 + shift * SECOND)
        held = await asyncio.gather(*(world.engine.submit(hold(n, 5)) for n in names))
        pairs = zip(names, names[1:] + names[:1], strict=True)
        batch = [debit(one, 1, credit=two) for one, two in pairs]
        posted = await world.engine.submit_batch(batch, atomic=True)
        await asyncio.gather(*(world.engine.submit(release(id_of(h))) for h in held))
        await asyncio.gather(*(world.engine.submit(debit(n, 1)) for n in names * 3))
        await world.engine.submit_batch([cancel(id_of(p)) for p in posted], atomic=False)
    rows = await world.owner.fetch(_CHANGES)
    last: dict[str, tuple[int, UUID, datetime]] = {}
    for row in rows:
        sequence, identifier, instant = last.get(row["account"], (0, UUID(int=0), EPOCH))
        assert row["sequence"] == sequence + 1
        assert row["id"] > identifier
        assert instant_of_id(row["id"]) > instant
        assert row["id"].int & 0xFFFF == row["bucket"] == bucket_of(row["account"], world.buckets)
        if row["created_at"] is not None:
            assert row["created_at"] == instant_of_id(row["id"])
            assert row["created_at"] == instant_of_id(row["movement_id"])
        last[row["account"]] = (row["sequence"], row["id"], instant_of_id(row["id"]))
    assert len(rows) == 6 * len(names) * (1 + 2 + 1 + 3 + 2)
    assert await world.bank.faults() == []


@BUCKETS
async def test_a_hold_counts_until_its_very_instant(world: World) -> None:
    """One microsecond before it holds; at the instant it does not, swept or not."""
    await stop_clock(world, T0)
    name = await world.open_in(world.buckets - 1, balance=100)
    held = id_of(await world.engine.submit(hold(name, 80, expires_at=T0 + SECOND)))
    await set_clock(world.owner, T0 + SECOND - MICROSECOND)
    assert (await world.engine.submit(debit(name, 21))).decision is Decision.insufficient_funds
    assert await world.available(name) == 20
    await set_clock(world.owner, T0 + SECOND)
    balance = await world.balance(name)
    assert (minor(balance["available"]), minor(balance["held"])) == (100, 0)
    found = await world.reads.hold(held)
    assert found is not None
    assert found.status == "expired"
    answers = await world.engine.submit_batch([capture(held), debit(name, 100)], atomic=False)
    assert decisions(answers) == ["hold_expired", "approved"]
    assert made(answers[1])["created_at"] > "2031-03-03T08:00:01"
    assert await world.available(name) == 0
    assert await world.bank.faults() == []


@BUCKETS
async def test_what_was_captured_before_stays(world: World) -> None:
    await stop_clock(world, T0)
    (name,) = await world.open(balance=100)
    held = id_of(await world.engine.submit(hold(name, 80, expires_at=T0 + SECOND)))
    made(await world.engine.submit(capture(held, "0.30", final=False)))
    assert await world.available(name) == 20
    await set_clock(world.owner, T0 + SECOND)
    assert await world.available(name) == 70
    made(await world.engine.submit(debit(name, 70)))
    assert (await world.engine.submit(release(held))).decision is Decision.hold_expired
    assert await world.bank.faults() == []


@BUCKETS
async def test_the_clock_is_read_after_the_lock(world: World) -> None:
    """A capture waits for the position; while it waits the hold expires and is spent."""
    await stop_clock(world, T0)
    name = await world.open_in(world.buckets - 1, balance=100)
    held = id_of(await world.engine.submit(hold(name, 100, expires_at=T0 + SECOND)))
    async with world.stranger() as other:
        async with world.locked(name, other):
            late = asyncio.create_task(world.engine.submit(capture(held)))
            await world.until_waiting()
            await set_clock(world.owner, T0 + SECOND)
        assert (await late).decision is Decision.hold_expired
    made(await world.engine.submit(debit(name, 100)))
    assert await world.bank.faults() == []


@BUCKETS
async def test_a_sweep_is_a_change_of_its_own(world: World) -> None:
    """The housekeeper gives an expiry its sequence and its event, once."""
    await stop_clock(world, T0)
    names = await world.open(3)
    for name in names:
        made(await world.engine.submit(hold(name, 40, expires_at=T0 + SECOND)))
    await set_clock(world.owner, T0 + SECOND)
    assert [(await world.balance(name))["sequence"] for name in names] == [1, 1, 1]
    housekeeper = Housekeeper(world.settings, world.engine)
    assert (await housekeeper.step()).accounts == 3
    assert (await housekeeper.step()).accounts == 0
    rows = await world.owner.fetch(
        "select account, sequence, amount, direction, available_after from ni.outbox"
        " where type = 'ni.hold.expired' order by account"
    )
    assert [tuple(row) for row in rows] == [(n, 2, 40, 1, 1000_00) for n in sorted(names)]
    for name in names:
        assert (await world.balance(name))["sequence"] == 2
    assert await world.owner.fetchval("select count(*) from ni.hold where status = 'expired'") == 3
    assert await world.bank.faults() == []


async def test_more_expired_holds_than_one_decision_sweeps(world: World) -> None:
    """250 at once: all of them stop counting at the instant, and are swept a hundred at a time."""
    await stop_clock(world, T0)
    (name,) = await world.open(balance=250)
    batch = [hold(name, 1, expires_at=T0 + SECOND + i * MICROSECOND) for i in range(250)]
    answers = await world.engine.submit_batch(batch, atomic=True)
    last = id_of(answers[-1])
    await set_clock(world.owner, T0 + SECOND + 249 * MICROSECOND)
    assert await world.available(name) == 250
    assert (await world.engine.submit(capture(last))).decision is Decision.hold_expired
    left = []
    for amount in (240, 0, 0):
        made(await world.engine.submit(debit(name, amount + 1)))
        left.append(
            await world.owner.fetchval("select count(*) from ni.hold where status = 'active'")
        )
    assert left == [50, 0, 0]
    assert (await world.engine.submit(debit(name, 8))).decision is Decision.insufficient_funds
    assert await world.available(name) == 7
    assert await world.bank.faults() == []


@pytest.mark.parametrize("buckets", [8])
async def test_an_expiry_between_the_locks_of_two_buckets(world: World) -> None:
    """The first bucket is read before the hold expires, the second after: one instant for both."""
    await world.owner.execute(_TICKING)
    other = await world.open_in(5)
    outcomes = set()
    for tick in range(2, 12):
        name = await world.open_in(2, balance=100)
        await world.engine.submit(
            debit(name, 101, credit=other)
        )  # refused; both have positions now
        expires_at = await world.owner.fetchval("select ni.clock()") + tick * SECOND
        made(await world.engine.submit(hold(name, 100, expires_at=expires_at)))
        answer = await world.engine.submit(debit(name, 100, credit=other))
        decided_at = await world.owner.fetchval("select max(decided_at) from ni.request")
        assert (answer.decision is Decision.approved) == (decided_at >= expires_at), answer
        outcomes.add(answer.decision)
    assert outcomes == {Decision.approved, Decision.insufficient_funds}
    assert await world.bank.faults() == []


@BUCKETS
async def test_values_of_time_are_tested_at_the_instant(world: World) -> None:
    """An expiry in the past is refused by the database's clock, not by the host's."""
    await stop_clock(world, T0)
    (name,) = await world.open()
    for expires_at, decision in [
        (T0, Decision.validation_failed),
        (T0 + MICROSECOND, Decision.approved),
    ]:
        answer = await world.engine.submit(hold(name, 1, expires_at=expires_at))
        assert answer.decision is decision
    assert made(await world.engine.submit(debit(CASH, 1)))["created_at"].startswith("2031-03-03T08")
