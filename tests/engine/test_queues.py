"""What a lane takes next: in order, but not what another lane's transaction would hold up."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import pytest

from ni import clock
from ni.batch_state import Snapshot
from ni.clock import EPOCH
from ni.errors import Overloaded
from ni.movements import AccountFigures
from ni.queues import PASSES_MAX, Queue, Unit
from tests.engine.world import CASH, World, debit, decisions, made


def unit(*accounts: str, atomic: bool = False, deadline_s: float = 60) -> Unit:
    """A debit of each account against the cash desk."""
    commands = [debit(account, 1) for account in accounts]
    return Unit(commands, atomic, clock.monotonic() + deadline_s)


def queue_of(units: Sequence[Unit], slice_max: int = 2) -> Queue:
    """A queue of several lanes which knows that the cash desk is locked by nobody."""
    queue = Queue(slice_max, shared=True)
    cash = AccountFigures(
        CASH, "internal", "CZK", "active", 0, 0, None, None, 0, None, 0, 0, 0, None, None, 0
    )
    day = EPOCH.date()
    queue.learn(Snapshot(0, 1, day, day, 1, 0, accounts={CASH: cash}))
    for each in units:
        queue.put(each)
    return queue


async def test_a_lane_takes_what_shares_no_account_with_the_others() -> None:
    first, second, third = unit("A", "B"), unit("B", "C"), unit("D", "E")
    queue = queue_of([first, second, third])
    assert queue.take("one") == [first]
    assert queue.take("two") == [third]
    queue.decided("one")
    assert queue.take("one") == [second]
    assert (bool(queue), queue.commands) == (False, 0)


async def test_what_was_decided_is_in_nobodys_way() -> None:
    first, second, third = unit("A", "B"), unit("B", "C"), unit("D", "E")
    queue = queue_of([first, second, third])
    assert queue.take("one") == [first]
    queue.decided("one")
    assert queue.take("two") == [second]


async def test_where_all_share_the_first_is_taken() -> None:
    units = [unit("A", "B"), unit("B", "C"), unit("A", "D")]
    queue = queue_of(units)
    assert [queue.take(lane) for lane in "123"] == [[each] for each in units]


async def test_an_account_that_is_not_known_to_be_unlocked_counts() -> None:
    first, second, third = unit("A", "B"), unit("C", "D"), unit("E", "F")
    queue = Queue(2, shared=True)
    for each in (first, second, third):
        queue.put(each)
    assert queue.take("one") == [first]
    assert queue.take("two") == [second], "all name the cash desk: the first goes"


async def test_nobody_is_passed_over_for_ever() -> None:
    queue = queue_of([unit("A", "B"), held := unit("A", "Z")])
    queue.take("one")
    for number in range(PASSES_MAX):
        other = unit(f"X{number}", f"Y{number}")
        queue.put(other)
        assert queue.take("two") == [other]
    queue.put(unit("M", "N"))
    assert queue.take("two") == [held]


async def test_small_units_share_a_transaction_up_to_a_slice() -> None:
    units = [unit("A"), unit("A"), unit("B", "C")]
    queue = queue_of(units)
    assert queue.take("one") == units[:2]
    assert queue.take("two") == units[2:]


async def test_an_atomic_unit_has_a_transaction_of_its_own() -> None:
    units = [unit("A"), unit("B", "C", "D", atomic=True), unit("E")]
    queue = queue_of(units, slice_max=10)
    assert [queue.take("one") for _ in range(3)] == [[each] for each in units]


async def test_what_is_too_late_is_refused() -> None:
    late, good = unit("A", deadline_s=-1), unit("B")
    queue = queue_of([late, good])
    assert queue.take("one") == [good]
    with pytest.raises(Overloaded, match="deadline"):
        await late.answers


async def test_a_stopped_queue_refuses_what_waits() -> None:
    queue = queue_of(units := [unit("A"), unit("B")])
    queue.abandon()
    for each in units:
        with pytest.raises(Overloaded, match="stopping"):
            await each.answers
    assert (bool(queue), queue.commands) == (False, 0)


@pytest.mark.parametrize("limits", [{"batch_lanes": 2, "batch_slice": 10}])
@pytest.mark.parametrize("buckets", [1, 8])
async def test_two_lanes_decide_batches_that_share_accounts(world: World) -> None:
    """Transfers to and fro between the same accounts, in many batches at once: all is well."""
    names = await world.open(12)
    batches = [
        [debit(names[n % 12], 1, credit=names[(n + shift) % 12]) for n in range(40)]
        for shift in range(1, 12)
    ]
    answers = await asyncio.gather(
        *(world.engine.submit_batch(batch, atomic=False) for batch in batches)
    )
    for answer in answers:
        assert decisions(answer) == ["approved"] * 40
        times = [made(each)["created_at"] for each in answer]
        assert times == sorted(times), "a batch is decided in order"
    assert await world.bank.faults() == []
