"""Bindings that are deleted, and followers: neither takes an event away from a lasting queue."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable

import asyncpg
import pika
import pytest
from pika.channel import Channel
from structlog.testing import capture_logs

from ni.deliveries import MAIN_QUEUE
from ni.errors import Unavailable
from ni.event_door import Delivery, Door, open_door
from ni.settings import Settings
from tests.events.house import (
    WAITING,
    RelayProcess,
    Taker,
    Teller,
    assert_complete,
    until,
    until_empty,
)
from tests.support.broker import VirtualHost

LIMIT_S = 20.0


@pytest.fixture
def door(amqp: VirtualHost, monkeypatch: pytest.MonkeyPatch) -> Door:
    """The door to RabbitMQ, which looks after its bindings often."""
    monkeypatch.setattr("ni.amqp_door.REBIND_S", 0.2)
    return open_door(Settings(amqp_url=amqp.url))


async def take(deliveries: AsyncIterator[Delivery], count: int) -> list[bytes]:
    """The next ones, which are done. Raises TimeoutError when they do not come."""
    bodies: list[bytes] = []
    async with asyncio.timeout(LIMIT_S):
        while len(bodies) < count:
            delivery = await anext(deliveries)
            bodies.append(delivery.event_body)
            await delivery.ack()
    return bodies


async def test_what_a_follower_sees_of_stuck_events_stays_for_everybody_else(
    door: Door, owner: asyncpg.Connection, teller: Teller, new_relay: Callable[..., RelayProcess]
) -> None:
    """There is no queue but the follower's: the notifier has never been started."""
    relay = new_relay(relay_scan_s="1").start()
    await teller.tell(["A", "B"] * 5)
    await relay.until_logged("relay_unroutable")
    assert await owner.fetchval(WAITING) == 10
    with capture_logs() as told:
        async with door.consume("ni.tail", temporary=True) as seen:
            await take(seen, 10)
            await until_empty(owner)
    assert [one["queue"] for one in told if one["event"] == "event_queue_made"] == [MAIN_QUEUE]
    async with door.consume(MAIN_QUEUE) as deliveries:
        assert assert_complete(await take(deliveries, 10), teller) == 0


@pytest.mark.parametrize("when", ["before", "meanwhile"])
async def test_a_follower_binds_the_notifiers_queue_when_its_binding_was_deleted(
    amqp: VirtualHost, door: Door, teller: Teller, new_relay: Callable[..., RelayProcess], when: str
) -> None:
    """Also one that would make that queue otherwise."""
    notifiers = open_door(Settings(amqp_url=amqp.url, event_attempts_max=3))
    async with notifiers.consume(MAIN_QUEUE):
        pass
    if when == "before":
        assert amqp.delete_bindings("ni.events", MAIN_QUEUE)
    async with door.consume("ni.tail", temporary=True) as seen:
        if when == "meanwhile":
            assert amqp.delete_bindings("ni.events", MAIN_QUEUE)
            await until(lambda: amqp.bindings("ni.events", MAIN_QUEUE) == ["ni.#"])
        await teller.tell(["A", "B"])
        new_relay().start()
        await take(seen, 2)
    async with notifiers.consume(MAIN_QUEUE) as deliveries:
        assert assert_complete(await take(deliveries, 2), teller) == 0


async def test_a_consumer_whose_queue_was_lost_without_a_word_begins_anew(
    amqp: VirtualHost, door: Door, monkeypatch: pytest.MonkeyPatch
) -> None:
    """RabbitMQ tells the consumers of a deleted queue so, but under load not each time."""
    monkeypatch.setattr(Channel, "add_on_cancel_callback", lambda *_: None)
    with capture_logs() as told:
        async with door.consume(MAIN_QUEUE) as deliveries:
            amqp.delete_queue(MAIN_QUEUE)
            with pytest.raises(Unavailable):
                async with asyncio.timeout(LIMIT_S):
                    await anext(deliveries)
    assert [one["queue"] for one in told if one["event"] == "event_consumer_lost"] == [MAIN_QUEUE]
    async with door.consume(MAIN_QUEUE) as deliveries:
        with pika.BlockingConnection(pika.URLParameters(amqp.url)) as connection:
            connection.channel().basic_publish("ni.events", "ni.posting.created", b"event")
        assert await take(deliveries, 1) == [b"event"]
        with pytest.raises(TimeoutError):  # it is looked after, and goes on
            async with asyncio.timeout(1):
                await anext(deliveries)


async def test_a_deleted_binding_is_made_again_while_the_consumer_goes_on(
    amqp: VirtualHost, door: Door, teller: Teller, taker: Taker,
    new_relay: Callable[..., RelayProcess],
) -> None:  # fmt: skip
    """Another queue takes everything, so nothing comes back and nobody is told."""
    new_relay().start()
    async with door.consume(MAIN_QUEUE) as deliveries:
        await teller.tell(["A", "B"])
        bodies = await take(deliveries, 2)
        assert amqp.delete_bindings("ni.events", MAIN_QUEUE)
        await until(lambda: amqp.bindings("ni.events", MAIN_QUEUE) == ["ni.#"])
        await teller.tell(["A", "B"])
        bodies += await take(deliveries, 2)
    assert assert_complete(bodies, teller) == 0
    taker.take_all(4)
    assert assert_complete(taker.bodies, teller) == 0


async def test_what_comes_back_meanwhile_comes_when_it_is_bound_again(
    amqp: VirtualHost, door: Door, teller: Teller, new_relay: Callable[..., RelayProcess]
) -> None:
    """The one queue loses its binding, then the exchange goes, then events are told again."""
    relay = new_relay(relay_scan_s="1").start()
    await relay.until_logged("relay_publishes")
    async with door.consume(MAIN_QUEUE) as deliveries:
        assert amqp.delete_bindings("ni.events", MAIN_QUEUE)
        await teller.tell(["A", "B"])
        bodies = await take(deliveries, 2)
        with pika.BlockingConnection(pika.URLParameters(amqp.url)) as connection:
            connection.channel().exchange_delete("ni.events")
        await teller.tell(["A", "B"])
        bodies += await take(deliveries, 2)
    assert assert_complete(bodies, teller) == 0


async def test_a_consumer_goes_on_when_its_binding_cannot_be_made(
    door: Door, teller: Teller, new_relay: Callable[..., RelayProcess],
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    """It says so and tries again."""
    relay = new_relay().start()
    await relay.until_logged("relay_publishes")
    async with door.consume(MAIN_QUEUE) as deliveries:
        with monkeypatch.context() as patch, capture_logs() as told:
            patch.setattr("ni.amqp.EXCHANGE", "amq.no.such")  # a name that nobody may declare
            await until(lambda: [one["event"] for one in told].count("event_queue_not_bound") > 1)
        await teller.tell(["A", "B"])
        assert assert_complete(await take(deliveries, 2), teller) == 0
