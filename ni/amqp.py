"""RabbitMQ: one connection with time limits around everything, and what NI declares there.

    ni.events   topic exchange, durable; the routing key is the event's type
    ni.dead     topic exchange and quorum queue: what consumers put aside, key = its queue
    ni.relay    exclusive queue of the relay that publishes: the broker itself tells whether that
                relay's connection lives, and as long as it does, no other one publishes

pika's asyncio adapter runs in the event loop of whoever uses it; nothing here blocks and there are
no threads.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final
from urllib.parse import urlsplit

from pika import URLParameters
from pika.adapters.asyncio_connection import AsyncioConnection
from pika.channel import Channel
from pika.connection import Connection
from pika.exceptions import AMQPError, ChannelClosedByBroker

from ni.errors import NiError, Unavailable
from ni.settings import Settings

EXCHANGE: Final = "ni.events"
DEAD: Final = "ni.dead"
FENCE: Final = "ni.relay"
NOT_FOUND: Final = 404
LOCKED: Final = 405
PRECONDITION_FAILED: Final = 406
QUORUM: Final[Mapping[str, Any]] = {"x-queue-type": "quorum"}
UNLIMITED: Final = 1_000_000_000
"""Deliveries of what was put aside. RabbitMQ 4 drops a message after 20 unless it is told
otherwise; -1 would mean none at all before it, and a queue outlives a change of versions."""

logging.getLogger("pika").setLevel(logging.CRITICAL)  # what fails is told by our own logs


class ChannelClosed(Unavailable):
    """The broker closed a channel; `code` is its reason."""

    def __init__(self, code: int, text: str) -> None:
        super().__init__(f"RabbitMQ closed the channel: {code} {text}")
        self.code = code


class TogetherConnection(AsyncioConnection):
    """Gives the system what is said in one turn of the loop as one piece.

    pika makes three of an event, and each is a call of the system here and a reading over there.
    """

    def __init__(self, *arguments: Any, **named: Any) -> None:
        self._said: list[bytes] = []
        super().__init__(*arguments, **named)

    def _adapter_emit_data(self, data: bytes) -> None:
        if not self._said:
            asyncio.get_running_loop().call_soon(self._emit)
        self._said.append(data)

    def _emit(self) -> None:
        said, self._said = b"".join(self._said), []
        if self._transport is not None:  # else the connection has ended meanwhile
            super()._adapter_emit_data(said)


class Broker:
    """One open connection. `lost` is done when it has ended, with why."""

    def __init__(self, settings: Settings) -> None:
        self._timeout_s = settings.amqp_timeout_ms / 1000
        self._connection: Connection | None = None
        self._given_up = False
        self.lost: Final[asyncio.Future[Exception]] = asyncio.get_running_loop().create_future()
        self.blocked = False
        """Whether the broker takes nothing now: it is short of memory or of disk."""

    @classmethod
    async def open(cls, settings: Settings, name: str) -> Broker:
        """Connect; the broker shows `name`. Raises Unavailable, NiError for a wrong address."""
        broker = cls(settings)
        opened = asyncio.get_running_loop().create_future()

        def settle(connection: Connection, error: BaseException | None = None) -> None:
            if error is not None:  # also when nobody waits for `opened` any more
                broker._closed(connection, error)
            if not opened.done():
                opened.set_result(error)

        connection = TogetherConnection(
            _parameters(settings, name),
            on_open_callback=settle,
            on_open_error_callback=settle,
            on_close_callback=broker._closed,
        )
        broker._connection = connection
        connection.add_on_connection_blocked_callback(lambda *_: broker._block(blocked=True))
        connection.add_on_connection_unblocked_callback(lambda *_: broker._block(blocked=False))
        try:
            async with asyncio.timeout(broker._timeout_s):
                error = await opened
        except BaseException as reason:
            broker.abort()  # pika's own close of an opening connection fails in a callback
            await broker.close()
            if isinstance(reason, TimeoutError):
                raise Unavailable("RabbitMQ does not answer") from reason
            raise
        if error is not None:
            raise Unavailable(f"RabbitMQ cannot be reached: {_reason(error)}")
        return broker

    def _block(self, *, blocked: bool) -> None:
        self.blocked = blocked

    def _closed(self, _connection: Connection, error: BaseException) -> None:
        if not self.lost.done():
            self.lost.set_result(Unavailable(f"RabbitMQ's connection ended: {_reason(error)}"))

    async def channel(self) -> ChannelDoor:
        """A new channel. Raises Unavailable."""
        assert self._connection is not None, "the connection was opened"
        door = ChannelDoor(self, self._timeout_s)
        try:
            door.channel = await door.answer(self._connection.channel, "on_open_callback")
        except AMQPError as error:
            raise Unavailable(f"RabbitMQ's connection ended: {_reason(error)}") from error
        door.channel.add_on_close_callback(door.note_close)
        return door

    async def close(self) -> None:
        """End the connection, at once when the broker does not take part."""
        connection = self._connection
        if connection is None or self.lost.done():
            return
        try:
            if not self._given_up:
                connection.close()
            async with asyncio.timeout(self._timeout_s):
                await asyncio.shield(self.lost)
        except (AMQPError, TimeoutError):
            self.abort()

    def abort(self) -> None:
        """End it without a word: the broker may not listen any more."""
        connection = self._connection
        if connection is None or connection.is_closed or self.lost.done() or self._given_up:
            return
        self._given_up = True
        connection._terminate_stream(Unavailable("given up"))


class ChannelDoor:
    """A channel whose calls are awaited. `closed` is done when the broker has closed it."""

    channel: Channel

    def __init__(self, broker: Broker, timeout_s: float) -> None:
        self._broker = broker
        self._timeout_s = timeout_s
        self.closed: Final[asyncio.Future[Exception]] = asyncio.get_running_loop().create_future()

    def note_close(self, _channel: Channel, error: BaseException) -> None:
        """pika tells that the channel has ended."""
        if not self.closed.done():
            if isinstance(error, ChannelClosedByBroker):
                self.closed.set_result(ChannelClosed(error.reply_code, error.reply_text))
            else:
                self.closed.set_result(Unavailable(f"RabbitMQ: {_reason(error)}"))

    async def answer(
        self, method: Callable[..., Any], callback: str = "callback", **arguments: Any
    ) -> Any:
        """Call a method of pika and wait for the broker's answer.

        Raises ChannelClosed when the broker refuses, Unavailable when it is gone or late.
        """
        answered = asyncio.get_running_loop().create_future()

        def settle(frame: object) -> None:
            if not answered.done():
                answered.set_result(frame)

        try:
            method(**arguments, **{callback: settle})
        except AMQPError as error:
            raise Unavailable(f"RabbitMQ: {_reason(error)}") from error
        done, _ = await asyncio.wait(
            (answered, self.closed, self._broker.lost),
            timeout=self._timeout_s,
            return_when=asyncio.FIRST_COMPLETED,
        )
        if answered in done:
            return answered.result()
        for ended in (self.closed, self._broker.lost):
            if ended in done:
                raise ended.result()
        raise Unavailable("RabbitMQ does not answer")

    async def declare_exchanges(self) -> None:
        """Where events go, and what is put aside. Raises as `answer` does."""
        for name in (EXCHANGE, DEAD):
            await self.answer(
                self.channel.exchange_declare, exchange=name, exchange_type="topic", durable=True
            )
        arguments = {**QUORUM, "x-delivery-limit": UNLIMITED}
        await self.answer(self.channel.queue_declare, queue=DEAD, durable=True, arguments=arguments)
        await self.answer(self.channel.queue_bind, queue=DEAD, exchange=DEAD, routing_key="#")

    async def declare_queue(self, queue: str, types: Sequence[str], attempts_max: int) -> None:
        """A consumer's queue, which loses nothing. Raises NiError when it is another one."""
        arguments = {
            **QUORUM,
            "x-delivery-limit": attempts_max,
            "x-single-active-consumer": True,  # else two would share an account's events
            "x-dead-letter-exchange": DEAD,
            "x-dead-letter-routing-key": queue,
            "x-dead-letter-strategy": "at-least-once",
            "x-overflow": "reject-publish",
        }
        try:
            await self.answer(
                self.channel.queue_declare, queue=queue, durable=True, arguments=arguments
            )
        except ChannelClosed as error:
            if error.code != PRECONDITION_FAILED:
                raise
            raise NiError(
                f"RabbitMQ's queue {queue} was made with other arguments ({error}): set "
                "NI_EVENT_ATTEMPTS_MAX as it was, or delete the queue when it is empty"
            ) from error
        await self.bind(queue, types)

    async def bind(self, queue: str, types: Sequence[str]) -> None:
        """Lead these types into a queue. Raises as `answer` does."""
        for pattern in types:
            await self.answer(
                self.channel.queue_bind, queue=queue, exchange=EXCHANGE, routing_key=pattern
            )

    def close(self) -> None:
        """End the channel, without waiting for it."""
        if self.channel.is_open:
            self.channel.close()


def _parameters(settings: Settings, name: str) -> URLParameters:
    try:
        is_amqp = urlsplit(settings.amqp_url).scheme in ("amqp", "amqps")
        parameters = URLParameters(settings.amqp_url) if is_amqp else None
    except (ValueError, TypeError, AttributeError):
        # What the libraries say has parts of the address in it, perhaps of the password.
        raise NiError(
            "NI_AMQP_URL is no address of RabbitMQ such as amqp://user:password@host:5672/vhost:"
            " in its parts / is written %2F, @ %40, : %3A and % %25"
        ) from None
    if parameters is None:
        raise NiError("NI_AMQP_URL begins with amqp:// or amqps://")
    parameters.heartbeat = settings.amqp_heartbeat_s
    # `Broker.open` has the one limit: a second one of pika's own would end at the same moment.
    parameters.socket_timeout = parameters.stack_timeout = None
    parameters.connection_attempts = 1
    parameters.client_properties = {"connection_name": name}
    return parameters


def _reason(error: BaseException) -> str:
    """Why, without the address and its password."""
    return f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
