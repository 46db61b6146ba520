"""How long a close has the gate to itself: every call stands still meanwhile."""

from __future__ import annotations

import asyncio
from pathlib import Path
from time import monotonic
from typing import Final

import pytest

from ni.session import connected
from tests.business_day.house import House, resynchronise

PARTITIONS: Final = (Path(__file__).parent / "many_partitions.sql").read_text()
PASS: Final = "begin; lock table ni.gate in row share mode; commit"
HELD_MAX_S: Final = 0.05
NIGHTS: Final = 4


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
