"""The embedded door: consumers lease events from queues in PostgreSQL, which the relay fills.

One consumer has a queue at one time; a second one waits. A delivery is leased for
NI_EVENT_LEASE_S and the lease is kept up while the consumer has it, so one that died gives back
what it had. That comes one by one then: an event that kills its consumer again and again reaches
the limit by itself, and not with all those behind it. What a consumer gave back for later is no
such event, and nothing waits for it.

What a consumer is done with while other deliveries are ended, is ended together after these: each
commit is a write to the disk on which decisions wait for theirs.

A queue is scanned from a floor, and from its start now and then: what was ended leaves dead row
versions in front for as long as anybody's transaction is open.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from functools import partial
from typing import TYPE_CHECKING, Final
from uuid import UUID, uuid4

import asyncpg
import structlog

from ni import clock
from ni.database import LOST_CONNECTION, close_pool, open_pool
from ni.deliveries import ALL_TYPES
from ni.embedded_queues import pattern_of
from ni.errors import NiError, Unavailable
from ni.identifiers import floor_before
from ni.outbox import though_locked

if TYPE_CHECKING:
    from ni.database import Pool
    from ni.deliveries import Delivery
    from ni.settings import Settings

OPEN: Final = "SELECT ni.open_event_queue_v1($1, $2, $3, $4, $5, $6)"
LEAVE: Final = "SELECT ni.leave_event_queue_v1($1, $2)"
DROP: Final = "SELECT ni.drop_event_queue_v1($1)"
TAKE: Final = "SELECT * FROM ni.take_deliveries_v1($1, $2, $3, $4, $5, $6, $7)"
END: Final = "SELECT ni.end_deliveries_v1($1, $2)"
DELAY: Final = "SELECT ni.delay_deliveries_v1($1, $2, $3, $4)"
BURY: Final = "SELECT ni.bury_deliveries_v1($1, $2, $3)"
CONNECTIONS: Final = 2
WHOLE_SCAN_S: Final = 2.0
FLOOR_MARGIN_S: Final = 30
BEGINNING: Final = UUID(int=0)

log = structlog.get_logger()


class EmbeddedDelivery:
    """One event of a queue in PostgreSQL."""

    def __init__(self, consumer: _Consumer, identifier: UUID, body: bytes, attempt: int) -> None:
        self._consumer = consumer
        self._id = identifier
        self.event_body: Final = body
        self.attempt: Final = attempt

    async def ack(self) -> None:
        """It is done, and ended soon. Raises Unavailable."""
        self._consumer.done(self._id)

    async def retry(self, after_s: float) -> None:
        """Again, after `after_s` seconds. Raises Unavailable."""
        await self._consumer.end([self._id], DELAY, int(after_s * 1000), None)

    async def dead_letter(self, reason: str) -> None:
        """Into ni.event_dead. Raises Unavailable."""
        await self._consumer.end([self._id], BURY, reason)


class _Consumer:
    """One consumer of one queue."""

    def __init__(self, pool: Pool, settings: Settings, queue: str, prefetch: int) -> None:
        self._pool = pool
        self._settings = settings
        self._queue = queue
        self._prefetch = min(prefetch, settings.event_prefetch_max)
        self._held: dict[UUID, bool] = {}
        """What is in hand, and whether it must be there alone."""
        self._freed = asyncio.Event()
        """Set when something was ended that others may have waited for."""
        self._floor = BEGINNING
        self._scanned_at = float("-inf")
        self._kept_at = float("-inf")
        self._holder = uuid4()
        self._done: list[UUID] = []
        self._ending: asyncio.Task[None] | None = None
        self._many = asyncio.Lock()
        """Two statements over many deliveries could lock them crosswise."""
        self._lost: Unavailable | None = None
        """Why what was done could not be ended."""
        self.pattern = ""
        self.temporary = False

    async def open(self) -> bool:
        """Make the queue and take it; False when another consumer has it."""
        limit = self._settings.event_queues_max
        answer = await self._pool.fetchval(
            OPEN, self._queue, self.pattern, self.temporary, limit, self._holder,
            self._settings.event_lease_s,
        )  # fmt: skip
        if answer == "full":
            raise NiError(f"there are {limit} queues already: see NI_EVENT_QUEUES_MAX")
        return bool(answer == "mine")

    async def leave(self) -> None:
        """Let the next consumer have the queue, with what this one has not ended."""
        if self._ending is not None:
            await self._ending
        try:
            if self.temporary:
                await though_locked(partial(self._pool.execute, DROP, self._queue))
            else:
                await self._pool.execute(LEAVE, self._queue, self._holder)
        except (*LOST_CONNECTION, asyncpg.PostgresError) as error:
            log.warning("event_queue_not_left", queue=self._queue, error=type(error).__name__)

    def done(self, identifier: UUID) -> None:
        """End a delivery soon. Raises Unavailable."""
        self._check()
        self._done.append(identifier)
        if self._ending is None or self._ending.done():
            self._ending = asyncio.create_task(self._end_done())

    async def _end_done(self) -> None:
        try:
            while self._done:
                async with self._many:
                    identifiers, self._done = self._done, []
                    await self.end(identifiers, END)
        except Unavailable as error:
            self._lost = error
            self._freed.set()

    def _check(self) -> None:
        if self._lost is not None:
            raise Unavailable(str(self._lost)) from self._lost

    async def end(self, identifiers: list[UUID], statement: str, *rest: object) -> None:
        """Be done with deliveries, now. Raises Unavailable."""
        try:
            await self._pool.execute(statement, self._queue, identifiers, *rest)
        except (*LOST_CONNECTION, asyncpg.PostgresError) as error:
            raise Unavailable(f"the queue cannot be reached: {error}") from error
        was_full = len(self._held) >= self._prefetch
        alone = [self._held.pop(identifier, False) for identifier in identifiers]
        if any(alone) or was_full or not self._held:
            self._freed.set()

    async def deliveries(self) -> AsyncIterator[Delivery]:
        """What comes, on and on. Raises Unavailable."""
        pause_s = self._settings.event_poll_ms / 1000
        while True:
            self._freed.clear()
            self._check()
            try:
                rows = await self._take() if await self._keep() else []
            except (*LOST_CONNECTION, asyncpg.PostgresError) as error:
                raise Unavailable(f"the queue cannot be reached: {error}") from error
            for identifier, _, _, alone in rows:
                self._held[identifier] = alone
            for identifier, body, attempt, _ in rows:
                yield EmbeddedDelivery(self, identifier, body, attempt)
            if not rows:
                await self._pause(pause_s)

    async def _pause(self, seconds: float) -> None:
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._freed.wait()

    async def _take(self) -> list[asyncpg.Record]:
        room = self._prefetch - len(self._held)
        if room <= 0 or any(self._held.values()):
            return []
        if clock.monotonic() - self._scanned_at > WHOLE_SCAN_S:
            self._floor, self._scanned_at = BEGINNING, clock.monotonic()
        rows = await self._pool.fetch(
            TAKE, self._queue, self._holder, self._floor, room, self._settings.event_lease_s,
            self._settings.event_attempts_max, not self._held,
        )  # fmt: skip
        if rows:
            self._floor = max(self._floor, floor_before(rows[-1][0], FLOOR_MARGIN_S))
        return rows

    async def _keep(self) -> bool:
        """Keep up the leases of the queue and of what is held; False: somebody else has it."""
        if clock.monotonic() - self._kept_at < self._settings.event_lease_s / 3:
            return True
        if not await self.open():
            if self._held:
                raise Unavailable(f"the queue {self._queue} has another consumer")
            return False
        self._kept_at = clock.monotonic()
        lease_ms = self._settings.event_lease_s * 1000
        async with self._many:
            await self._pool.execute(DELAY, self._queue, list(self._held), lease_ms, self._holder)
        return True


class EmbeddedDoor:
    """Events from PostgreSQL."""

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
        pool = await open_pool(self._settings, "day", CONNECTIONS)
        try:
            consumer = _Consumer(pool, self._settings, queue, prefetch)
            consumer.pattern, consumer.temporary = pattern_of(types), temporary
            try:
                await consumer.open()
            except (*LOST_CONNECTION, asyncpg.PostgresError) as error:
                raise Unavailable(f"the queue cannot be reached: {error}") from error
            try:
                yield consumer.deliveries()
            finally:
                await consumer.leave()
        finally:
            await close_pool(pool)
