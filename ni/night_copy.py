"""The night copy: brought back from its notes, compared with the core, copied anew.

The work is done by the functions of migrations/functions/night_copy.sql, a chunk of keys in a
transaction; here are the order of chunks and the room that is left to decisions between them. A
chunk that meets a lock it cannot have is tried again; what was killed goes on where it was.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import asyncpg

from ni import clock
from ni.errors import Unavailable
from ni.sql import query

if TYPE_CHECKING:
    from ni.database import Mode, Pool
    from ni.settings import Settings

CHECK: Final = "SELECT * FROM ni.check_night_copy_v1($1, $2, $3, $4, $5, $6)"
CHUNK: Final = "SELECT * FROM ni.resync_night_copy_v1($1, $2, $3)"
FAULTS: Final = "SELECT * FROM ni.night_copy_faults_v1()"
NOTED: Final = "SELECT ni.noted_buckets_v1()"
RENEW: Final = "SELECT ni.renew_night_ground_v1()"
REBUILD: Final = "SELECT ni.rebuild_night_copy_v1()"
SETTLE: Final = "SELECT ni.settle_night_copy_v1($1)"
SIZE: Final = "SELECT ni.night_copy_size_v1()"
STATUS: Final = "SELECT * FROM ni.night_copy_status_v1()"

RELATIONS: Final = ("account", "block", "ledger")
PASSING: Final = (
    asyncpg.DeadlockDetectedError,
    asyncpg.SerializationError,
    asyncpg.LockNotAvailableError,
)
CHUNKS_A_SETTLING: Final = 20
"""The floor under the notes is raised this often, so that no scan walks many deleted ones."""
REFUSALS_MAX: Final = 50
"""So often in a row a range may be behind a lock that cannot be had."""

Told = Callable[[int], None]


@dataclass(frozen=True, slots=True)
class Resynchronised:
    """What was done. `keys` were looked at or copied; not `exact`: something is still noted."""

    mode: Mode
    keys: int
    exact: bool


@dataclass(frozen=True, slots=True)
class Status:
    """How the copy stands. `faults`: why the triggers cannot be trusted, in words."""

    exact: bool
    changed_keys: int
    copied_at: str
    faults: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Difference:
    """Keys of a relation in which core and copy differ though nothing is noted."""

    relation: str
    keys: tuple[str, ...]


def checkpoint(_name: str) -> None:
    """A named point between chunks, where tests stop or kill the process."""


def nothing_told(_keys: int) -> None:
    """For whoever shows no progress."""


class _Resynchroniser:
    """One way through the notes of all buckets."""

    def __init__(self, pool: Pool, settings: Settings, share_percent: int, told: Told) -> None:
        self._pool = pool
        self._settings = settings
        self._share_percent = share_percent
        self._told = told
        self._chunks = 0
        self.mode: Mode = "day"
        self.keys = 0

    async def bucket(self, bucket: int, stop: asyncio.Event) -> None:
        """The notes of a bucket, once each. What somebody holds stays for the next way."""
        after: int | None = 0
        while after is not None and not stop.is_set():
            began = clock.monotonic()
            try:
                row = await self._pool.fetchrow(
                    CHUNK, bucket, after, self._settings.night_copy_chunk
                )
            except PASSING:
                await self._leave_room(self._settings.retry_pause_ms / 1000)
                return
            assert row is not None, "a function with OUT parameters returns one row"
            self.mode, after = row["o_mode"], row["o_last"]
            self.keys += row["o_keys"]
            self._told(self.keys)
            checkpoint("chunk")
            self._chunks += 1
            if self._chunks % CHUNKS_A_SETTLING == 0:
                await self.settle(worked=False)
            await self._leave_room(clock.monotonic() - began)

    async def settle(self, *, worked: bool) -> bool:
        """Raise the floor; whether no note is left."""
        return bool(await self._pool.fetchval(SETTLE, worked))

    async def _leave_room(self, spent_s: float) -> None:
        await asyncio.sleep(spent_s * (100 - self._share_percent) / self._share_percent)


async def resynchronise(
    pool: Pool,
    settings: Settings,
    *,
    share_percent: int | None = None,
    stop: asyncio.Event | None = None,
    told: Told = nothing_told,
) -> Resynchronised:
    """Bring the copy back, until nothing is noted that can be had now, or until `stop` is set.

    By night nothing is done. `share_percent` of the time one session works, else as much as the
    setting says; `told` hears the number of keys done. Raises what asyncpg raises.
    """
    stop = stop or asyncio.Event()
    work = _Resynchroniser(pool, settings, share_percent or settings.night_copy_share_percent, told)
    exact = False
    await renew(pool)
    while not stop.is_set():
        noted = await pool.fetchval(NOTED)
        before = work.keys
        for bucket in noted:
            await work.bucket(bucket, stop)
            if work.mode != "day":
                return Resynchronised("night", work.keys, exact=False)
        if not noted:
            exact = True
            break
        if await work.settle(worked=True) or work.keys == before:
            exact = not await pool.fetchval(NOTED)
            break
    return Resynchronised(work.mode, work.keys, exact)


async def resynchronise_within(pool: Pool, settings: Settings, limit_ms: int) -> Resynchronised:
    """Bring the copy back with all the time of one session; no chunk begins after `limit_ms`.

    Raises what asyncpg raises.
    """
    stop = asyncio.Event()
    timer = asyncio.get_running_loop().call_later(limit_ms / 1000, stop.set)
    try:
        return await resynchronise(pool, settings, share_percent=100, stop=stop)
    finally:
        timer.cancel()


async def renew(pool: Pool) -> list[str]:
    """Note everything of a relation on which something may have happened unseen; which they are.

    What needs the relation's owner is left to be a fault. Raises what asyncpg raises.
    """
    relations: list[str] = await pool.fetchval(RENEW)
    return relations


async def note_everything(pool: Pool) -> Mode:
    """Note every key of core and copy, so that the next resynchronisation copies it all.

    By night nothing is noted. Raises what asyncpg raises.
    """
    mode: Mode = await pool.fetchval(REBUILD)
    return mode


async def status(pool: Pool) -> Status:
    """How the copy stands now. Raises what asyncpg raises."""
    row = await pool.fetchrow(STATUS)
    assert row is not None, "a function with OUT parameters returns one row"
    faults = tuple(fault[0] for fault in await pool.fetch(FAULTS))
    return Status(row["exact"], row["changed_keys"], row["copied_at"].isoformat(), faults)


async def size(pool: Pool) -> int:
    """About how many keys a full copy looks at. Raises what asyncpg raises."""
    return int(await pool.fetchval(SIZE))


class Checker:
    """Walks over core and copy, a range of keys at a time, again and again."""

    def __init__(self, pool: Pool, settings: Settings) -> None:
        self._pool = pool
        self._rows = settings.night_copy_check_rows
        self._ranges: list[tuple[str, str, int]] = []
        self._after: str | None = None
        self._refused = 0
        self.keys = 0
        self.walks = 0

    async def step(self, *, note: bool) -> tuple[Mode, Difference | None]:
        """Compare the next range; with `note` what differs is noted, and so copied again.

        By night nothing is compared. A range behind a lock that cannot be had is left for the next
        step. Raises Unavailable when that lasts, and what asyncpg raises.
        """
        if not self._ranges:
            buckets = await self._pool.fetchval(query("installation_read"))
            for relation in RELATIONS:
                self._ranges.append((relation, "core", 0))
                self._ranges += [(relation, "night", bucket) for bucket in range(buckets)]
        relation, side, bucket = self._ranges[0]
        try:
            row = await self._pool.fetchrow(
                CHECK, relation, side, bucket, self._after, self._rows, note
            )
        except PASSING as error:
            self._refused += 1
            if self._refused > REFUSALS_MAX:
                raise Unavailable(f"the core holds its tables: {error}") from error
            return "day", None
        self._refused = 0
        assert row is not None, "a function with OUT parameters returns one row"
        if row["o_mode"] != "day":
            return "night", None
        self.keys += row["o_rows"]
        self._after = row["o_after"]
        if self._after is None:
            self._ranges.pop(0)
            self.walks += not self._ranges
        found = Difference(relation, tuple(row["o_keys"])) if row["o_keys"] else None
        return "day", found
