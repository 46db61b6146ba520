"""Many packets at once: no deadlock is shown to anybody; a small one does not wait for a big."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final

import pytest

from ni.database import close_pool, open_unload_pool
from ni.session import connected
from ni.straight_through import StraightThrough
from tests.engine.world import CASH, FEES, debit, decisions
from tests.packets.desk import Desk, open_desk
from tests.races.arena import TORTURE, rounds
from tests.support.databases import Database
from tests.support.lock_watch import no_decision_waits
from tests.support.observer import Observer

PACKETS: Final = 10
POSTINGS: Final = 30
BIG: Final = 100_000 if TORTURE else 20_000
SMALL: Final = 10
SMALL_SECONDS: Final = 0.5
SHARE_OF_BIG: Final = 0.6
"""Without the full size the bound grows with the machine's load: a share of the big one's time."""


async def deadlocks(database: Database) -> int:
    """How many deadlocks the server has broken in this database."""
    async with connected(database.superuser_dsn) as superuser:
        return int(
            await superuser.fetchval(
                "select deadlocks from pg_stat_database where datname = $1", database.name
            )
        )


@pytest.mark.parametrize("buckets", [1, 8])
async def test_many_packets_over_the_same_accounts(database: Database) -> None:
    """In random order, with decisions beside them; the server looks for deadlocks at once."""
    async with connected(database.superuser_dsn) as superuser:
        await superuser.execute(f"alter database {database.name} set deadlock_timeout = '5ms'")
    async with open_desk(database, unload_connections=PACKETS) as desk:
        names = await desk.world.open(12, balance=1_000_000_00)
        observer = await Observer.of(database.owner_dsn)
        async with observer.watching(), no_decision_waits(database.superuser_dsn):
            for turn in range(rounds(4, full=100)):
                packets = [f"{turn}-{number}" for number in range(PACKETS)]
                await asyncio.gather(*(fill(desk, names, packet) for packet in packets))
                random.shuffle(packets)
                unloads = [desk.unload(name, accepted=random.random() < 0.8) for name in packets]
                *runs, _ = await asyncio.gather(*unloads, fill(desk, names, "beside"))
                assert [run["booked"] for run in runs] == [POSTINGS] * PACKETS
                waiting = [r["packet"] for r in runs if r["status"] == "awaiting_acceptance"]
                answers = await asyncio.gather(*map(desk.accept, waiting))
                assert set(decisions(answers)) <= {"approved"}
        assert await observer.packet_faults(desk.world.owner) == []
    assert await deadlocks(database) == 0


async def fill(desk: Desk, names: list[str], packet: str) -> None:
    """Postings between accounts in no order."""
    pairs = [random.sample([*names, CASH, FEES], 2) for _ in range(POSTINGS)]
    submit = desk.world.engine.submit
    answers = await asyncio.gather(
        *(submit(debit(one, 1, other, packet=packet)) for one, other in pairs)
    )
    assert set(decisions(answers)) == {"approved"}


@asynccontextmanager
async def straight_through(desk: Desk) -> AsyncIterator[StraightThrough]:
    """The worker, with a pool of its own."""
    pool = await open_unload_pool(desk.world.settings)
    try:
        yield StraightThrough(pool, desk.world.settings)
    finally:
        await close_pool(pool)


async def small_packet(desk: Desk, worker: StraightThrough, names: list[str]) -> float:
    """Post and unload a small straight-through packet; the seconds of its unload."""
    for name in names:
        await desk.post(name, 1, packet=None, straight_through=True)
    began = time.perf_counter()
    done = await worker.step()
    assert (done.postings, done.failed) == (SMALL, 0)
    return time.perf_counter() - began


async def test_a_small_packet_beside_a_big_one(database: Database) -> None:
    """They share the bank's cash account; the small one waits for its turn, not for the work."""
    async with open_desk(database, queue_max=10_000) as desk:
        names = await desk.world.open(BIG // 2, balance=1_000_00)
        small = await desk.world.open(SMALL, balance=1_000_00)
        commands = [debit(names[number % len(names)], 1, packet="big") for number in range(BIG)]
        for answers in [await desk.world.engine.submit_batch(commands, atomic=False)]:
            assert set(decisions(answers)) == {"approved"}
        async with straight_through(desk) as worker:
            alone = await small_packet(desk, worker, small)
            began = time.perf_counter()
            big = asyncio.create_task(desk.unload("big"))
            beside = []
            while not big.done():
                beside.append(await small_packet(desk, worker, small))
            assert (await big)["booked"] == BIG
            took = time.perf_counter() - began
        told = f"big {took:.2f} s; small alone {alone:.3f} s, beside {sorted(beside)[-3:]}"
        print(told)
        bound = SMALL_SECONDS if TORTURE else max(SMALL_SECONDS, SHARE_OF_BIG * took)
        assert len(beside) > 1, told
        assert max(beside) <= bound, told
