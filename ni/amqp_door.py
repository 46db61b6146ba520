"""The door to RabbitMQ: consumers get events from quorum queues.

A lasting queue takes every type, and the door itself lets through what its consumer asked for. So
no type is without a queue because nobody wants it, and no binding of an older version stays behind.

A follower's queue goes away with what is in it, and the broker takes it for a queue like any other:
an event that went there alone would be lost to everybody else. So a follower sees to it that the
notifier's queue is there and bound. A binding that is deleted is not told to the consumer, a queue
that is deleted not always; so each consumer looks after both every REBIND_S.
"""

from __future__ import annotations

import asyncio
import functools
import re
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from itertools import takewhile
from typing import TYPE_CHECKING, Any, Final

import structlog
from pika.exceptions import AMQPError

from ni.amqp import NOT_FOUND, Broker, ChannelClosed, ChannelDoor
from ni.deliveries import ALL_TYPES, MAIN_QUEUE
from ni.embedded_queues import pattern_of
from ni.errors import NiError, Unavailable

if TYPE_CHECKING:
    from pika import BasicProperties
    from pika.channel import Channel
    from pika.spec import Basic

    from ni.deliveries import Delivery
    from ni.settings import Settings

REBIND_S: Final = 5.0
"""A binding that was deleted is made again after so long at most."""
LOOK_AGAIN_S: Final = 0.2

log = structlog.get_logger()


class _InHand:
    """The deliveries of a channel that are not ended. Those that are done in one turn of the loop
    are ended with one word, as far as nothing before them is still in hand: to a quorum queue each
    word is an entry in its log.
    """

    def __init__(self, channel: Channel) -> None:
        self._channel = channel
        self._done: dict[int, bool] = {}
        """By tag, in the order of these."""
        self._scheduled = False

    def take(self, tag: int) -> None:
        """It has arrived."""
        self._done[tag] = False

    def done(self, tag: int) -> None:
        """End it soon. Raises Unavailable."""
        if not self._channel.is_open:
            raise Unavailable("RabbitMQ's connection has ended")
        self._done[tag] = True
        if not self._scheduled:
            self._scheduled = True
            asyncio.get_running_loop().call_soon(self.flush)

    def give_back(self, tag: int, *, requeue: bool) -> None:
        """End it another way. Raises AMQPError."""
        self._done.pop(tag, None)
        self._channel.basic_reject(tag, requeue=requeue)

    def flush(self) -> None:
        """End now what is done. What a connection cannot take any more comes again."""
        self._scheduled = False
        first = list(takewhile(self._done.__getitem__, self._done))
        rest = [tag for tag, done in self._done.items() if done][len(first) :]
        for tag in (*first, *rest):
            del self._done[tag]
        with suppress(AMQPError):
            if first:
                self._channel.basic_ack(first[-1], multiple=True)
            for tag in rest:
                self._channel.basic_ack(tag)


class AmqpDelivery:
    """One message of a queue."""

    def __init__(
        self, in_hand: _InHand, method: Basic.Deliver, properties: BasicProperties, body: bytes
    ) -> None:
        self._in_hand = in_hand
        self._tag = method.delivery_tag
        self._queue = method.consumer_tag
        self.event_body: Final = body
        headers: dict[str, Any] = properties.headers or {}
        self.attempt: Final = int(headers.get("x-delivery-count", 0)) + 1
        self.before_end: Callable[[], None] | None = None
        """What the door says to the broker just before the delivery is done or put aside."""

    async def ack(self) -> None:
        """It is done. Raises Unavailable."""
        self.done()

    def done(self) -> None:
        """The same."""
        self._say(self._in_hand.done)

    async def retry(self, after_s: float) -> None:
        """Again, after `after_s` seconds; until then it counts as in the consumer's hands."""
        asyncio.get_running_loop().call_later(after_s, self._give_back)

    async def dead_letter(self, reason: str) -> None:
        """Into the queue ni.dead. Raises Unavailable."""
        log.warning("event_put_aside", queue=self._queue, attempt=self.attempt, reason=reason)
        self._say(self._in_hand.give_back, requeue=False)

    def _say(self, method: Callable[..., None], **how: Any) -> None:
        try:
            if self.before_end is not None:
                self.before_end()
            method(self._tag, **how)
        except AMQPError as error:
            raise Unavailable("RabbitMQ's connection has ended") from error

    def _give_back(self) -> None:
        with suppress(AMQPError):  # the broker has it back already
            self._in_hand.give_back(self._tag, requeue=True)


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
                await self._bind_lasting(broker, MAIN_QUEUE)
                await door.answer(door.channel.queue_declare, queue=queue, exclusive=True)
                await door.bind(queue, types)
            else:
                await door.declare_queue(queue, ALL_TYPES, self._settings.event_attempts_max)
            arrived: asyncio.Queue[Delivery | None] = asyncio.Queue()
            for ended in (broker.lost, door.closed):
                ended.add_done_callback(lambda _: arrived.put_nowait(None))
            limit = min(prefetch, self._settings.event_prefetch_max)
            window = _Window(door, queue, limit, re.compile(pattern_of(types)), arrived)
            await window.begin(alone=not temporary)
            ours = None if temporary else arrived
            binding = asyncio.create_task(
                self._bind_on(broker, MAIN_QUEUE if temporary else queue, ours)
            )
            try:
                yield _deliveries(arrived)
            finally:
                binding.cancel()
                await asyncio.wait([binding])
        finally:
            await broker.close()

    async def _bind_on(
        self, broker: Broker, queue: str, ours: asyncio.Queue[Delivery | None] | None
    ) -> None:
        """Bind a lasting queue again and again, for as long as the connection lasts.

        Where the queue is `ours`, also see whether it has a consumer. A broker that loses a queue
        does not always tell, and we would wait for what another queue of that name gets.
        """
        while not broker.lost.done():
            await asyncio.sleep(REBIND_S)
            try:
                await self._bind_lasting(broker, queue)
                if ours is not None and not await _has_consumer(broker, queue):
                    log.warning("event_consumer_lost", queue=queue)
                    ours.put_nowait(None)
                    return
            except NiError as error:
                log.warning("event_queue_not_bound", queue=queue, error=str(error))

    async def _bind_lasting(self, broker: Broker, queue: str) -> None:
        """Bind a lasting queue to every type; make it when it is missing.

        It has a channel of its own: a refusal ends the channel, and on the consumer's a call that
        waits would put the opening of the window after the delivery that it must come before.
        """
        door = await broker.channel()
        try:
            await door.bind(queue, ALL_TYPES)
        except ChannelClosed as error:
            if error.code != NOT_FOUND:
                raise
            await self._make_lasting(broker, queue)
        finally:
            door.close()

    async def _make_lasting(self, broker: Broker, queue: str) -> None:
        door = await broker.channel()
        try:
            await door.declare_exchanges()
            await door.declare_queue(queue, ALL_TYPES, self._settings.event_attempts_max)
        finally:
            door.close()
        log.warning("event_queue_made", queue=queue,
                    hint="it keeps every event until its consumer takes it")  # fmt: skip


async def _has_consumer(broker: Broker, queue: str) -> bool:
    """Whether the broker knows of one, also a moment later: one may take another's place."""
    for pause_s in (LOOK_AGAIN_S, 0):
        door = await broker.channel()
        try:
            found = await door.answer(door.channel.queue_declare, queue=queue, passive=True)
        finally:
            door.close()
        if found.method.consumer_count:
            return True
        await asyncio.sleep(pause_s)
    return False


async def _deliveries(arrived: asyncio.Queue[Delivery | None]) -> AsyncIterator[Delivery]:
    while True:
        delivery = await arrived.get()
        if delivery is None:  # also when the queue was deleted under its consumer
            raise Unavailable("RabbitMQ's connection or the queue has gone")
        yield delivery


class _Window:
    """Lets deliveries arrive, as many at one time as is safe.

    When a consumer dies, everything that it had in hand counts as tried once more. So what was
    tried before comes alone: an event that kills its consumer again and again reaches the limit by
    itself, and not with all those behind it. When the first fresh one is done, the window opens.
    """

    def __init__(
        self, door: ChannelDoor, queue: str, limit: int, wanted: re.Pattern[str],
        arrived: asyncio.Queue[Delivery | None],
    ) -> None:  # fmt: skip
        self._door, self._queue, self._limit = door, queue, limit
        self._wanted, self._arrived = wanted, arrived
        self.in_hand: Final = _InHand(door.channel)
        self._is_open = False
        self._tag = f"{queue}.{id(door):x}"

    async def begin(self, *, alone: bool) -> None:
        """Raises as `ChannelDoor.answer` does."""
        self._is_open = not alone
        channel = self._door.channel
        channel.add_on_cancel_callback(lambda _: self._arrived.put_nowait(None))
        limit = 1 if alone else self._limit
        await self._door.answer(channel.basic_qos, prefetch_count=limit)
        await self._door.answer(
            channel.basic_consume, queue=self._queue, consumer_tag=self._tag,
            on_message_callback=self._take,
        )  # fmt: skip

    def _take(self, channel: Channel, method: Basic.Deliver, *rest: Any) -> None:
        delivery = AmqpDelivery(self.in_hand, method, *rest)
        self.in_hand.take(method.delivery_tag)
        is_wanted = self._wanted.search(method.routing_key) is not None
        if not self._is_open and delivery.attempt == 1:
            delivery.before_end = functools.partial(self._open, channel)
        if is_wanted:
            self._arrived.put_nowait(delivery)
        else:
            delivery.done()

    def _open(self, channel: Channel) -> None:
        """Another consumer takes the place of this one, for a queue keeps its prefetch.

        That is said just before the one delivery in hand is ended, when it was decided on: should
        another process be the next in turn, it gets what comes after it. Earlier, or before a
        delivery that goes back, would not do: a queue of RabbitMQ 3.10 then lets nobody follow.
        """
        if self._is_open:
            return
        self._is_open = True
        channel.basic_cancel(self._tag)
        channel.basic_qos(prefetch_count=self._limit)
        channel.basic_consume(self._queue, self._take, consumer_tag=f"{self._tag}.open")
