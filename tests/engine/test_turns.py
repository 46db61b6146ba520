"""Lanes take turns, and nobody waits for a turn that lasts."""

from __future__ import annotations

import asyncio

import pytest

from ni.engine import Engine
from ni.turns import Turns
from tests.engine.world import World, debit, made


async def test_one_has_the_turn_and_the_next_gets_it() -> None:
    turns = Turns(patience_ms=60_000)
    end = await turns.take()
    second = asyncio.create_task(turns.take())
    await asyncio.sleep(0.01)
    assert not second.done()
    end()
    end_of_second = await asyncio.wait_for(second, 1)
    end()  # the second time it ends nothing: the turn is another's
    third = asyncio.create_task(turns.take())
    await asyncio.sleep(0.01)
    assert not third.done()
    end_of_second()
    (await asyncio.wait_for(third, 1))()


async def test_patience_ends() -> None:
    turns = Turns(patience_ms=5)
    end = await turns.take()
    no_turn = await asyncio.wait_for(turns.take(), 1)
    no_turn()
    waiting = asyncio.create_task(turns.take())
    await asyncio.sleep(0.001)
    assert not waiting.done(), "who goes without a turn ends nobody's"
    end()
    (await asyncio.wait_for(waiting, 1))()


@pytest.mark.parametrize("limits", [{"lanes": 4, "turn_patience_ms": 10}])
async def test_a_locked_account_holds_up_its_own_lane_only(world: World) -> None:
    names = await world.open(40)
    locked = names[0]
    others = [n for n in names if _lane(world.engine, n) != _lane(world.engine, locked)]
    async with world.stranger() as stranger:
        async with world.locked(locked, stranger):
            held_up = asyncio.create_task(world.engine.submit(debit(locked, 1)))
            await world.until_waiting()
            answers = await asyncio.gather(*(world.engine.submit(debit(n, 1)) for n in others))
            assert not held_up.done()
    for answer in [*answers, await held_up]:
        made(answer)
    assert await world.bank.faults() == []


@pytest.mark.parametrize("limits", [{"lanes": 4}])
async def test_what_waits_for_a_turn_shares_a_transaction(world: World) -> None:
    """Commands of every lane, sent while one lane decides, make one transaction a lane."""
    names = await world.open(64)
    first = asyncio.create_task(world.engine.submit(debit(names[0], 1)))
    await asyncio.sleep(0)
    rest = [asyncio.create_task(world.engine.submit(debit(n, 1))) for n in names[1:] * 4]
    for answer in await asyncio.gather(first, *rest):
        made(answer)
    assert len(await world.sizes()) <= 1 + 2 * world.settings.lanes


def _lane(engine: Engine, account: str) -> object:
    return engine._queue_of(debit(account, 1))
