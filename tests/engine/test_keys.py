"""Request keys: one effect and one answer each, and never a deadlock over them."""

from __future__ import annotations

import asyncio
from collections import Counter
from contextlib import suppress
from typing import TYPE_CHECKING

import asyncpg
import pytest

from ni.batch_state import Effects
from ni.commands import CreatePosting
from ni.decisions import Decision
from ni.engine import Engine
from ni.identifiers import bucket_of
from tests.engine.hooks import before_write, count_runs
from tests.engine.world import (
    CASH,
    CLIENT,
    FEES,
    PATIENT_LOCKS,
    PRINT,
    World,
    debit,
    decisions,
    made,
)

if TYPE_CHECKING:
    from ni.database import Session

BUCKETS = pytest.mark.parametrize("buckets", [1, 8])
OTHER_PRINT = PRINT[::-1]
STORM_KEYS = 400
STORM_ROUNDS = 8

_TAKE = (
    "insert into ni.request (bucket, client, key, fingerprint, decision, document, decided_at)"
    " values ($1, $2, $3, $4, 0, $5, ni.clock())"
)


@BUCKETS
@pytest.mark.parametrize("atomic", [False, True])
async def test_the_same_key_twice_in_one_batch(world: World, atomic: bool) -> None:
    """The second is a replay of the first: one effect, the same bytes."""
    (one,) = await world.open()
    batch = [debit(one, 10, key="twice"), debit(one, 5), debit(one, 10, key="twice")]
    answers = await world.engine.submit_batch(batch, atomic=atomic)
    assert decisions(answers) == ["approved"] * 3
    assert answers[2].document == answers[0].document
    assert [answer.replayed for answer in answers] == [False, False, True]
    assert await world.available(one) == 1000_00 - 15


@BUCKETS
async def test_the_same_key_with_another_request_in_one_batch(world: World) -> None:
    (one,) = await world.open()
    batch = [debit(one, 10, key="other"), debit(one, 5, key="other", fingerprint=OTHER_PRINT)]
    answers = await world.engine.submit_batch(batch, atomic=False)
    assert decisions(answers) == ["approved", "idempotency_key_reused"]
    replay = await world.engine.submit(debit(one, 10, key="other"))
    assert (replay.document, replay.replayed) == (answers[0].document, True)
    assert await world.available(one) == 1000_00 - 10


@BUCKETS
async def test_a_refusal_is_kept_under_its_key(world: World) -> None:
    """Money that comes afterwards does not change what was answered."""
    (one,) = await world.open(balance=10)
    first = await world.engine.submit(debit(one, 11, key="poor"))
    made(await world.engine.submit(debit(CASH, 100, credit=one)))
    again = await world.engine.submit(debit(one, 11, key="poor"))
    assert (first.decision, again.decision) == (Decision.insufficient_funds,) * 2
    assert (again.document, again.replayed) == (first.document, True)


@BUCKETS
async def test_clients_do_not_share_keys(world: World) -> None:
    (one,) = await world.open()
    batch = [debit(one, 10, key="k", client=name) for name in ("a", "b")]
    answers = await world.engine.submit_batch(batch, atomic=True)
    assert not any(answer.replayed for answer in answers)
    assert await world.available(one) == 1000_00 - 20


async def test_keys_in_opposite_orders_do_not_deadlock(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two processes, no account in common, the same keys from both ends: one effect a key."""
    await world.tell_deadlocks_early()
    ends = count_runs(monkeypatch)
    meeting = asyncio.Barrier(2)

    async def meet(_session: Session, _effects: Effects) -> None:
        with suppress(TimeoutError, asyncio.BrokenBarrierError):
            async with asyncio.timeout(0.05):
                await meeting.wait()

    before_write(monkeypatch, meet)
    sources = await world.open(2, balance=10**9)
    async with world.another_engine(**PATIENT_LOCKS) as one:
        async with world.another_engine(**PATIENT_LOCKS) as two:
            for turn in range(STORM_ROUNDS):
                keys = [f"s{turn}-{number}" for number in range(STORM_KEYS)]
                answers = await asyncio.gather(
                    _send(one, sources[0], keys), _send(two, sources[1], keys[::-1])
                )
                for mine, theirs in zip(answers[0], answers[1][::-1], strict=True):
                    assert {mine, theirs} == {"approved", "idempotency_key_reused"}
    assert Counter(ends)[asyncpg.DeadlockDetectedError] == 0
    assert Counter(ends)[asyncpg.LockNotAvailableError] == 0
    assert (
        await world.owner.fetchval("select count(*) from ni.posting") == STORM_ROUNDS * STORM_KEYS
    )
    assert await world.bank.faults() == []


async def _send(engine: Engine, source: str, keys: list[str]) -> list[str]:
    """The same keys, each process with requests of its own under them."""
    fingerprint = source.encode()
    commands = [debit(source, 1, key=key, fingerprint=fingerprint) for key in keys]
    return decisions(await engine.submit_batch(commands, atomic=False))


def rival_of(world: World, command: CreatePosting) -> tuple[object, ...]:
    """The row that another process writes for the same request."""
    bucket = bucket_of(command.debit_account, world.buckets)
    return bucket, CLIENT, command.key, PRINT, '{"said":"by another process"}'


@BUCKETS
@pytest.mark.parametrize("accounts", ["customer", "internal", "unknown"])
async def test_a_key_taken_after_the_look_up_is_replayed(
    world: World, monkeypatch: pytest.MonkeyPatch, accounts: str
) -> None:
    """Another process commits the same key between this one's look-up and its write."""
    source = {"customer": (await world.open())[0], "internal": FEES, "unknown": "NOBODY"}[accounts]
    command = debit(source, 10)
    await_once = [command]

    async def take(_session: Session, _effects: Effects) -> None:
        if await_once:
            await world.owner.execute(_TAKE, *rival_of(world, await_once.pop()))

    before_write(monkeypatch, take)
    neighbour = debit(source, 1, key="neighbour")
    answers = await world.engine.submit_batch([command, neighbour], atomic=False)
    assert answers[0].document == '{"said":"by another process"}'
    assert [answer.replayed for answer in answers] == [True, False]
    assert await world.owner.fetchval("select count(*) from ni.posting") == (accounts != "unknown")


@BUCKETS
@pytest.mark.parametrize("commits", [True, False])
async def test_a_key_that_somebody_is_just_using_is_waited_for(
    world: World, monkeypatch: pytest.MonkeyPatch, commits: bool
) -> None:
    """Whether the other process commits or gives up, this one answers what then is true."""
    (one,) = await world.open()
    command = debit(one, 10)
    async with world.stranger() as rival:
        other = rival.transaction()
        await other.start()
        await rival.execute(_TAKE, *rival_of(world, command))
        waiting = asyncio.create_task(world.engine.submit(command))
        await world.until_waiting()
        await (other.commit() if commits else other.rollback())
        answer = await waiting
    assert (answer.decision, answer.replayed) == (Decision.approved, commits)
    assert await world.available(one) == (1000_00 if commits else 1000_00 - 10)


async def test_a_batch_whose_keys_stay_taken_is_redone_three_times_then_apart(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The redo is bounded, and whoever is innocent gets its answer."""
    names = await world.open(5)
    sizes: list[int] = []

    async def fail_together(session: Session, effects: Effects) -> None:
        sizes.append(len(effects.requests))
        if len(effects.requests) > 1:
            await session.execute(
                "do $$ begin raise unique_violation using constraint = 'request_pkey'; end $$"
            )

    before_write(monkeypatch, fail_together)
    answers = await world.engine.submit_batch([debit(n, 1) for n in names], atomic=False)
    assert decisions(answers) == ["approved"] * 5
    assert sizes == [5] * 4 + [1] * 5
