"""How deliveries become batches: in company where there may be some, and never lost on the way."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from time import monotonic

import pytest

from ni.sms.inbox import batches_of
from tests.sms.scene import Given

LONG_S = 60.0


async def of(queue: asyncio.Queue[Given]) -> AsyncIterator[Given]:
    """Deliveries as a door gives them."""
    while True:
        yield await queue.get()


def queue_of(count: int, attempt: int = 1) -> tuple[asyncio.Queue[Given], list[Given]]:
    """So many deliveries, and the queue that has them."""
    queue: asyncio.Queue[Given] = asyncio.Queue()
    made = [Given(b"", attempt) for _ in range(count)]
    for delivery in made:
        queue.put_nowait(delivery)
    return queue, made


async def test_what_comes_soon_after_is_in_the_batch() -> None:
    queue, [first, second] = queue_of(2)
    queue.get_nowait(), queue.get_nowait()
    queue.put_nowait(first)
    asyncio.get_running_loop().call_later(0.05, queue.put_nowait, second)
    batches = batches_of(of(queue), 10, 0.5)
    assert await anext(batches) == [first, second]
    await batches.aclose()


async def test_a_full_batch_waits_for_nothing() -> None:
    queue, made = queue_of(7)
    batches = batches_of(of(queue), 3, LONG_S)
    async with asyncio.timeout(5):
        assert await anext(batches) == made[:3]
        assert await anext(batches) == made[3:6]
    await batches.aclose()
    assert [delivery.ended for delivery in made] == [[]] * 6 + [["again after 0"]]


async def test_what_was_tried_before_waits_for_nothing() -> None:
    """Nothing else comes before it is done."""
    queue, made = queue_of(1, attempt=2)
    batches = batches_of(of(queue), 10, LONG_S)
    began = monotonic()
    assert await anext(batches) == made
    assert monotonic() - began < 5
    await batches.aclose()


@pytest.mark.parametrize("count", [1, 2, 9], ids=["alone", "two", "more-than-fit"])
async def test_what_is_in_hand_is_given_back(count: int) -> None:
    """Broken off while it waits for company; what was given out is its taker's."""
    queue, made = queue_of(3)
    batches = batches_of(of(queue), 3, LONG_S)
    assert await anext(batches) == made
    others = [Given(b"") for _ in range(count)]
    broken = asyncio.create_task(anext(batches))
    for delivery in others:
        queue.put_nowait(delivery)
    if count < 3:
        await asyncio.sleep(0.05)
        broken.cancel()
        with pytest.raises(asyncio.CancelledError):
            await broken
    else:
        given_out = {id(delivery) for delivery in await broken}
        others = [delivery for delivery in others if id(delivery) not in given_out]
        await asyncio.sleep(0.05)
    await batches.aclose()
    taken = [delivery for delivery in others if delivery.ended]
    assert [delivery.ended for delivery in taken] == [["again after 0"]] * len(taken)
    assert len(taken) + queue.qsize() == len(others)
    assert [delivery.ended for delivery in made] == [[]] * 3
