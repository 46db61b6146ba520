"""An event that kills its consumer, and what lies behind it in the queue."""

from __future__ import annotations

import asyncio
import time

import pika
import pytest

from ni.amqp import DEAD
from ni.event_door import Door, open_door
from ni.settings import Settings
from tests.support.broker import VirtualHost

ATTEMPTS = 4
QUEUE = "ni.test"
LOOKS = 50
SETTLED_S = 0.2
QUIET_S = 2.0
LIMIT_S = 20.0


@pytest.fixture
def door(amqp: VirtualHost) -> Door:
    """The door to RabbitMQ."""
    return open_door(Settings(amqp_url=amqp.url, event_attempts_max=ATTEMPTS))


async def publish(door: Door, amqp: VirtualHost, bodies: list[bytes]) -> None:
    """Into the queue, which is there afterwards."""
    async with door.consume(QUEUE):
        pass
    with pika.BlockingConnection(pika.URLParameters(amqp.url)) as connection:
        channel = connection.channel()
        channel.confirm_delivery()
        for body in bodies:
            channel.basic_publish("ni.events", "ni.posting.created", body, mandatory=True)


def dead(amqp: VirtualHost) -> list[bytes]:
    """What was put aside, as soon as there is something; it is taken."""
    found = []
    deadline = time.monotonic() + LIMIT_S
    with pika.BlockingConnection(pika.URLParameters(amqp.url)) as connection:
        channel = connection.channel()
        while time.monotonic() < deadline:
            method, _, body = channel.basic_get(DEAD, auto_ack=True)
            if method is not None and body is not None:
                found.append(body)
            elif found:
                return found
    return found


async def live(door: Door, done: set[bytes], victim: bytes, count: int) -> bool:
    """One life of a consumer that dies of the victim; whether it met it no more."""
    async with door.consume(QUEUE) as deliveries:
        while True:
            try:
                async with asyncio.timeout(LIMIT_S if len(done) < count else QUIET_S):
                    delivery = await anext(deliveries)
            except TimeoutError:
                return True
            if delivery.event_body == victim:
                await asyncio.sleep(SETTLED_S)  # what else the door gets shares its fate
                return False
            done.add(delivery.event_body)
            await delivery.ack()


async def test_it_is_put_aside_alone(door: Door, amqp: VirtualHost) -> None:
    bodies = [b"%d" % number for number in range(60)]
    await publish(door, amqp, bodies)
    victim, done, deaths = bodies[5], set[bytes](), 0
    while not await live(door, done, victim, len(bodies) - 1):
        deaths += 1
        assert deaths <= ATTEMPTS + 1
    assert await asyncio.to_thread(dead, amqp) == [victim]
    assert (done, deaths) == ({*bodies} - {victim}, ATTEMPTS + 1)


async def test_what_was_tried_before_comes_one_by_one_and_then_the_window_opens(
    door: Door, amqp: VirtualHost
) -> None:
    bodies = [b"%d" % number for number in range(10)]
    await publish(door, amqp, bodies)
    async with door.consume(QUEUE, prefetch=4) as deliveries, asyncio.timeout(LIMIT_S):
        for body in bodies[:2]:
            delivery = await anext(deliveries)
            assert (delivery.event_body, delivery.attempt) == (body, 1)
            await delivery.ack()
        await asyncio.sleep(SETTLED_S)
    tried: dict[bytes, int] = {}
    async with door.consume(QUEUE, prefetch=4) as deliveries, asyncio.timeout(LIMIT_S):
        first = await anext(deliveries)
        assert first.attempt == 2
        following = asyncio.ensure_future(anext(deliveries))
        assert not (await asyncio.wait([following], timeout=SETTLED_S))[0], "it is alone"
        await first.retry(0)
        done: set[bytes] = set()
        while True:
            delivery = await following
            tried[delivery.event_body] = delivery.attempt
            if delivery.attempt == 1:
                await delivery.retry(SETTLED_S)
            else:
                await delivery.ack()
                done.add(delivery.event_body)
            if done == {*bodies[2:]}:
                break
            following = asyncio.ensure_future(anext(deliveries))
    assert tried == {body: 3 if body == first.event_body else 2 for body in bodies[2:]}


async def test_the_dead_stay_however_often_they_are_looked_at(
    door: Door, amqp: VirtualHost
) -> None:
    await publish(door, amqp, [b"dead"])
    async with door.consume(QUEUE) as deliveries, asyncio.timeout(LIMIT_S):
        await (await anext(deliveries)).dead_letter("no such number")

    def look() -> None:
        with pika.BlockingConnection(pika.URLParameters(amqp.url)) as connection:
            channel = connection.channel()
            seen = 0
            deadline = time.monotonic() + LIMIT_S
            while seen < LOOKS and time.monotonic() < deadline:
                method, _, _ = channel.basic_get(DEAD)
                if method is not None:
                    seen += 1
                    channel.basic_reject(method.delivery_tag, requeue=True)
            assert seen == LOOKS

    await asyncio.to_thread(look)
    assert await asyncio.to_thread(dead, amqp) == [b"dead"]
    limit = amqp.admin.queues(amqp.name)[DEAD]["arguments"]["x-delivery-limit"]
    assert limit > 1_000_000, "a broker of version 4 would drop it"
