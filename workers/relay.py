"""The relay: takes events out of the outbox and gives them to RabbitMQ, or to PostgreSQL's queues.

One relay works, the others stand by: whoever has the lease. To publish it also needs the broker's
word that no other relay's connection lives (`ni.amqp.FENCE`), so one that was stopped and wakes
has no connection to publish on. What fails is begun anew from the outbox: what was not confirmed
is published again, and consumers know it by its id.
"""

from __future__ import annotations

import asyncio
import random
from typing import TYPE_CHECKING, Final

import asyncpg
import structlog

from ni import clock
from ni.amqp import FENCE, LOCKED, Broker, ChannelClosed, ChannelDoor
from ni.database import LOST_CONNECTION, close_pool, open_pool
from ni.embedded_queues import EmbeddedSink
from ni.errors import NiError, Unavailable
from ni.event_publisher import Publisher
from ni.outbox import Outbox
from ni.relay_lease import Lease
from ni.sql import query
from workers.pauses import first_ended, pause

if TYPE_CHECKING:
    from ni.settings import Settings

BACKOFF_FIRST_S: Final = 0.1
FENCE_PAUSE_S: Final = 0.25
TURN_S: Final = 1.0
ROUND_FIRST_S: Final = 1.0
LOOK_S: Final = 0.01
LAST_CONFIRMS_LOOKS: Final = 200
READ_AHEAD: Final = 10
"""Pages that may be read and not published yet."""
CONNECTIONS: Final = 3

log = structlog.get_logger()


class Backoff:
    """Pauses that double, with jitter, until something passes."""

    def __init__(self, first_s: float, longest_s: float) -> None:
        self._first_s, self._longest_s = first_s, longest_s
        self._next_s = first_s

    def next(self) -> float:
        """Seconds to pause now."""
        seconds = self._next_s * random.uniform(0.5, 1)
        self._next_s = min(self._next_s * 2, self._longest_s)
        return seconds

    def reset(self) -> None:
        """Something has passed."""
        self._next_s = self._first_s


async def run(settings: Settings, stop: asyncio.Event) -> None:
    """Work until `stop` is set; what fails is tried again with longer and longer pauses."""
    backoff = Backoff(BACKOFF_FIRST_S, settings.relay_backoff_max_s)
    while not stop.is_set():
        lease = Lease(settings)
        try:
            if await _stand_by(lease, stop):
                await _work(settings, stop, lease, backoff)
        except (*LOST_CONNECTION, asyncpg.PostgresError, NiError) as error:
            log.warning("relay_waits", error=f"{type(error).__name__}: {error}")
            await lease.give_back()
            await pause(stop, backoff.next())
        finally:
            await lease.give_back()


async def _stand_by(lease: Lease, stop: asyncio.Event) -> bool:
    """Wait for the lease; False when it is time to stop."""
    told = False
    while not stop.is_set():
        if await lease.take():
            return True
        if not told:
            log.info("relay_stands_by")
            told = True
        await pause(stop, lease.interval_s)
    return False


async def _work(settings: Settings, stop: asyncio.Event, lease: Lease, backoff: Backoff) -> None:
    pool = await open_pool(settings, "day", CONNECTIONS)
    try:
        buckets = await pool.fetchval(query("installation_read"))
        outbox = Outbox(pool, settings, buckets)
        if settings.amqp_url:
            relay: Relay | EmbeddedRelay = Relay(settings, stop, lease, outbox, backoff)
        else:
            relay = EmbeddedRelay(settings, stop, outbox, EmbeddedSink(pool, settings))
        log.info("relay_works", broker=bool(settings.amqp_url))
        await first_ended(relay.work(), _keep(lease), _turn(outbox))
    finally:
        await close_pool(pool)


async def _keep(lease: Lease) -> None:
    """Keep the lease up. Ends only by failing: the work ends when it is time to stop."""
    while True:
        await lease.keep()
        await asyncio.sleep(lease.interval_s)


async def _turn(outbox: Outbox) -> None:
    while True:
        await asyncio.sleep(TURN_S)
        if emptied := await outbox.turn():
            log.debug("relay_laps_emptied", laps=emptied)


class Rounds:
    """When the outbox is read from its start, and what is said about events that are stuck."""

    def __init__(self, settings: Settings, outbox: Outbox) -> None:
        self._outbox = outbox
        self._scan_s = float(settings.relay_scan_s)
        self._backoff = Backoff(ROUND_FIRST_S, self._scan_s)
        self._again_s = self._backoff.next()
        self._told = 0
        self._alarmed = False

    def is_due(self, came_back: int) -> bool:
        """Whether it is time to read from the start; `came_back`: events so far."""
        interval_s = self._again_s if came_back > self._told else self._scan_s
        return clock.monotonic() - self._outbox.started_at > interval_s

    def begin(self, came_back: int, kind: str) -> None:
        """Read from the start. What came back in the round that ends is told, one type of it."""
        stuck, self._told = came_back - self._told, came_back
        if stuck:
            log.error("relay_unroutable", events=stuck, type=kind,
                      hint="bind a queue to ni.events that takes this type")  # fmt: skip
        elif self._alarmed:
            log.info("relay_routable_again")
        if not stuck:
            self._backoff.reset()
        self._again_s = self._backoff.next()
        self._alarmed = bool(stuck)
        self._outbox.start_over()


class Relay:
    """The outbox to RabbitMQ, for as long as the lease is kept."""

    def __init__(
        self, settings: Settings, stop: asyncio.Event, lease: Lease, outbox: Outbox,
        backoff: Backoff,
    ) -> None:  # fmt: skip
        self._settings = settings
        self._stop = stop
        self._lease = lease
        self._outbox = outbox
        self._backoff = backoff
        self._rounds = Rounds(settings, outbox)

    async def work(self) -> None:
        """Publish until it is time to stop. Raises what the database or the broker raises."""
        broker = await Broker.open(self._settings, "ni relay")
        try:
            door = await broker.channel()
            await door.declare_exchanges()
            await self._take_fence(broker)
            publisher = Publisher(
                broker, door, self._outbox, self._settings, lambda: self._lease.is_valid
            )
            await publisher.start()
            log.info("relay_publishes")
            try:
                await first_ended(
                    self._read(publisher), self._watch(broker, door, publisher),
                    self._remove(publisher),
                )  # fmt: skip
            finally:
                await self._remove_rest(publisher)
        except BaseException:
            broker.abort()
            raise
        finally:
            await broker.close()

    async def _take_fence(self, broker: Broker) -> None:
        """Wait until the broker knows of no other relay that could publish."""
        told = False
        while True:
            door = await broker.channel()
            try:
                await door.answer(door.channel.queue_declare, queue=FENCE, exclusive=True)
            except ChannelClosed as error:
                if error.code != LOCKED:
                    raise
            else:
                return
            if not told:
                log.info("relay_waits_for_the_other_connection")
                told = True
            await asyncio.sleep(FENCE_PAUSE_S)

    async def _read(self, publisher: Publisher) -> None:
        page, pause_s = self._settings.relay_page, self._settings.relay_poll_ms / 1000
        while not self._stop.is_set():
            if self._rounds.is_due(publisher.came_back):
                self._rounds.begin(publisher.came_back, publisher.last_type_back)
                publisher.start_over()
            rows = []
            if publisher.waiting < page * READ_AHEAD and not publisher.is_hopeless:
                rows = await self._outbox.page(page)
                publisher.add(rows)
            if len(rows) < page or publisher.waiting >= page * READ_AHEAD:
                await asyncio.sleep(pause_s)
        await self._last_confirms(publisher)

    async def _last_confirms(self, publisher: Publisher) -> None:
        """Before an orderly end: what is in flight should not have to go twice."""
        for _ in range(LAST_CONFIRMS_LOOKS):
            if not publisher.in_flight:
                return
            await asyncio.sleep(LOOK_S)

    async def _watch(self, broker: Broker, door: ChannelDoor, publisher: Publisher) -> None:
        """Ends by raising when the broker is lost or silent."""
        blocked = False
        while True:
            done, _ = await asyncio.wait(
                (broker.lost, door.closed), timeout=self._lease.interval_s / 2,
                return_when=asyncio.FIRST_COMPLETED,
            )  # fmt: skip
            for ended in done:
                raise ended.result()
            if blocked is not broker.blocked:
                blocked = broker.blocked
                if blocked:
                    log.error("relay_blocked", hint="RabbitMQ is short of memory or disk")
                else:
                    log.info("relay_unblocked")
            if publisher.is_late:
                raise Unavailable("RabbitMQ confirms nothing")
            publisher.pump_again()

    async def _remove(self, publisher: Publisher) -> None:
        while True:
            await publisher.changed.wait()
            publisher.changed.clear()
            rows, publisher.delivered = publisher.delivered, []
            if rows:
                self._backoff.reset()
                try:
                    await self._outbox.remove(rows)
                except BaseException:
                    publisher.delivered = rows + publisher.delivered
                    raise

    async def _remove_rest(self, publisher: Publisher) -> None:
        """What was confirmed is taken out, also when all else has failed."""
        rows, publisher.delivered = publisher.delivered, []
        try:
            await self._outbox.remove(rows)
        except (*LOST_CONNECTION, asyncpg.PostgresError) as error:
            log.warning("relay_events_come_twice", events=len(rows), error=type(error).__name__)


class EmbeddedRelay:
    """The outbox to the queues in PostgreSQL."""

    def __init__(
        self, settings: Settings, stop: asyncio.Event, outbox: Outbox, sink: EmbeddedSink
    ) -> None:
        self._settings = settings
        self._stop = stop
        self._outbox = outbox
        self._sink = sink
        self._rounds = Rounds(settings, outbox)

    async def work(self) -> None:
        """Deliver until it is time to stop. Raises what the database raises."""
        page = self._settings.relay_page
        while not self._stop.is_set():
            if self._rounds.is_due(self._sink.came_back):
                self._rounds.begin(self._sink.came_back, self._sink.last_type_back)
                await self._sink.sweep()
            rows = await self._outbox.page(page)
            await self._sink.deliver(self._outbox, rows)
            if len(rows) < page:
                await asyncio.sleep(self._settings.relay_poll_ms / 1000)
