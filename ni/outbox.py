"""The outbox as its one reader sees it: pages, each complete for every account in it.

Events of an account become visible in its order, for its position is locked until the commit that
makes them. So a page by id is in order for every account, if nothing can appear below its floor
any more. Ids are made from the instant of a change, and a decision's transaction ends soon after
it: what is older than MARGIN when a page is read is there by then, or never will be. What has no
sequence may come later (a packet's transaction is long): it is found when the outbox is read from
its start, which is often. If the server's clock goes back, it is read from its start at once.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Final, TypeAlias
from uuid import UUID

import asyncpg
import structlog
from asyncpg.pgproto import pgproto

from ni import clock
from ni.sql import query

if TYPE_CHECKING:
    from ni.database import Pool
    from ni.settings import Settings

Row: TypeAlias = asyncpg.Record
ID, TYPE, ACCOUNT, BUCKET, LAP, NOW = 0, 1, 2, 18, 19, 20
"""Where things are in a row; before BUCKET it is as `ni.events.COLUMNS` says."""

PAGE: Final = query("outbox_page")
REMOVE: Final = "SELECT ni.remove_events_v1($1, $2, $3)"
TURN: Final = "SELECT ni.turn_outbox_v1($1, $2)"
LAP_BYTES_MAX: Final = 262_144
"""A past lap's file that is larger is emptied."""
MOVED_MAX: Final = 1_000
"""So few events that still wait are moved out of a past lap, so that it can be emptied."""
CLOCK_STEP_US: Final = 1_000
BEGINNING: Final = UUID(int=0)

log = structlog.get_logger()


def margin_us(settings: Settings) -> int:
    """After so many microseconds no decision can commit an event with an older id."""
    return (2 * settings.transaction_timeout_ms + 1_000) * 1_000


class Outbox:
    """Reads on and on; every row is given out once until `start_over`."""

    def __init__(self, pool: Pool, settings: Settings, buckets: int) -> None:
        self._pool = pool
        self._margin_us = margin_us(settings)
        self._buckets = list(range(buckets))
        self._floors: list[UUID] = [BEGINNING] * buckets
        self._now_us = 0
        self._held: dict[UUID, None] = {}
        self._skipped: dict[UUID, None] = {}
        self._gone: dict[UUID, None] = {}
        """Taken out while a page was being read, which may still show them."""
        self.started_at = float("-inf")
        """When reading began at the start, by `clock.monotonic`."""

    def start_over(self) -> None:
        """Read from the start: also what was skipped, and what came late."""
        self._floors = [BEGINNING] * len(self._buckets)
        self._skipped.clear()
        self.started_at = clock.monotonic()

    def skip(self, identifier: UUID) -> None:
        """Whoever has the row lets it be until `start_over`."""
        self._held.pop(identifier, None)
        self._skipped[identifier] = None

    async def page(self, size: int) -> list[Row]:
        """The next rows, about `size` a bucket at most. Raises what the database raises."""
        limit = size + len(self._held) + len(self._skipped)
        self._gone.clear()
        rows = await self._pool.fetch(PAGE, self._buckets, self._floors, limit)
        now_us = rows[0][NOW]
        if now_us + CLOCK_STEP_US < self._now_us:
            log.warning("relay_clock_went_back", by_ms=(self._now_us - now_us) // 1000)
            self._now_us = now_us
            self.start_over()
            return []
        self._now_us = now_us
        if rows[0][ID] is None:
            rows = []
        self._advance(rows, limit, now_us)
        held, skipped, gone = self._held, self._skipped, self._gone
        fresh = [
            row
            for row in rows
            if row[ID] not in held and row[ID] not in skipped and row[ID] not in gone
        ]
        held.update((row[ID], None) for row in fresh)
        return fresh

    def _advance(self, rows: Sequence[Row], limit: int, now_us: int) -> None:
        settled = _first_id((now_us - self._margin_us) // 1000)
        floors = [settled] * len(self._buckets)
        if len(rows) >= limit:
            count: defaultdict[int, int] = defaultdict(int)
            last: dict[int, UUID] = {}
            for row in rows:
                count[row[BUCKET]] += 1
                last[row[BUCKET]] = row[ID]
            for bucket, seen in count.items():
                if seen >= limit:
                    floors[bucket] = min(settled, last[bucket])
        self._floors = floors
        lowest = min(floors)
        for identifier in [known for known in self._skipped if known <= lowest]:
            del self._skipped[identifier]

    async def remove(self, rows: Iterable[Row]) -> None:
        """Take delivered events out. Raises what the database raises."""
        groups: defaultdict[tuple[int, int], list[UUID]] = defaultdict(list)
        for row in rows:
            groups[row[BUCKET], row[LAP]].append(row[ID])
        for (bucket, lap), ids in groups.items():
            await self._pool.fetchval(REMOVE, bucket, lap, ids)
            self.forget(ids)

    def forget(self, ids: Iterable[UUID]) -> None:
        """These are out."""
        for identifier in ids:
            self._held.pop(identifier, None)
            self._gone[identifier] = None

    async def turn(self) -> int:
        """Empty the files of past laps; how many. Raises what the database raises."""
        return int(await self._pool.fetchval(TURN, LAP_BYTES_MAX, MOVED_MAX))


def _first_id(millisecond: int) -> UUID:
    """The least id of a millisecond since 1970."""
    return pgproto.UUID((max(0, millisecond) << 80).to_bytes(16))
