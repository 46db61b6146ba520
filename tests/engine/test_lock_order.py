"""One lock order, (bucket, account): processes that want the same accounts never deadlock."""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import Sequence

import asyncpg
import pytest

from ni.engine import Engine
from tests.engine.hooks import count_runs
from tests.engine.world import (
    PATIENT_LOCKS,
    World,
    cancel,
    debit,
    decisions,
    id_of,
    made,
)

BUCKETS = pytest.mark.parametrize("buckets", [1, 8])
ACCOUNTS = 24
TURNS = 12


@BUCKETS
async def test_accounts_in_every_order(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Large batches over the same accounts, shuffled, through two processes, cancels among them."""
    await world.tell_deadlocks_early()
    names = await world.open(ACCOUNTS)
    ends = count_runs(monkeypatch)
    async with world.another_engine(**PATIENT_LOCKS) as one:
        async with world.another_engine(**PATIENT_LOCKS) as two:
            await asyncio.gather(
                *(_transfer(engine, names) for engine in (one, two)), _cancel(one, two, names)
            )
    assert Counter(ends)[asyncpg.DeadlockDetectedError] == 0
    assert sum([await world.available(name) for name in names]) == ACCOUNTS * 1000_00
    assert await world.bank.faults() == []


async def _transfer(engine: Engine, names: Sequence[str]) -> None:
    for _ in range(TURNS):
        ring = random.sample(names, len(names))
        batch = [debit(a, 1, credit=b) for a, b in zip(ring, ring[1:] + ring[:1], strict=True)]
        answers = await engine.submit_batch(batch, atomic=True)
        assert set(decisions(answers)) == {"approved"}


async def _cancel(one: Engine, two: Engine, names: Sequence[str]) -> None:
    for turn in range(TURNS):
        mine, other = (one, two) if turn % 2 else (two, one)
        posting = id_of(await mine.submit(debit(names[turn], 1, credit=names[-1 - turn])))
        made(await other.submit(cancel(posting)))


@BUCKETS
async def test_accounts_that_ni_has_never_seen_in_every_order(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """First decisions make the positions: sorted, so that they do not wait in a circle."""
    await world.tell_deadlocks_early()
    ends = count_runs(monkeypatch)
    async with world.another_engine(**PATIENT_LOCKS) as one:
        async with world.another_engine(**PATIENT_LOCKS) as two:
            for _ in range(TURNS):  # both begin at the same moment: when the gate is opened
                names = await world.open(5 * ACCOUNTS)
                # so many more for one process that its set of accounts has an order of its own
                more = [debit(f"NOBODY-{number}", 1) for number in range(350)]
                batches = [[debit(n, 1) for n in names] for _ in range(2)]
                async with world.stranger() as switcher, switcher.transaction():
                    await switcher.execute("lock table ni.gate in exclusive mode")
                    tasks = [
                        asyncio.create_task(one.submit_batch(batches[0], atomic=False)),
                        asyncio.create_task(two.submit_batch(batches[1] + more, atomic=False)),
                    ]
                    await world.until_waiting(2)
                answers = await asyncio.gather(*tasks)
                told = [decisions(some)[: len(names)] for some in answers]
                assert told == [["approved"] * len(names)] * 2
    assert Counter(ends)[asyncpg.DeadlockDetectedError] == 0
    assert await world.bank.faults() == []
