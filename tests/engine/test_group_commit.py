"""Requests that wait at the same moment share one transaction, and none waits for company."""

from __future__ import annotations

import asyncio

import pytest

from ni.engine import Engine, Lane
from ni.queues import Unit
from ni.turns import End
from tests.engine.world import World, debit, decisions, made

LIMITS = pytest.mark.parametrize("limits", [{"batch_slice": 50}])


@pytest.mark.parametrize("buckets", [1, 8])
async def test_those_who_wait_share_commits(world: World) -> None:
    names = await world.open(60)
    answers = await asyncio.gather(*(world.engine.submit(debit(n, 1)) for n in names * 5))
    assert decisions(answers) == ["approved"] * 300
    assert len(await world.sizes()) <= world.settings.lanes + 2
    assert await world.bank.faults() == []


async def test_a_hot_account_waits_for_nobody(world: World) -> None:
    """All of an account's single commands meet in one lane and share its commits."""
    (hot,) = await world.open()
    await asyncio.gather(*(world.engine.submit(debit(hot, 1)) for _ in range(200)))
    assert len(await world.sizes()) <= 2


@LIMITS
async def test_no_transaction_decides_more_than_a_slice(world: World) -> None:
    names = await world.open(30)
    await asyncio.gather(*(world.engine.submit(debit(n, 1)) for n in names * 10))
    sizes = await world.sizes()
    assert (sum(sizes), max(sizes)) == (300, 50)


async def test_those_who_come_during_a_transaction_share_the_next(world: World) -> None:
    """One lane is held up by a stranger; what arrives meanwhile goes together afterwards."""
    (hot,) = await world.open()
    async with world.stranger() as stranger:
        async with world.locked(hot, stranger):
            first = asyncio.create_task(world.engine.submit(debit(hot, 1)))
            await world.until_waiting()
            rest = [asyncio.create_task(world.engine.submit(debit(hot, 1))) for _ in range(99)]
            await asyncio.sleep(0.02)
        for answer in await asyncio.gather(first, *rest):
            made(answer)
    assert await world.sizes() == [1, 99]


async def test_an_independent_batch_goes_in_slices(world: World) -> None:
    names = await world.open(40)
    commands = [debit(n, 1) for n in names * 30]
    answers = await world.engine.submit_batch(commands, atomic=False)
    assert decisions(answers) == ["approved"] * 1200
    assert await world.sizes() == [250, 250, 250, 250, 200]
    times = [made(answer)["created_at"] for answer in answers]
    assert times == sorted(times), "an independent batch is decided in order"


@pytest.mark.parametrize("limits", [{"batch_lanes": 1}])
async def test_others_are_decided_between_the_slices_of_a_batch(world: World) -> None:
    """A batch that shares its lane lets the units that wait there go first."""
    names = await world.open(2)
    large = world.engine.submit_batch([debit(names[0], 1) for _ in range(2000)], atomic=False)
    small = world.engine.submit_batch([debit(names[1], 1)], atomic=False)
    answers, (middle,) = await asyncio.gather(large, small)
    created_at = made(middle)["created_at"]
    assert made(answers[0])["created_at"] < created_at < made(answers[-1])["created_at"]


@LIMITS
async def test_an_atomic_batch_is_one_transaction(world: World) -> None:
    names = await world.open(10)
    commands = [debit(n, 1) for n in names * 60]
    assert decisions(await world.engine.submit_batch(commands, atomic=True)) == ["approved"] * 600
    assert await world.sizes() == [600]


@LIMITS
async def test_one_refusal_refuses_an_atomic_batch(world: World) -> None:
    """The culprit hears its own refusal; nothing is stored, so that every key may come again."""
    one, poor = await world.open(2, balance=100)
    commands = [debit(one, 10), debit(poor, 101), debit(one, 10)]
    answers = await world.engine.submit_batch(commands, atomic=True)
    assert decisions(answers) == ["batch_refused", "insufficient_funds", "batch_refused"]
    assert await world.requests() == 0
    assert await world.available(one) == 100
    commands[1].amount = 100
    answers = await world.engine.submit_batch(commands, atomic=True)
    assert decisions(answers) == ["approved"] * 3
    assert not any(answer.replayed for answer in answers)


async def test_a_lone_command_waits_for_no_company(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its decision begins within a few turns of the event loop: there is no time to wait in."""
    (account,) = await world.open()
    begun = asyncio.Event()
    process = Engine.process

    async def noted(self: Engine, lane: Lane, units: list[Unit], written: End) -> None:
        begun.set()
        await process(self, lane, units, written)

    monkeypatch.setattr(Engine, "process", noted)
    for _ in range(10):
        begun.clear()
        task = asyncio.create_task(world.engine.submit(debit(account, 1)))
        for _turn in range(4):
            await asyncio.sleep(0)
        assert begun.is_set()
        made(await task)
