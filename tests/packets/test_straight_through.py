"""Straight-through processing: NI groups postings and unloads them itself."""

from __future__ import annotations

import asyncio
from uuid import UUID

import asyncpg
import pytest

from ni.straight_through import StraightThrough
from tests.engine.world import CASH
from tests.packets.desk import Desk


def _worker(desk: Desk, **limits: int) -> StraightThrough:
    settings = desk.world.settings.model_copy(update=limits)
    return StraightThrough(desk.packets.pool, settings)


async def _post(desk: Desk, account: str, amount: int) -> None:
    await desk.post(account, amount, packet=None, straight_through=True)


async def test_what_is_marked_is_booked_without_a_word(desk: Desk) -> None:
    [account] = await desk.world.open(balance=100_00)
    await _post(desk, account, 10_00)
    done = await _worker(desk).step()
    assert (done.packets, done.postings) == (1, 1)
    assert await desk.core_balance(account) == 90_00
    assert await desk.pending(account) == "0.00"
    [row] = await desk.world.owner.fetch("select packet, status from ni.posting")
    assert row["packet"].startswith("stp.")
    assert row["status"] == "booked"


async def test_packets_are_cut_at_their_size_and_by_client(desk: Desk) -> None:
    [account] = await desk.world.open()
    for _ in range(5):
        await _post(desk, account, 1_00)
    await desk.post(account, 1_00, packet=None, straight_through=True, client="other")
    done = await _worker(desk, stp_postings_max=2).step()
    assert (done.packets, done.postings) == (4, 6)
    rows = await desk.world.owner.fetch(
        "select client, count(*) from ni.posting group by client, packet order by 1, 2"
    )
    assert [tuple(row) for row in rows] == [("other", 1), ("tester", 1), ("tester", 2),
                                            ("tester", 2)]  # fmt: skip


async def test_two_workers_do_no_harm(desk: Desk) -> None:
    accounts = await desk.world.open(20, balance=100_00)
    workers = [_worker(desk, stp_postings_max=7), _worker(desk, stp_postings_max=7)]
    for _ in range(3):
        for account in accounts:
            await _post(desk, account, 1_00)
        await asyncio.gather(*(worker.step() for worker in workers))
    await workers[0].step()
    assert {await desk.core_balance(account) for account in accounts} == {97_00}
    assert await desk.core_balance(CASH) == 60_00
    assert not await desk.world.bank.faults()


@pytest.mark.parametrize("buckets", [8])
async def test_a_group_is_named_in_every_bucket(desk: Desk) -> None:
    """The other customer's movements tell the packet as soon as the posting itself does."""
    first, *others = await desk.world.open(9, balance=100_00)
    for other in others:
        await desk.post(first, 1_00, credit=other, packet=None, straight_through=True)
    await desk.world.owner.fetch(
        "select * from ni.group_straight_through_v1($1, 100, 100)", UUID(int=0)
    )
    rows = await desk.world.owner.fetch(
        "select home, count(packet) as named, count(*) as rows from ni.posting group by home"
    )
    assert len(rows) == 2, "no account lies in another bucket"
    assert all(row["named"] == row["rows"] for row in rows)


async def test_by_night_it_waits(desk: Desk) -> None:
    [account] = await desk.world.open()
    await _post(desk, account, 1_00)
    await desk.world.owner.execute("update ni.mode set mode = 'night'")
    assert (await _worker(desk).step()).packets == 0
    await desk.world.owner.execute("update ni.mode set mode = 'day'")
    assert (await _worker(desk).step()).packets == 1


async def test_what_a_killed_worker_has_grouped_is_taken_by_the_next(desk: Desk) -> None:
    [account] = await desk.world.open(balance=100_00)
    await _post(desk, account, 1_00)
    pool = desk.packets.pool
    await pool.fetch(
        "select * from ni.group_straight_through_v1($1, 10, 10)",
        "00000000-0000-0000-0000-000000000000",
    )
    assert await desk.core_balance(account) == 100_00
    assert (await _worker(desk).step()).packets == 1
    assert await desk.core_balance(account) == 99_00


async def test_a_retried_problem_goes_through_again(desk: Desk) -> None:
    [account] = await desk.world.open(balance=100_00)
    await _post(desk, account, 1_00)
    await desk.world.bank.block(account, "all")
    worker = _worker(desk)
    await worker.step()
    [problem] = await desk.problems()
    await desk.world.bank.unblock(account)
    posting = await desk.world.owner.fetchval("select posting_id from ni.posting")
    await desk.settle(posting, "retry")
    await worker.step()
    assert await desk.core_balance(account) == 99_00
    assert (await desk.packet(problem["packet"]))["counts"]["booked"] == 1


async def test_packets_of_one_instant_have_names_of_their_own(desk: Desk) -> None:
    """Ids of one instant may differ in their last bytes only."""
    [account] = await desk.world.open(balance=100_00)
    for last in range(2):
        posting = await desk.post(account, 1_00, packet=None, straight_through=True)
        for table in ("posting", "unbooked"):
            await desk.world.owner.execute(
                f"update ni.{table} set posting_id = $2 where posting_id = $1",
                posting,
                UUID(f"01a20000-0000-7000-8000-00000000000{last}"),
            )
        await _worker(desk).step()
    rows = await desk.world.owner.fetch("select distinct packet from ni.posting")
    assert len(rows) == 2
    assert all(len(row["packet"]) <= 64 for row in rows)


async def test_a_posting_whose_row_in_the_queue_is_gone_is_not_named(desk: Desk) -> None:
    """Half a grouping is none: the posting would have a packet that never finds it."""
    [account] = await desk.world.open(balance=100_00)
    await _post(desk, account, 1_00)
    await desk.world.owner.execute(
        "create function public.lose() returns trigger language plpgsql as"
        " $$ begin return null; end $$;"
        "create trigger lose before update on ni.unbooked for each row"
        " execute function public.lose()"
    )
    with pytest.raises(asyncpg.PostgresError, match="unbooked rows written: 0, decided: 1"):
        await _worker(desk).step()
    assert await desk.world.owner.fetchval("select packet from ni.posting") is None


async def test_a_posting_that_another_transaction_holds_is_left_to_it(desk: Desk) -> None:
    held, free = await desk.world.open(2, balance=100_00)
    posting = await desk.post(held, 1_00, packet=None, straight_through=True)
    await _post(desk, free, 1_00)
    worker = _worker(desk)
    async with desk.world.stranger() as holder, holder.transaction():
        await holder.execute("select from ni.posting where posting_id = $1 for update", posting)
        async with asyncio.timeout(5):
            assert (await worker.step()).postings == 1
        assert await desk.core_balance(free) == 99_00
    await worker.step()
    assert await desk.core_balance(held) == 99_00
