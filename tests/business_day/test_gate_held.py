"""How long a close has the gate to itself: every call stands still meanwhile."""

from __future__ import annotations

import asyncio
from pathlib import Path
from time import monotonic
from typing import Final
from uuid import UUID

import pytest

from ni.session import connected
from tests.business_day.house import House, resynchronise

PARTITIONS: Final = (Path(__file__).parent / "many_partitions.sql").read_text()
PASS: Final = "begin; lock table ni.gate in row share mode; commit"
HELD_MAX_S: Final = 0.05
NIGHTS: Final = 4
GROUPED_S: Final = 0.5
"""Less than the grouping lasts."""
GROUP: Final = "select * from ni.group_straight_through_v1($1, 100, 100)"


async def longest_wait(dsn: str, over: asyncio.Event) -> float:
    """What a call would have waited for the gate at most, in seconds."""
    longest = 0.0
    async with connected(dsn) as caller:
        while not over.is_set():
            began = monotonic()
            await caller.execute(PASS)
            longest = max(longest, monotonic() - began)
    return longest


@pytest.mark.parametrize("partitions", [0, 400])
async def test_the_gate_is_held_no_longer_with_many_partitions(
    house: House, partitions: int
) -> None:
    """The best of some nights, for the machine has other work; with the commit and its flush."""
    owner = house.world.owner
    if partitions:
        await owner.execute("select set_config('test.partitions', $1, false)", str(partitions))
        await owner.execute(PARTITIONS)
    await resynchronise(house)
    held: list[float] = []
    for _ in range(NIGHTS):
        over = asyncio.Event()
        waiting = asyncio.create_task(longest_wait(house.world.database.owner_dsn, over))
        await house.close()
        over.set()
        held.append(await waiting)
        await house.open()
        await resynchronise(house)
    shown = ", ".join(f"{one * 1000:.0f}" for one in held)
    print(f"{partitions} partitions: a close had the gate for {shown} ms")
    assert min(held) < HELD_MAX_S


@pytest.mark.parametrize("limits", [{"gate_tries_max": 2}])
async def test_a_switch_waits_for_grouping_without_the_gate(house: House) -> None:
    """Giving many straight-through postings a packet lasts; nobody else stands still for it."""
    [account] = await house.world.open(balance=100_00)
    await house.desk.post(account, 1_00, packet=None, straight_through=True)
    await resynchronise(house)
    over = asyncio.Event()
    dsn = house.world.database.owner_dsn
    async with connected(dsn) as worker:
        grouping = worker.transaction()
        await grouping.start()
        assert len(await worker.fetch(GROUP, UUID(int=0))) == 1
        waiting = asyncio.create_task(longest_wait(dsn, over))
        closing = asyncio.create_task(house.close())
        await asyncio.sleep(1)
        assert not closing.done()
        await grouping.commit()
    await closing
    over.set()
    assert (await house.mode())[0] == "night"
    assert await waiting < GROUPED_S
