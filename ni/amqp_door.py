"""The door to RabbitMQ: consumers get events from quorum queues.

A lasting queue takes every type, and the door itself lets through what its consumer asked for. So
no type is without a queue because nobody wants it, and no binding of an older version stays behind.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any, Final

import structlog
from pika.exceptions import AMQPError

from ni.amqp import EXCHANGE, Broker, ChannelDoor
from ni.deliveries import ALL_TYPES
from ni.embedded_queues import pattern_of
from ni.errors import Unavailable

if TYPE_CHECKING:
    from pika import BasicProperties
    from pika.channel import Channel
    from pika.spec import Basic

    from ni.deliveries import Delivery
    from ni.settings import Settings

log = structlog.get_logger()


class AmqpDelivery:
    """One message of a queue."""

    def __init__(
        self, channel: Channel, method: Basic.Deliver, properties: BasicProperties, body: bytes
    ) -> None:
        self._channel = channel
        self._tag = method.delivery_tag
        self._queue = method.consumer_tag
        self.event_body: Final = body
        headers: dict[str, Any] = properties.headers or {}
        self.attempt: Final = int(headers.get("x-delivery-count", 0)) + 1

    async def ack(self) -> None:
        """It is done. Raises Unavailable."""
        self._say(self._channel.basic_ack)

    async def retry(self, after_s: float) -> None:
        """Again, after `after_s` seconds; until then it counts as in the consumer's hands."""
        asyncio.get_running_loop().call_later(after_s, self._give_back)

    async def dead_letter(self, reason: str) -> None:
        """Into the queue ni.dead. Raises Unavailable."""
        log.warning("event_put_aside", queue=self._queue, attempt=self.attempt, reason=reason)
        self._say(self._channel.basic_reject, requeue=False)

    def _say(self, method: Callable[..., None], **how: Any) -> None:
        try:
            method(self._tag, **how)
        except AMQPError as error:
            raise Unavailable("RabbitMQ's connection has ended") from error

    def _give_back(self) -> None:
        if self._channel.is_open:  # else the broker has it back already
            self._channel.basic_reject(self._tag, requeue=True)


class AmqpDoor:
    """Events from RabbitMQ."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings

    @asynccontextmanager
    async def consume(
        self,
        queue: str,
        types: Sequence[str] = ALL_TYPES,
        prefetch: int = 100,
        *,
        temporary: bool = False,
    ) -> AsyncIterator[AsyncIterator[Delivery]]:
        """See `ni.deliveries.Door`. Raises Unavailable."""
        broker = await Broker.open(self._settings, f"ni consumer {queue}")
        try:
            door = await broker.channel()
            await door.declare_exchanges()
            if temporary:
                await self._declare_temporary(door, queue, types)
            else:
                attempts_max = self._settings.event_attempts_max
                await door.declare_queue(queue, ALL_TYPES, attempts_max)
            arrived: asyncio.Queue[Delivery | None] = asyncio.Queue()
            for ended in (broker.lost, door.closed):
                ended.add_done_callback(lambda _: arrived.put_nowait(None))
            limit = min(prefetch, self._settings.event_prefetch_max)
            await door.answer(door.channel.basic_qos, prefetch_count=limit)
            await _begin(door, queue, re.compile(pattern_of(types)), arrived)
            yield _deliveries(arrived)
        finally:
            await broker.close()

    async def _declare_temporary(self, door: ChannelDoor, queue: str, types: Sequence[str]) -> None:
        """A queue of this connection alone, which goes away with it."""
        await door.answer(door.channel.queue_declare, queue=queue, exclusive=True)
        for pattern in types:
            await door.answer(
                door.channel.queue_bind, queue=queue, exchange=EXCHANGE, routing_key=pattern
            )


async def _deliveries(arrived: asyncio.Queue[Delivery | None]) -> AsyncIterator[Delivery]:
    while True:
        delivery = await arrived.get()
        if delivery is None:  # also when the queue was deleted under its consumer
            raise Unavailable("RabbitMQ's connection or the queue has gone")
        yield delivery


async def _begin(
    door: ChannelDoor, queue: str, wanted: re.Pattern[str], arrived: asyncio.Queue[Delivery | None]
) -> None:
    """Let deliveries arrive; of types that are not wanted none does."""

    def take(channel: Channel, method: Basic.Deliver, *rest: Any) -> None:
        if wanted.search(method.routing_key):
            arrived.put_nowait(AmqpDelivery(channel, method, *rest))
        else:
            channel.basic_ack(method.delivery_tag)

    door.channel.add_on_cancel_callback(lambda _: arrived.put_nowait(None))
    await door.answer(
        door.channel.basic_consume,
        queue=queue,
        consumer_tag=f"{queue}.{id(door):x}",
        on_message_callback=take,
    )
