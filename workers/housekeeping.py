"""Housekeeping: sweep expired holds, delete old eras, keys and lists, in small steps.

None of it is needed for a right answer: a decision counts an expired hold out at its instant, and
reads the newest era. It keeps tables small and lets an expiry's event leave soon.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, Final

import asyncpg
import structlog

from ni import clock
from ni.clock import EPOCH
from ni.commands import ExpireHolds
from ni.database import LOST_CONNECTION, Pools
from ni.decisions import Decision
from ni.engine import Engine
from ni.errors import NiError
from ni.sql import query
from workers.pauses import first_ended, pause

if TYPE_CHECKING:
    from ni.settings import Settings

CLIENT: Final = "ni"
DUE: Final = "SELECT * FROM ni.due_accounts_v2($1, $2, $3)"
PRUNE_ERAS: Final = "SELECT * FROM ni.prune_eras_v1($1, $2, $3)"
PRUNE_BELOW_LIMIT: Final = "SELECT ni.prune_below_limit_v1($1, $2, $3)"
PRUNE_REQUESTS: Final = "SELECT ni.prune_requests_v1($1, $2, $3)"

STEPS_MAX: Final = 20
FLOOR_MARGIN: Final = timedelta(minutes=1)
"""A hold that is committed late is swept late by no more; the sweep begins this much earlier."""
WHOLE_SWEEP_S: Final = 60.0

log = structlog.get_logger()


@dataclass(slots=True)
class Swept:
    """What one round has done."""

    accounts: int = 0
    eras: int = 0
    requests: int = 0
    below_limit: int = 0


class Housekeeper:
    """Does one step of each chore at a time; several may run beside each other."""

    def __init__(self, settings: Settings, engine: Engine) -> None:
        self._settings = settings
        self._engine = engine
        self._era_places: dict[int, str] = {}
        self._floors: dict[int, datetime] = {}
        self._whole_at = float("-inf")

    async def step(self) -> Swept:
        """One step of everything in every bucket. Raises what the database raises."""
        swept = await self.prune()
        swept.accounts = await self.expire()
        return swept

    async def expire(self) -> int:
        """Sweep every hold that is due; of how many accounts. Raises what the database raises."""
        if clock.monotonic() - self._whole_at > WHOLE_SWEEP_S:
            self._floors.clear()
            self._whole_at = clock.monotonic()
        return sum([await self._expire(bucket) for bucket in range(self._engine.buckets)])

    async def prune(self) -> Swept:
        """One step of deleting what is old. Raises what the database raises."""
        swept = Swept()
        for bucket in range(self._engine.buckets):
            swept.eras += await self._prune_eras(bucket)
            swept.requests += await self._prune_requests(bucket)
            swept.below_limit += await self._prune_below_limit(bucket)
        return swept

    async def _expire(self, bucket: int) -> int:
        """A step is swept at once again while the one before was full: many may be due at once."""
        swept = 0
        for _ in range(STEPS_MAX):
            floor = self._floors.get(bucket, EPOCH)
            limit = self._settings.housekeeping_step
            row = await self._engine.pools.current.fetchrow(DUE, bucket, floor, limit)
            assert row is not None, "a function with OUT parameters returns one row"
            accounts, full, now = row
            commands = [
                ExpireHolds(client=CLIENT, key=None, fingerprint=b"", account=account)
                for account in accounts
            ]
            answers = await self._engine.submit_batch(commands, atomic=False)
            if any(answer.decision is not Decision.approved for answer in answers):
                return swept
            swept += len(commands)
            if not full:
                self._floors[bucket] = now - FLOOR_MARGIN
                break
        return swept

    async def _prune_eras(self, bucket: int) -> int:
        place = self._era_places.get(bucket, "")
        limit = self._settings.housekeeping_step
        row = await self._engine.pools.current.fetchrow(PRUNE_ERAS, bucket, place, limit)
        self._era_places[bucket] = (row and row["o_last"]) or ""
        return row["o_deleted"] if row else 0

    async def _prune_requests(self, bucket: int) -> int:
        keep, limit = self._settings.request_keep_days, self._settings.housekeeping_step
        deleted = await self._engine.pools.current.fetchval(PRUNE_REQUESTS, bucket, keep, limit)
        return int(deleted)

    async def _prune_below_limit(self, bucket: int) -> int:
        keep, limit = self._settings.below_limit_keep_days, self._settings.housekeeping_step
        deleted = await self._engine.pools.current.fetchval(PRUNE_BELOW_LIMIT, bucket, keep, limit)
        return int(deleted)


async def run(settings: Settings, stop: asyncio.Event) -> None:
    """Work until `stop` is set; what the database refuses is tried again after a pause."""
    pause_s = settings.housekeeping_interval_ms / 1000
    while not stop.is_set():
        try:
            await _work(settings, stop, pause_s)
        except (*LOST_CONNECTION, asyncpg.PostgresError, NiError) as error:
            log.warning("housekeeping_waits", error=type(error).__name__)
            await pause(stop, pause_s)


async def _work(settings: Settings, stop: asyncio.Event, pause_s: float) -> None:
    pools = await Pools.open(settings, settings.batch_lanes)
    try:
        async with pools.day.acquire() as connection:
            buckets = await connection.fetchval(query("installation_read"))
        engine = Engine(settings, pools, buckets)
        engine.start()
        try:
            housekeeper = Housekeeper(settings, engine)
            expiry_pause_s = settings.expiry_interval_ms / 1000
            await first_ended(
                _again(housekeeper.expire, stop, expiry_pause_s),
                _again(housekeeper.prune, stop, pause_s),
            )
        finally:
            await engine.stop()
    finally:
        await pools.close()


async def _again(
    chore: Callable[[], Coroutine[Any, Any, object]], stop: asyncio.Event, pause_s: float
) -> None:
    while not stop.is_set():
        await chore()
        await pause(stop, pause_s)
