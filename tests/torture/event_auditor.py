"""An auditor of the events' queue, which shares no code with NI: pika, a thread and a memory."""

from __future__ import annotations

import asyncio
import json
import logging
import threading
import time
from collections import defaultdict
from typing import Any, Final

import pika
import pika.exceptions
from pika.adapters.blocking_connection import BlockingChannel

from ni.errors import Unavailable
from ni.event_door import open_door
from ni.settings import Settings

EXCHANGE: Final = "ni.events"
QUEUE: Final = "audit"
PREFETCH: Final = 200
AWAY_SECONDS: Final = 0.2
LEASE_S: Final = 3

for _name in ("pika", "asyncpg"):
    logging.getLogger(_name).setLevel(logging.CRITICAL)


class Auditor:
    """Takes everything out of a queue of its own, also across the broker's deaths.

    `first` has the body of each event's first delivery, in the order in which they came.
    """

    def __init__(self, url: str) -> None:
        self._url = url
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="auditor", daemon=True)
        self.declares = threading.Event()
        """Set while it may make its queue and binding; unset, it only takes what is there."""
        self.declares.set()
        self.bound = threading.Event()
        self.first: dict[str, bytes] = {}
        self.newest = ""
        """The greatest id that has come: ids begin with the instant of what they tell."""
        self.copies = 0
        self.faults: list[str] = []
        self._sequences: defaultdict[str, int] = defaultdict(int)

    def start(self) -> None:
        """Begin; `bound` is set when the queue is there."""
        self._thread.start()

    def stop(self) -> None:
        """End; what is in the queue stays there."""
        self._stop.set()
        self._thread.join(30)
        assert not self._thread.is_alive(), "the auditor does not end"

    def _run(self) -> None:
        while not self._stop.is_set():
            try:
                self._listen()
            except (pika.exceptions.AMQPError, OSError):
                self.bound.clear()
                time.sleep(AWAY_SECONDS)  # the broker is away, or the queue is

    def _listen(self) -> None:
        parameters = pika.URLParameters(self._url)
        parameters.heartbeat = 5
        parameters.socket_timeout = parameters.stack_timeout = 3
        connection = pika.BlockingConnection(parameters)
        try:
            channel = connection.channel()
            if self.declares.is_set():
                self._declare(channel)
            channel.basic_qos(prefetch_count=PREFETCH)
            self._consume(channel)
        finally:
            if connection.is_open:
                connection.close()

    def _declare(self, channel: BlockingChannel) -> None:
        channel.exchange_declare(EXCHANGE, "topic", durable=True)
        channel.queue_declare(QUEUE, durable=True, arguments={"x-queue-type": "quorum"})
        channel.queue_bind(QUEUE, EXCHANGE, "#")
        self.bound.set()

    def _consume(self, channel: BlockingChannel) -> None:
        """Until the connection, the queue or the auditor ends."""
        pending = 0
        for method, _properties, body in channel.consume(QUEUE, inactivity_timeout=0.1):
            if method is not None and body is not None:
                self._note(method.routing_key, body)
                pending += 1
                tag = method.delivery_tag
                if pending < PREFETCH // 2:
                    continue
                channel.basic_ack(tag, multiple=True)
                pending = 0
            elif pending:
                channel.basic_ack(0, multiple=True)  # 0: all of them
                pending = 0
            if self._stop.is_set():
                return
            if method is None and self.declares.is_set() and not self.bound.is_set():
                self._declare(channel)
        raise pika.exceptions.ConsumerCancelled  # the queue was deleted

    @staticmethod
    def key_of(body: bytes) -> str:
        """The routing key under which an event travels: its type."""
        kind = json.loads(body)["type"]
        assert isinstance(kind, str)
        return kind

    def _note(self, key: str, body: bytes) -> None:
        document: dict[str, Any] = json.loads(body)
        identifier = document["id"]
        if document["type"] != key:
            self.faults.append(f"{identifier}: of type {document['type']}, sent as {key}")
        known = self.first.get(identifier)
        if known is not None:
            self.copies += 1
            if known != body:
                self.faults.append(f"{identifier}: came again as {body!r}, first as {known!r}")
            return
        self.first[identifier] = body
        self.newest = max(self.newest, identifier)
        account, sequence = document["data"]["account"], document["data"]["sequence"]
        if sequence is None:
            return
        if sequence != self._sequences[account] + 1:
            self.faults.append(f"{account}: {sequence} came after {self._sequences[account]}")
        self._sequences[account] = sequence


class EmbeddedAuditor(Auditor):
    """The same at the door in PostgreSQL, through NI's own code: there is no other to it."""

    def __init__(self, dsn: str) -> None:
        super().__init__("")
        self._settings = Settings(database_url=dsn, amqp_url="", event_lease_s=LEASE_S)

    def _run(self) -> None:
        asyncio.run(self._follow())

    async def _follow(self) -> None:
        while not self._stop.is_set():
            taking = asyncio.create_task(self._take())
            while not self._stop.is_set() and not taking.done():
                await asyncio.sleep(AWAY_SECONDS)
            taking.cancel()
            try:
                await taking
            except (asyncio.CancelledError, Unavailable):
                await asyncio.sleep(AWAY_SECONDS)  # told to end, or the server is away

    async def _take(self) -> None:
        async with open_door(self._settings).consume(QUEUE, prefetch=PREFETCH) as deliveries:
            self.bound.set()
            async for delivery in deliveries:
                body = delivery.event_body
                self._note(self.key_of(body), body)
                await delivery.ack()
