"""Commands that name a posting or hold: its row is taken too, and never waited for.

Money: without the row lock the core books a posting and NI gives its money back; with a lock that
waits, a cancel would hold its whole micro-batch and the switch for as long as a packet takes.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING
from uuid import UUID

import asyncpg
import pytest

from ni.batch_state import Effects
from ni.decisions import Decision
from ni.errors import BrokenPromise
from ni.identifiers import bucket_of
from tests.engine.hooks import after_decide, after_locate, before_write, once
from tests.engine.unloader import unload
from tests.engine.world import (
    CASH,
    FEES,
    World,
    cancel,
    capture,
    debit,
    decisions,
    hold,
    id_of,
    made,
)

if TYPE_CHECKING:
    from ni.database import Session

BUCKETS = pytest.mark.parametrize("buckets", [1, 8])
SHORT = pytest.mark.parametrize("limits", [{"decision_timeout_ms": 1500}])


@asynccontextmanager
async def taken(world: World, movement: UUID) -> AsyncIterator[asyncpg.Connection]:
    """A packet has the posting's row."""
    async with world.stranger() as packet, packet.transaction():
        await packet.execute("select from ni.posting where posting_id = $1 for update", movement)
        yield packet


async def turn_gate(switcher: asyncpg.Connection) -> None:
    """What the switch of the mode needs: the gate, with everybody out."""
    async with switcher.transaction():
        await switcher.execute("lock table ni.gate in exclusive mode")


@SHORT
async def test_a_cancel_waits_for_a_packet_without_holding_anything(world: World) -> None:
    """Debits of the same account and the switch pass; the cancel ends at its deadline."""
    one, two = await world.open(2)
    posting = id_of(await world.engine.submit(debit(one, 100, credit=two)))
    command = cancel(posting)
    async with taken(world, posting), world.stranger() as switcher:
        waiting = asyncio.create_task(world.engine.submit(command))
        for _ in range(5):
            made(await world.engine.submit(debit(one, 1, credit=two)))
        await turn_gate(switcher)
        assert not waiting.done()
        assert (await waiting).decision is Decision.posting_being_unloaded
        stored = await world.owner.fetchval("select 1 from ni.request where key = $1", command.key)
        assert stored is None
    again = await world.engine.submit(command)
    assert made(again)["status"] == "cancelled"
    assert not again.replayed
    assert (await world.available(one), await world.available(two)) == (1000_00 - 5, 1000_00 + 5)
    assert await world.bank.faults() == []


@pytest.mark.parametrize("limits", [{"decision_timeout_ms": 400, "lanes": 1}])
async def test_a_cancel_whose_deadline_passes_in_the_queue_hears_why(world: World) -> None:
    """It was begun and put back; that the lane is busy when time is up does not make it new."""
    one, hot = await world.open(2)
    posting = id_of(await world.engine.submit(debit(one, 100)))
    async with taken(world, posting), world.stranger() as other:
        async with world.locked(hot, other):
            waiting = asyncio.create_task(world.engine.submit(cancel(posting)))
            await asyncio.sleep(0.1)
            world.settings.decision_timeout_ms = 8000
            blocking = asyncio.create_task(world.engine.submit(debit(hot, 1)))
            await world.until_waiting()
            await asyncio.sleep(0.4)
        assert (await waiting).decision is Decision.posting_being_unloaded
    made(await blocking)


@BUCKETS
async def test_a_cancel_succeeds_when_the_packet_lets_go_in_time(world: World) -> None:
    (one,) = await world.open()
    posting = id_of(await world.engine.submit(debit(one, 100)))
    async with taken(world, posting):
        waiting = asyncio.create_task(world.engine.submit(cancel(posting)))
        await asyncio.sleep(0.1)
        assert not waiting.done()
    made(await waiting)
    assert await world.available(one) == 1000_00


@BUCKETS
async def test_a_packet_that_books_it_refuses_the_cancel(world: World) -> None:
    """The money went once: to the core. Nothing comes back."""
    (one,) = await world.open()
    posting = id_of(await world.engine.submit(debit(one, 100)))
    async with taken(world, posting) as packet:
        waiting = asyncio.create_task(world.engine.submit(cancel(posting)))
        await asyncio.sleep(0.05)
        await unload(packet)
    assert (await waiting).decision is Decision.posting_booked
    assert await world.available(one) == 1000_00 - 100


@SHORT
async def test_an_atomic_batch_waits_the_same_way(world: World) -> None:
    one, two = await world.open(2)
    posting = id_of(await world.engine.submit(debit(one, 100)))
    batch = [debit(two, 7), cancel(posting), debit(one, 7)]
    async with taken(world, posting):
        waiting = asyncio.create_task(world.engine.submit_batch(batch, atomic=True))
        await asyncio.sleep(0.05)
        made(await world.engine.submit(debit(two, 1)))
        made(await world.engine.submit(debit(one, 1)))
        assert not waiting.done()
        codes = ["batch_refused", "posting_being_unloaded", "batch_refused"]
        assert decisions(await waiting) == codes
        assert await world.requests() == 3
    assert decisions(await world.engine.submit_batch(batch, atomic=True)) == ["approved"] * 3
    assert (await world.available(one), await world.available(two)) == (1000_00 - 8, 1000_00 - 8)


_MOVE_CREATED = (
    "update ni.state set created = created + $3, sequence = sequence + 1, decided_at = ni.clock()"
    " where bucket = $1 and account = $2"
)


async def redirect(world: World, posting: UUID, old: str, new: str, amount: int) -> None:
    """Somebody else sends a pending credit to another account, in one commit."""
    async with world.stranger() as other, other.transaction():
        for account, moved in ((old, -amount), (new, amount)):
            bucket = bucket_of(account, world.buckets)
            await other.execute(_MOVE_CREATED, bucket, account, moved)
        await other.execute(
            "update ni.posting set credit_account = $2 where posting_id = $1", posting, new
        )
        await other.execute(
            "update ni.posting set bucket = $2 where posting_id = $1 and not home",
            posting,
            bucket_of(new, world.buckets),
        )


@BUCKETS
async def test_other_accounts_than_those_locked_begin_anew(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """B's credit becomes C's between look-up and lock: the cancel takes it back from C, not B."""
    a, b, c = [await world.open_in(number % world.buckets) for number in range(3)]
    for name in (b, c):
        made(await world.engine.submit(debit(CASH, 1, credit=name)))
    posting = id_of(await world.engine.submit(debit(a, 100, credit=b)))
    after_locate(monkeypatch, once(lambda: redirect(world, posting, b, c, 100)))
    assert made(await world.engine.submit(cancel(posting)))["credit_account"] == c
    assert [await world.available(name) for name in (a, b, c)] == [1000_00, 1000_01, 1000_01]


@BUCKETS
async def test_a_posting_booked_between_look_up_and_lock_is_not_cancelled(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    one, two = await world.open(2)
    posting = id_of(await world.engine.submit(debit(one, 100, credit=two)))

    async def book() -> None:
        async with world.stranger() as packet:
            await unload(packet)

    after_locate(monkeypatch, once(book))
    assert (await world.engine.submit(cancel(posting))).decision is Decision.posting_booked
    assert (await world.available(one), await world.available(two)) == (999_00, 1001_00)


@pytest.mark.parametrize(
    ("status", "decision"),
    [
        ("awaiting_acceptance", Decision.posting_awaiting_acceptance),
        ("booked", Decision.posting_booked),
        ("problem", Decision.approved),
    ],
)
async def test_what_a_packet_left_decides(world: World, status: str, decision: Decision) -> None:
    (one,) = await world.open()
    posting = id_of(await world.engine.submit(debit(one, 100)))
    for table in ("posting", "unbooked"):
        await world.owner.execute(f"update ni.{table} set status = $1", status)
    await world.owner.execute(
        "insert into ni.problem (bucket, posting_id, raised_at, client, packet, number, code,"
        " detail) select bucket, posting_id, changed_at, client, packet, 1, 'core_error', 'no'"
        " from ni.posting where status = 'problem'"
    )
    assert (await world.engine.submit(cancel(posting))).decision is decision
    cancelled = decision is Decision.approved
    assert await world.available(one) == (1000_00 if cancelled else 999_00)


@BUCKETS
@pytest.mark.parametrize("debtor", ["customer", "internal"])
async def test_the_row_is_locked_while_it_is_decided_on(
    world: World, monkeypatch: pytest.MonkeyPatch, debtor: str
) -> None:
    """A packet that comes meanwhile cannot take the row: its lock is all there is."""
    (one,) = await world.open()
    source = one if debtor == "customer" else FEES
    posting = id_of(await world.engine.submit(debit(source, 100)))

    got = []

    async def try_to_take(_session: Session, _effects: Effects) -> None:
        async with world.stranger() as packet:
            rows = await packet.fetch("select from ni.posting for update skip locked")
            got.append(len(rows))

    before_write(monkeypatch, try_to_take)
    made(await world.engine.submit(cancel(posting)))
    assert got == [0]


@BUCKETS
async def test_two_processes_cancel_a_posting_between_internal_accounts(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While one decides, the other finds the row taken; afterwards it finds it cancelled."""
    posting = id_of(await world.engine.submit(debit(FEES, 100)))
    heard = []
    async with world.another_engine(decision_timeout_ms=500) as other:

        async def cancel_too() -> None:
            heard.append((await other.submit(cancel(posting))).decision)

        first = once(cancel_too)
        before_write(monkeypatch, lambda _session, _effects: first())
        made(await world.engine.submit(cancel(posting)))
        assert heard == [Decision.posting_being_unloaded]
    assert (await world.engine.submit(cancel(posting))).decision is Decision.posting_cancelled
    assert (await world.balance(FEES))["pending"] == "0.00"


def lie_about_posting(effects: Effects) -> None:
    """Pretend that another status was decided on."""
    for change in effects.changed_postings.values():
        change.from_status = "problem"


def lie_about_hold(effects: Effects) -> None:
    """Pretend that another status was decided on."""
    for key, (_, row) in effects.changed_holds.items():
        effects.changed_holds[key] = ("released", row)


def lie_about_state(effects: Effects) -> None:
    """Pretend that the account stands where it stood before."""
    for figures, _ in effects.accounts.values():
        figures.sequence -= 1


@BUCKETS
@pytest.mark.parametrize("lie", [lie_about_posting, lie_about_hold, lie_about_state])
async def test_a_row_that_is_not_as_decided_on_undoes_everything(
    world: World, monkeypatch: pytest.MonkeyPatch, lie: object
) -> None:
    one, two = await world.open(2)
    posting = id_of(await world.engine.submit(debit(one, 100, credit=two)))
    held = id_of(await world.engine.submit(hold(one, 50)))
    before = await world.bank.fingerprint()
    with monkeypatch.context() as patch:
        after_decide(patch, lie)  # type: ignore[arg-type]  # parametrize does not keep types
        batch = [cancel(posting), capture(held)]
        with pytest.raises(BrokenPromise):
            await world.engine.submit_batch(batch, atomic=True)
    assert await world.bank.fingerprint() == before
    made(await world.engine.submit(cancel(posting)))
    made(await world.engine.submit(capture(held)))
    assert await world.bank.faults() == []
