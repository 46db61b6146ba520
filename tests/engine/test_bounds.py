"""Nothing is unbounded: the queue, the wait for a decision, the wait for a lock, the stop."""

from __future__ import annotations

import asyncio

import pytest

from ni.decisions import Decision
from ni.errors import Overloaded, Unavailable
from tests.engine.hooks import count_runs
from tests.engine.world import World, cancel, debit, decisions, id_of, made

BUCKETS = pytest.mark.parametrize("buckets", [1, 8])


@pytest.mark.parametrize("limits", [{"queue_max": 5, "lanes": 1}])
async def test_a_full_queue_refuses_at_once(world: World) -> None:
    """Those that wait are served; those that find no room may come again with the same key."""
    (one,) = await world.open()
    async with world.stranger() as other, world.locked(one, other):
        first = asyncio.create_task(world.engine.submit(debit(one, 1)))
        await world.until_waiting()
        rest = [asyncio.create_task(world.engine.submit(debit(one, 1))) for _ in range(5)]
        await asyncio.sleep(0)
        with pytest.raises(Overloaded, match="full"):
            await world.engine.submit(debit(one, 1, key="late"))
        with pytest.raises(Overloaded, match="full"):
            await world.engine.submit_batch([debit(one, 1, key="late")], atomic=True)
    assert decisions(await asyncio.gather(first, *rest)) == ["approved"] * 6
    assert not (await world.engine.submit(debit(one, 1, key="late"))).replayed
    assert await world.available(one) == 1000_00 - 7


@pytest.mark.parametrize("limits", [{"queue_max": 5}])
async def test_a_batch_larger_than_the_queue_is_refused_whole(world: World) -> None:
    (one,) = await world.open()
    with pytest.raises(Overloaded, match="full"):
        await world.engine.submit_batch([debit(one, 1) for _ in range(6)], atomic=True)
    assert world.engine.waiting == 0
    assert decisions(await world.engine.submit_batch([debit(one, 1)] * 1, atomic=True)) == [
        "approved"
    ]


@pytest.mark.parametrize("limits", [{"lanes": 1}])
async def test_a_deadline_that_passes_in_the_queue(world: World) -> None:
    """The command was never begun, so it was never decided."""
    one, two = await world.open(2)
    async with world.stranger() as other, world.locked(one, other):
        first = asyncio.create_task(world.engine.submit(debit(one, 1)))
        await world.until_waiting()
        world.settings.decision_timeout_ms = 50
        late = asyncio.create_task(world.engine.submit(debit(two, 1, key="late")))
        await asyncio.sleep(0.1)
    with pytest.raises(Overloaded, match="deadline"):
        await late
    made(await first)
    world.settings.decision_timeout_ms = 8000
    assert await world.requests() == 1
    assert not (await world.engine.submit(debit(two, 1, key="late"))).replayed


@BUCKETS
async def test_a_lock_that_is_held_longer_than_the_lock_timeout(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The wait is broken off at 200 ms, twice, each time tried again, and then approved."""
    name = await world.open_in(world.buckets - 1)
    ends = count_runs(monkeypatch)
    async with world.stranger() as other, world.locked(name, other):
        waiting = asyncio.create_task(world.engine.submit(debit(name, 1)))
        while len(ends) < 2:
            assert not waiting.done()
            await asyncio.sleep(0.01)
    made(await waiting)
    assert len(ends) >= 3
    assert ends[-1] is None
    assert {end.__name__ for end in ends[:-1] if end} == {"LockNotAvailableError"}


@BUCKETS
@pytest.mark.parametrize("limits", [{"decision_timeout_ms": 500}])
async def test_a_lock_that_is_held_longer_than_the_deadline(world: World) -> None:
    """Unavailable, with nothing recorded; the same key has its effect afterwards."""
    name = await world.open_in(world.buckets - 1)
    before = await world.bank.fingerprint()
    async with world.stranger() as other, world.locked(name, other):
        with pytest.raises(Unavailable):
            await world.engine.submit(debit(name, 1, key="late"))
    await world.owner.execute("delete from ni.position")
    assert await world.bank.fingerprint() == before
    assert not (await world.engine.submit(debit(name, 1, key="late"))).replayed


@BUCKETS
async def test_a_stop_finishes_what_was_submitted(world: World) -> None:
    names = await world.open(10)
    async with world.another_engine() as engine:
        tasks = [asyncio.create_task(engine.submit(debit(n, 1))) for n in names * 20]
        batch = asyncio.create_task(
            engine.submit_batch([debit(n, 1) for n in names * 30], atomic=True)
        )
        await asyncio.sleep(0)
        await engine.stop()
        assert decisions(await asyncio.gather(*tasks)) == ["approved"] * 200
        assert decisions(await batch) == ["approved"] * 300
    assert await world.requests() == 500


async def test_a_stop_waits_for_a_cancel_that_waits_for_a_packet(world: World) -> None:
    (one,) = await world.open()
    posting = id_of(await world.engine.submit(debit(one, 1)))
    async with world.another_engine(decision_timeout_ms=400) as engine:
        async with world.stranger() as packet, packet.transaction():
            await packet.execute("select from ni.posting for update")
            waiting = asyncio.create_task(engine.submit(cancel(posting)))
            await asyncio.sleep(0.05)
            await engine.stop()
            assert (await waiting).decision is Decision.posting_being_unloaded


async def test_a_stop_does_not_wait_for_ever(world: World) -> None:
    """What cannot be decided in time hears so, also what was never begun."""
    (one,) = await world.open()
    limits = {"decision_timeout_ms": 300, "batch_slice": 1, "lanes": 1}
    async with world.another_engine(**limits) as engine, world.stranger() as other:
        async with world.locked(one, other), asyncio.timeout(10):
            tasks = [asyncio.create_task(engine.submit(debit(one, 1))) for _ in range(5)]
            await asyncio.sleep(0)
            await engine.stop()
            for task in tasks:
                with pytest.raises((Overloaded, Unavailable)):
                    await task
    assert await world.requests() == 0


@BUCKETS
async def test_a_caller_that_goes_away_does_not_undo_its_command(world: World) -> None:
    """A cancelled task: the decision is made all the same, and the key tells."""
    name = await world.open_in(world.buckets - 1)
    command = debit(name, 7)
    async with world.stranger() as other, world.locked(name, other):
        task = asyncio.create_task(world.engine.submit(command))
        await world.until_waiting()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
    answer = await world.engine.submit(command)
    assert made(answer)["debit"]["sequence"] == 1
    assert answer.replayed
    assert await world.available(name) == 1000_00 - 7
