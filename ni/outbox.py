"""The outbox as its one reader sees it: pages, each complete for every account in it.

Events of an account become visible in its order, for its position is locked until the commit that
makes them. So a page by id is in order for every account, if nothing can appear below its floor
any more. Ids are made from the instant of a change, and a decision's transaction ends soon after
it: what is older than MARGIN when a page is read is there by then, or never will be. What has no
sequence may come later (a packet's transaction is long): it is found when the outbox is read from
its start, which is often. If the server's clock goes back, it is read from its start at once; if it
goes forward, floors go by the old time until what was open at the step has ended.

A page is bounded in what it gives and in what it looks at, whatever lies in the outbox.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Awaitable, Callable, Container, Iterable, Sequence
from functools import partial
from itertools import groupby, takewhile
from typing import TYPE_CHECKING, Final, TypeAlias, TypeVar
from uuid import UUID

import asyncpg
from asyncpg.pgproto import pgproto

from ni import clock
from ni.server_clock import ServerClock
from ni.sql import query

if TYPE_CHECKING:
    from ni.database import Pool
    from ni.settings import Settings

Row: TypeAlias = asyncpg.Record
ID, TYPE, ACCOUNT, BUCKET, LAP, PLACE, NOW = 0, 1, 2, 20, 21, 22, 23
"""Where things are in a row; before BUCKET it is as `ni.events.COLUMNS` says."""

PAGE: Final = query("outbox_page")
REMOVE: Final = "SELECT ni.remove_events_v1($1, $2, $3)"
TURN: Final = "SELECT ni.turn_outbox_v1($1, $2, $3)"
SEEN_MAX: Final = 20_000
"""So many rows of accounts that are left out are walked over at one time."""
LAPS: Final = (*range(8), 9)
"""Those that are emptied: the ones of the seconds, and that of unloads."""
LAP_BYTES_MAX: Final = 262_144
"""A past lap's file that is larger is emptied."""
MOVED_MAX: Final = 1_000
"""So few events that still wait are moved out of a past lap, so that it can be emptied."""
LOCKED_TRIES_MAX: Final = 20
LOCKED_PAUSE_S: Final = 0.05
BEGINNING: Final = UUID(int=0)
_Answer = TypeVar("_Answer")


def margin_us(settings: Settings) -> int:
    """After so many microseconds no decision can commit an event with an older id."""
    return (2 * settings.transaction_timeout_ms + 1_000) * 1_000


class Outbox:
    """Reads on and on; every row is given out once until `start_over`."""

    def __init__(self, pool: Pool, settings: Settings, buckets: int) -> None:
        self._pool = pool
        self._buckets = list(range(buckets))
        self._floors: list[UUID] = [BEGINNING] * buckets
        self._clock = ServerClock(margin_us(settings))
        self._held: dict[UUID, Row] = {}
        """What was given out and is neither out of the outbox nor skipped."""
        self._known: list[dict[UUID, str | None]] = [{} for _ in self._buckets]
        """By bucket, what was given out and lies above its floor, with its account: a page shows
        it again."""
        self._gone: dict[UUID, None] = {}
        """Taken out while a page was being read, which may still show them."""
        self._full: set[int] = set()
        """The buckets that had more than the last page could give."""
        self._seen: list[int] = [0] * buckets
        """Rows that the last page walked over above a floor that could not follow."""
        self.started_at = float("-inf")
        """When reading began at the start, by `clock.monotonic`."""
        self.reading_s = 0.0
        """How long the pages since then took, up to the end."""
        self.is_at_end = False
        """Whether everything was read since then."""

    @property
    def has_more(self) -> bool:
        """Whether there was more than the last page could give."""
        return bool(self._full)

    def start_over(self) -> None:
        """Read from the start: also what was skipped, and what came late."""
        self._floors = [BEGINNING] * len(self._buckets)
        for known in self._known:
            known.clear()
        for identifier in sorted(self._held):
            row = self._held[identifier]
            self._known[row[BUCKET]][identifier] = row[ACCOUNT]
        self._seen = [0] * len(self._buckets)
        self._full.clear()
        self._clock.start_over()
        self.started_at = clock.monotonic()
        self.reading_s = 0.0
        self.is_at_end = False

    def skip(self, identifier: UUID) -> None:
        """Whoever has the row lets it be until `start_over`."""
        self._held.pop(identifier, None)

    async def page(self, size: int, without: Iterable[str] = ()) -> list[Row]:
        """The next rows, about `size`, at most twice as many, of all accounts but those named.

        A row of those may be among them, one a bucket. Raises what the database raises.
        """
        names = dict.fromkeys(without)
        rooms = [self._room(bucket, size, names) for bucket in self._buckets]
        bounds = [
            len(known) + self._share(bucket, size + SEEN_MAX) + self._seen[bucket]
            for bucket, known in enumerate(self._known)
        ]
        self._gone.clear()
        began = clock.monotonic()
        rows = await though_locked(
            partial(self._pool.fetch, PAGE, self._buckets, self._floors, rooms, bounds, list(names))
        )
        now_us = rows[0][NOW]
        if self._clock.went_back(now_us, began):
            self.start_over()
            return []
        if not self.is_at_end:
            self.reading_s += clock.monotonic() - began
        return self._fresh(rows if rows[0][ID] is not None else [], rooms, bounds, now_us)

    def _room(self, bucket: int, size: int, names: Container[str | None]) -> int:
        """How many rows of a bucket are asked for: those that will be shown again come on top."""
        again = sum(account not in names for account in self._known[bucket].values())
        return self._share(bucket, size) + again

    def _share(self, bucket: int, total: int) -> int:
        """A bucket's part: one of all, or one of those that had more the last time."""
        among = self._full if bucket in self._full else self._buckets
        return max(1, total // len(among))

    def _fresh(
        self, rows: Sequence[Row], rooms: Sequence[int], bounds: Sequence[int], now_us: int
    ) -> list[Row]:
        """What of a page was not given out yet; the floors move on."""
        settled = _first_id(self._clock.settled_us(now_us) // 1000)
        ends = [settled] * len(self._buckets)
        self._full.clear()
        fresh = []
        for bucket, group in groupby(rows, key=lambda row: row[BUCKET]):
            part = list(group)
            known, held, gone = self._known[bucket], self._held, self._gone
            for row in part:
                identifier = row[ID]
                if identifier in known or identifier in held or identifier in gone:
                    continue
                fresh.append(row)
                held[identifier] = row
                known[identifier] = row[ACCOUNT]
            place, last = part[-1][PLACE], part[-1][ID]
            if len(part) >= rooms[bucket] or place >= bounds[bucket]:
                self._full.add(bucket)
                ends[bucket] = min(settled, last)
                self._seen[bucket] = place if last > settled else 0
        self._move_to(ends)
        self.is_at_end = self.is_at_end or not self._full
        return fresh

    def _move_to(self, ends: Sequence[UUID]) -> None:
        """Each floor to its place, but never back: below it nothing is known any more."""
        self._floors = [max(pair) for pair in zip(self._floors, ends, strict=True)]
        for known, floor in zip(self._known, self._floors, strict=True):
            _forget_up_to(floor, known)

    async def remove(self, rows: Iterable[Row]) -> None:
        """Take delivered events out. Raises what the database raises."""
        groups: defaultdict[tuple[int, int], list[UUID]] = defaultdict(list)
        for row in rows:
            groups[row[BUCKET], row[LAP]].append(row[ID])
        for (bucket, lap), ids in groups.items():
            await though_locked(partial(self._pool.fetchval, REMOVE, bucket, lap, ids))
            self.forget(ids)

    def forget(self, ids: Iterable[UUID]) -> None:
        """These are out."""
        for identifier in ids:
            row = self._held.pop(identifier, None)
            if row is not None:
                self._known[row[BUCKET]].pop(identifier, None)
            self._gone[identifier] = None

    async def turn(self, lap: int) -> bool:
        """Empty the file of a past lap; whether that was done. Raises what the database raises."""
        return bool(await self._pool.fetchval(TURN, lap, LAP_BYTES_MAX, MOVED_MAX))


def _first_id(millisecond: int) -> UUID:
    """The least id of a millisecond since 1970."""
    return pgproto.UUID((max(0, millisecond) << 80).to_bytes(16))


def _forget_up_to(floor: UUID, known: dict[UUID, str | None]) -> None:
    for identifier in list(takewhile(lambda one: one <= floor, known)):
        del known[identifier]


async def though_locked(ask: Callable[[], Awaitable[_Answer]]) -> _Answer:
    """Ask again, for a while, while somebody has a lap locked: mostly we ourselves, to empty it.

    Raises what the database raises.
    """
    for _ in range(LOCKED_TRIES_MAX):
        try:
            return await ask()
        except asyncpg.LockNotAvailableError:
            await asyncio.sleep(LOCKED_PAUSE_S)
    return await ask()
