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
            for _ in range(TURNS):
                names = await world.open(4 * ACCOUNTS)
                batches = [[debit(n, 1) for n in order] for order in (names, names[::-1])]
                answers = await asyncio.gather(
                    *(e.submit_batch(b, atomic=True) for e, b in zip((one, two), batches, strict=True))
                )
                assert {name for both in answers for name in decisions(both)} == {"approved"}
    assert Counter(ends)[asyncpg.DeadlockDetectedError] == 0
    assert await world.bank.faults() == []
