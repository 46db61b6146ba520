"""RabbitMQ and the workers that stand between it and NI, for the measures of events."""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import asyncpg
import pika
from pika.adapters.blocking_connection import BlockingChannel

from bench.measures import Bench
from bench.processes import BenchError, tail
from bench.queries import query
from bench.world import World
from tests.support.rabbitmq import RabbitMQ

EXCHANGE = "ni.events"
QUEUE = "bench"
VHOST = "bench"
EMPTY_LIMIT_S = 60.0
STEP_S = 0.05
DEPTH_STEP_S = 0.02
QUEUE_KEPT_S = 1.5
"""RabbitMQ writes down which queues there are half a second after a change."""


class EventServers:
    """One broker of the run's own, and NI's two workers that use it."""

    def __init__(self, world: World, server: RabbitMQ) -> None:
        """Belong to a world and a server that runs."""
        self._world = world
        self.server = server
        self.url = server.url(VHOST)

    @asynccontextmanager
    async def relay(self) -> AsyncIterator[None]:
        """Run the relay, with default settings."""
        async with self._world.worker("relay", {"NI_AMQP_URL": self.url}):
            yield

    @asynccontextmanager
    async def notifier(self) -> AsyncIterator[None]:
        """Run the SMS notifier without a gateway, so that it keeps its texts in its table."""
        async with self._world.worker("sms", {"NI_AMQP_URL": self.url}):
            yield

    @asynccontextmanager
    async def queue(self) -> AsyncIterator[BlockingChannel]:
        """A quorum queue that gets every event, as long as the block runs; and a channel to it."""
        parameters = pika.URLParameters(self.url)
        parameters.heartbeat = 0  # nobody reads from it while something else is measured
        connection = pika.BlockingConnection(parameters)
        try:
            channel = connection.channel()
            channel.exchange_declare(EXCHANGE, "topic", durable=True)
            channel.queue_declare(QUEUE, durable=True, arguments={"x-queue-type": "quorum"})
            channel.queue_bind(QUEUE, EXCHANGE, "#")
            yield channel
            channel.queue_delete(QUEUE)
        finally:
            connection.close()


@asynccontextmanager
async def event_servers(bench: Bench) -> AsyncIterator[EventServers]:
    """Start a broker below the run's home; it is gone afterwards. The outbox is empty at first."""
    await clear_outbox(bench)
    server = RabbitMQ(bench.world.home)
    try:
        # Not in a thread: a signal has to wait until what it must stop has been started.
        server.start()
        server.admin.make_vhost(VHOST)
        yield EventServers(bench.world, server)
        server.admin.drop_vhost(VHOST)
    finally:
        server.end()


async def clear_outbox(bench: Bench) -> None:
    """Take away the events of other measures, which nobody has delivered."""
    connection: asyncpg.Connection = await asyncpg.connect(bench.world.owner_dsn)
    try:
        await connection.execute(query("outbox_clear"))
    finally:
        await connection.close()


async def waiting(bench: Bench) -> int:
    """Return how many events wait in the outbox."""
    connection: asyncpg.Connection = await asyncpg.connect(bench.world.owner_dsn)
    try:
        count: int = await connection.fetchval(query("outbox_count"))
    finally:
        await connection.close()
    return count


async def until_empty(bench: Bench) -> None:
    """Wait until the relay has delivered everything. Raises BenchError if that takes too long."""
    deadline = time.monotonic() + EMPTY_LIMIT_S
    while left := await waiting(bench):
        if time.monotonic() > deadline:
            log = tail(bench.world.home / "bench-relay.log")
            raise BenchError(
                f"{left} events wait in the outbox after {EMPTY_LIMIT_S:.0f} s:\n{log}"
            )
        await asyncio.sleep(STEP_S)


def rate_of_arrival(url: str, events: int, limit_s: float) -> float:
    """Return the events a second at which the queue fills, from the first seen to the last.

    Raises BenchError if they are not exactly as many as expected within `limit_s`.
    """
    connection = pika.BlockingConnection(pika.URLParameters(url))
    try:
        channel = connection.channel()
        now = first_at = time.perf_counter()
        deadline, first, depth = now + limit_s, 0, 0
        while depth < events:
            depth = channel.queue_declare(QUEUE, passive=True).method.message_count
            now = time.perf_counter()
            if depth and not first:
                first_at, first = now, depth
            if now > deadline:
                raise BenchError(f"{depth} of {events} events arrived in {limit_s:.0f} s")
            connection.sleep(DEPTH_STEP_S)
        connection.sleep(5 * DEPTH_STEP_S)
        depth = channel.queue_declare(QUEUE, passive=True).method.message_count
    finally:
        connection.close()
    if depth != events or events <= first:
        raise BenchError(f"{depth} events arrived instead of {events}, {first} at the first look")
    return (events - first) / (now - first_at)
