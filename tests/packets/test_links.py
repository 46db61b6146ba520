"""Postings of one link reach the core together or not at all."""

from __future__ import annotations

from typing import Any, Final
from uuid import UUID, uuid4

import pytest

from ni.straight_through import StraightThrough
from tests.engine.world import made
from tests.packets.desk import Desk, open_desk
from tests.support.bank import CoreAccount
from tests.support.databases import Database

STP: Final[dict[str, Any]] = {"packet": None, "straight_through": True}
both = pytest.mark.parametrize("buckets", [1, 8])


def _worker(desk: Desk, **limits: int) -> StraightThrough:
    return StraightThrough(desk.packets.pool, desk.world.settings.model_copy(update=limits))


async def _pair(desk: Desk, **more: Any) -> tuple[list[str], list[UUID]]:
    """Two accounts and a linked posting of each."""
    accounts = await desk.world.open(2, balance=100_00)
    link = uuid4()
    return accounts, [await desk.post(name, 10_00, link_id=link, **more) for name in accounts]


async def _packets(desk: Desk) -> list[str]:
    rows = await desk.world.owner.fetch(
        "select packet from ni.posting where home order by posting_id"
    )
    return [row["packet"] for row in rows]


async def test_linked_problems_can_be_retried_one_after_the_other(desk: Desk) -> None:
    """The worker makes a pass between the two: it leaves the first alone until both may go."""
    (first, _), legs = await _pair(desk, **STP)
    await desk.world.bank.block(first, "all")
    worker = _worker(desk)
    await worker.step()
    assert await desk.statuses(*legs) == ["problem", "problem"]
    await desk.world.bank.unblock(first)
    made(await desk.settle(legs[0], "retry"))
    assert (await worker.step()).packets == 0
    assert await desk.statuses(*legs) == ["pending", "problem"]
    made(await desk.settle(legs[1], "retry"))
    await worker.step()
    assert await desk.statuses(*legs) == ["booked", "booked"]


async def test_a_retried_leg_is_left_alone_when_its_packet_is_unloaded(desk: Desk) -> None:
    (first, other), legs = await _pair(desk)
    await desk.world.bank.block(first, "all")
    await desk.unload()
    await desk.world.bank.unblock(first)
    made(await desk.settle(legs[1], "retry"))
    free = await desk.post(other, 1_00)
    assert (await desk.unload())["booked"] == 1
    assert await desk.statuses(*legs, free) == ["problem", "pending", "booked"]
    made(await desk.settle(legs[0], "retry"))
    assert (await desk.unload())["booked"] == 2


@both
async def test_both_legs_of_an_exchange_go_together(desk: Desk) -> None:
    """One in CZK, one in EUR: a packet of both, named for the first."""
    [czk] = await desk.world.open(balance=100_00)
    [eur] = await desk.world.open(balance=100_00, currency="EUR")
    await desk.world.bank.open_accounts([CoreAccount("FX-EUR", kind="internal", currency="EUR")])
    link = uuid4()
    legs = [
        await desk.post(czk, 25_00, link_id=link, type="FX", **STP),
        await desk.post("FX-EUR", 1_00, credit=eur, currency="EUR", link_id=link, type="FX", **STP),
    ]
    await desk.world.bank.close_account(eur)
    await _worker(desk).step()
    assert await desk.statuses(*legs) == ["problem", "problem"]
    first, second = await _packets(desk)
    assert first == second
    assert ".CZK." in first


@both
async def test_a_cut_does_not_part_a_link(desk: Desk) -> None:
    (_, second), legs = await _pair(desk, **STP)
    await desk.world.bank.block(second, "all")
    await _worker(desk, stp_postings_max=1).step()
    assert await desk.statuses(*legs) == ["problem", "problem"]


async def test_the_last_row_of_a_look_is_taken_with_its_link(desk: Desk) -> None:
    _, legs = await _pair(desk, **STP)
    rows = await desk.packets.pool.fetch(
        "select * from ni.group_straight_through_v1($1, 10, 1)", UUID(int=0)
    )
    assert [row["postings"] for row in rows] == [2]
    assert len(set(await _packets(desk))) == 1
    assert len(legs) == 2


async def test_a_leg_that_another_transaction_holds_holds_back_the_other(desk: Desk) -> None:
    (_, other), legs = await _pair(desk, **STP)
    free = await desk.post(other, 1_00, **STP)
    worker = _worker(desk)
    async with desk.world.stranger() as holder, holder.transaction():
        await holder.execute("select from ni.posting where posting_id = $1 for update", legs[1])
        await worker.step()
        assert await desk.statuses(*legs, free) == ["pending", "pending", "booked"]
    await worker.step()
    assert await desk.statuses(*legs) == ["booked", "booked"]


async def test_a_leg_that_comes_later_joins_the_packet_of_the_first(desk: Desk) -> None:
    (first, other), legs = await _pair(desk, **STP)
    await desk.world.bank.block(first, "all")
    worker = _worker(desk)
    await worker.step()
    link = await desk.world.owner.fetchval("select link_id from ni.posting limit 1")
    late = await desk.post(other, 1_00, link_id=link, **STP)
    await worker.step()
    assert await desk.statuses(*legs, late) == ["problem", "problem", "pending"]
    assert len(set(await _packets(desk))) == 1


@pytest.mark.parametrize("blocked", [0, 1], ids=["first", "second"])
async def test_a_run_s_limit_does_not_part_a_link(database: Database, blocked: int) -> None:
    async with open_desk(database, unload_postings_max=1) as desk:
        accounts, legs = await _pair(desk)
        last = await desk.post(accounts[1 - blocked], 1_00)
        await desk.world.bank.block(accounts[blocked], "all")
        await desk.unload()
        assert await desk.statuses(*legs, last) == ["problem", "problem", "pending"]


@pytest.mark.parametrize("decided", ["accept", "reject"])
async def test_a_leg_waits_for_the_one_that_waits_for_acceptance(desk: Desk, decided: str) -> None:
    (first, other) = await desk.world.open(2, balance=100_00)
    link = uuid4()
    legs = [await desk.post(first, 10_00, link_id=link)]
    await desk.unload(accepted=False)
    legs.append(await desk.post(other, 10_00, link_id=link))
    await desk.unload()
    assert await desk.statuses(*legs) == ["awaiting_acceptance", "pending"]
    if decided == "accept":
        made(await desk.accept())
        assert await desk.statuses(*legs) == ["booked", "pending"]
    else:
        made(await desk.reject())
        await desk.world.bank.block(other, "all")
        await desk.unload()
        assert await desk.statuses(*legs) == ["problem", "problem"]
        return
    await desk.unload()
    assert await desk.statuses(*legs) == ["booked", "booked"]
