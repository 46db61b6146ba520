"""What a consumer of RabbitMQ has done with is ended with few words, and nothing else is."""

from __future__ import annotations

import asyncio
from typing import Any

import pika
import pytest
from pika.channel import Channel

from ni.event_door import open_door
from ni.settings import Settings
from tests.events.test_doors import take
from tests.support.broker import VirtualHost

QUEUE = "ni.test"


def publish(amqp: VirtualHost, *bodies: bytes) -> None:
    with pika.BlockingConnection(pika.URLParameters(amqp.url)) as connection:
        for body in bodies:
            connection.channel().basic_publish("ni.events", "ni.posting.created", body)


async def test_one_word_ends_all_before_it(
    amqp: VirtualHost, monkeypatch: pytest.MonkeyPatch
) -> None:
    said: list[tuple[int, bool]] = []
    ack = Channel.basic_ack

    def noted(channel: Channel, tag: int = 0, multiple: bool = False) -> Any:
        said.append((tag, multiple))
        return ack(channel, tag, multiple)

    monkeypatch.setattr(Channel, "basic_ack", noted)
    door = open_door(Settings(amqp_url=amqp.url))
    async with door.consume(QUEUE) as deliveries:
        publish(amqp, b"first")
        (first,) = await take(deliveries, 1)
        await first.ack()
        publish(amqp, b"1", b"2", b"3", b"4", b"5", b"6")
        held = await take(deliveries, 6)
        said.clear()
        for number in (1, 0, 3):
            await held[number].ack()
        await held[4].dead_letter("no event")
        await asyncio.sleep(0)
        await held[5].ack()
    assert said == [(3, True), (5, False), (7, False)]
    async with door.consume(QUEUE) as deliveries:
        (again,) = await take(deliveries, 1)
        assert (again.event_body, again.attempt) == (b"3", 2)
        await again.ack()
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.5):
                await anext(deliveries)


async def test_what_waits_to_be_tried_again_is_not_ended_with_the_others(amqp: VirtualHost) -> None:
    door = open_door(Settings(amqp_url=amqp.url))
    async with door.consume(QUEUE) as deliveries:
        publish(amqp, b"first")
        (first,) = await take(deliveries, 1)
        await first.ack()
        publish(amqp, b"1", b"2", b"3")
        held = await take(deliveries, 3)
        await held[0].retry(0.3)
        await held[1].ack()
        await held[2].ack()
        (again,) = await take(deliveries, 1)
        assert (again.event_body, again.attempt) == (b"1", 2)
        await again.ack()
