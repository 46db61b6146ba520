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
from ni.faults import told_fault
from ni.outbox import LAPS, Outbox
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
UNREAD_SCANS: Final = 6
"""So many of its intervals a round may last whose end is never reached."""
DRY_S: Final = 0.1
"""What ran dry is read again after so long at the earliest."""
READINGS: Final = 4
"""A round lasts for so many times as long as reading takes in it, while there is work."""
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
            log.warning("relay_waits", error=told_fault(error))
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
            sink = EmbeddedSink(pool, settings)
            relay = EmbeddedRelay(settings, stop, outbox, sink, backoff)
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
        for lap in LAPS:
            await _turn_one(outbox, lap)


async def _turn_one(outbox: Outbox, lap: int) -> None:
    """What fails here is tried again a second later, and nothing else waits for it."""
    try:
        if await outbox.turn(lap):
            log.debug("relay_lap_emptied", lap=lap)
    except (*LOST_CONNECTION, asyncpg.PostgresError) as error:
        log.warning("relay_lap_not_emptied", lap=lap, error=type(error).__name__)


class Rounds:
    """When the outbox is read from its start, and what is said about events that are stuck."""

    def __init__(self, settings: Settings, outbox: Outbox) -> None:
        self._outbox = outbox
        self._scan_s = float(settings.relay_scan_s)
        self._again = Backoff(ROUND_FIRST_S, self._scan_s)
        self._again_s = self._again.next()
        self._before = 0
        """What had come back when the round began."""
        self._alarms = Backoff(ROUND_FIRST_S, self._scan_s)
        self._alarm_at: float | None = None
        """When the next alarm may be told; None: all is well."""
        self._told = 0

    def is_due(
        self, came_back: int, *, ran_dry: bool = False, is_idle: bool = False,
        is_overfull: bool = False,
    ) -> bool:  # fmt: skip
        """Whether it is time to read from the start; `came_back`: events so far.

        The first of these that is so says when, counted from the round's beginning:

            the end was not reached    after UNREAD_SCANS times NI_RELAY_SCAN_S: else what is left
                                       where it lies would hide what is behind it; but when
                                       reading has stopped (`is_overfull`), as if it had been
            something came back        after a pause that doubles from round to round
            nothing ran dry            after NI_RELAY_SCAN_S
            it did, and all is idle    after DRY_S
            it did, and much goes on   after READINGS times as long as reading took, so that it
                                       takes only a part of the time
        """
        lasted_s = clock.monotonic() - self._outbox.started_at
        if not (self._outbox.is_at_end or is_overfull):
            return lasted_s > self._scan_s * UNREAD_SCANS
        if came_back > self._before:
            return lasted_s > self._again_s
        if not ran_dry:
            return lasted_s > self._scan_s
        dry_s = DRY_S if is_idle else max(DRY_S, READINGS * self._outbox.reading_s)
        return lasted_s > min(dry_s, self._scan_s)

    def begin(self, came_back: int) -> None:
        """A new round. When nothing came back in the one that ends, all is well again."""
        if came_back == self._before:
            self._again.reset()
            if self._alarm_at is not None:
                log.info("relay_routable_again")
                self._alarm_at, self._told = None, came_back
                self._alarms.reset()
        self._before = came_back
        self._again_s = self._again.next()

    def tell(self, came_back: int, kind: str) -> None:
        """Tell what came back and was not told yet, one type of it; soon, and not too often."""
        now = clock.monotonic()
        if came_back == self._told or (self._alarm_at is not None and now < self._alarm_at):
            return
        log.error("relay_unroutable", events=came_back - self._told, type=kind,
                  hint="bind a queue to ni.events that takes this type")  # fmt: skip
        self._told = came_back
        self._alarm_at = now + self._alarms.next()


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
            if not await self._take_fence(broker):
                return
            publisher = Publisher(broker, door, self._outbox, self._settings, self._may_publish)
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

    def _may_publish(self) -> bool:
        """Whether nobody else can have the lease, and it is not yet time to stop."""
        return self._lease.is_valid and not self._stop.is_set()

    async def _take_fence(self, broker: Broker) -> bool:
        """Wait until the broker knows of no other relay that could publish; False: time to stop.

        A connection that is gone is known to be gone after three heartbeats.
        """
        alarm_s = 3 * self._settings.amqp_heartbeat_s
        alarms = Backoff(alarm_s, max(alarm_s, self._settings.relay_backoff_max_s))
        began = alarm_at = clock.monotonic()
        alarm_at += alarm_s
        told = False
        while not self._stop.is_set():
            if await _has_fence(broker):
                return True
            if not told:
                log.info("relay_waits_for_the_other_connection")
                told = True
            if (now := clock.monotonic()) > alarm_at:
                log.error("relay_kept_from_publishing", waited_s=int(now - began),
                          hint="another connection has the queue ni.relay: end it, or stop"
                               " the relay that it belongs to")  # fmt: skip
                alarm_at = now + alarms.next()
            await pause(self._stop, FENCE_PAUSE_S)
        return False

    async def _read(self, publisher: Publisher) -> None:
        page, pause_s = self._settings.relay_page, self._settings.relay_poll_ms / 1000
        while not self._stop.is_set():
            if self._rounds.is_due(
                publisher.came_back, ran_dry=publisher.ran_dry, is_idle=publisher.is_idle,
                is_overfull=publisher.is_overfull,
            ):  # fmt: skip
                self._rounds.begin(publisher.came_back)
                publisher.start_over()
            if publisher.has_room:
                publisher.add(await self._outbox.page(page, publisher.parked))
            if not (self._outbox.has_more and publisher.has_room):
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
            if late := publisher.late_type:
                raise Unavailable(f"RabbitMQ does not confirm an event of type {late}")
            self._rounds.tell(publisher.came_back, publisher.last_type_back)
            publisher.pump_again()

    async def _remove(self, publisher: Publisher) -> None:
        while True:
            await publisher.changed.wait()
            await asyncio.sleep(self._settings.relay_poll_ms / 1000)  # in company it costs less
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


async def _has_fence(broker: Broker) -> bool:
    """Whether this connection has got the queue that no two may have."""
    door = await broker.channel()
    try:
        await door.answer(door.channel.queue_declare, queue=FENCE, exclusive=True)
    except ChannelClosed as error:
        if error.code != LOCKED:
            raise
        return False
    return True


class EmbeddedRelay:
    """The outbox to the queues in PostgreSQL."""

    def __init__(
        self, settings: Settings, stop: asyncio.Event, outbox: Outbox, sink: EmbeddedSink,
        backoff: Backoff,
    ) -> None:  # fmt: skip
        self._settings = settings
        self._stop = stop
        self._outbox = outbox
        self._sink = sink
        self._backoff = backoff
        self._rounds = Rounds(settings, outbox)

    async def work(self) -> None:
        """Deliver until it is time to stop. Raises what the database raises."""
        page = self._settings.relay_page
        while not self._stop.is_set():
            if self._rounds.is_due(self._sink.came_back):
                self._rounds.begin(self._sink.came_back)
                self._sink.start_over(self._outbox)
                await self._sink.sweep()
            rows = await self._outbox.page(page)
            await self._sink.deliver(self._outbox, rows)
            if rows:
                self._backoff.reset()
            self._rounds.tell(self._sink.came_back, self._sink.last_type_back)
            if not self._outbox.has_more:
                await asyncio.sleep(self._settings.relay_poll_ms / 1000)
