"""The night copy's keeper: brings it back from its notes and compares it with the core all day.

Two of them at once do no harm: what one has locked the other leaves to it. What differs without a
note is an error of somebody: it is told with its keys, and noted, so that it is copied again.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import asyncpg
import structlog

from ni import clock
from ni.database import LOST_CONNECTION, close_pool, open_pool
from ni.errors import NiError
from ni.night_copy import NOTED, PASSING, Checker, renew, resynchronise, status
from workers.pauses import pause

if TYPE_CHECKING:
    import asyncio

    from ni.database import Pool
    from ni.settings import Settings

FAULTS_INTERVAL_S: Final = 60

log = structlog.get_logger()


class Keeper:
    """Does one round at a time."""

    def __init__(self, pool: Pool, settings: Settings, stop: asyncio.Event) -> None:
        self._pool = pool
        self._settings = settings
        self._stop = stop
        self._checker = Checker(pool, settings)
        self._faults_at = float("-inf")

    async def round(self) -> None:
        """Bring the copy back if something is noted, else compare the next range of keys.

        Raises what the database raises.
        """
        if clock.monotonic() - self._faults_at > FAULTS_INTERVAL_S:
            self._faults_at = clock.monotonic()
            for fault in (await status(self._pool)).faults:
                log.error("night_copy_fault", fault=fault)
        for relation in await renew(self._pool):
            log.warning("night_copy_compared_anew", relation=relation)
        if await self._pool.fetchval(NOTED):
            began = clock.monotonic()
            done = await resynchronise(self._pool, self._settings, stop=self._stop)
            if done.keys:
                took_ms = int((clock.monotonic() - began) * 1000)
                log.info("night_copy_brought_back", keys=done.keys, took_ms=took_ms)
            return
        _mode, found = await self._checker.step(note=True)
        if found is not None:
            log.error(
                "night_copy_differs",
                relation=found.relation,
                count=len(found.keys),
                keys=list(found.keys[: self._settings.night_copy_keys_shown_max]),
            )


async def run(settings: Settings, stop: asyncio.Event) -> None:
    """Work until `stop` is set; what the database refuses is tried again after a pause."""
    pause_s = settings.night_copy_interval_ms / 1000
    while not stop.is_set():
        try:
            await _work(settings, stop, pause_s)
        except (*LOST_CONNECTION, asyncpg.PostgresError, NiError) as error:
            log.warning("night_copy_waits", error=type(error).__name__)
            await pause(stop, pause_s)


async def _work(settings: Settings, stop: asyncio.Event, pause_s: float) -> None:
    pool = await open_pool(settings, "day", 1)
    try:
        keeper = Keeper(pool, settings, stop)
        while not stop.is_set():
            try:
                await keeper.round()
            except PASSING as error:
                log.info("night_copy_gives_way", error=type(error).__name__)
            await pause(stop, pause_s)
    finally:
        await close_pool(pool)
