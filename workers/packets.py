"""Straight-through processing: unloads what waits while the core is open.

By night a pass finds nothing and costs next to nothing, so the night's postings are unloaded as
soon as the day has begun. A packet that fails has its own pauses; the worker's grow only while
nothing can be grouped at all.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final

import asyncpg
import structlog

from ni.database import LOST_CONNECTION, close_pool, open_unload_pool
from ni.errors import NiError
from ni.straight_through import StraightThrough
from workers.pauses import pause

if TYPE_CHECKING:
    from ni.settings import Settings

LOCK_TIMEOUT_MS: Final = 200
"""A packet that meets what the core holds gives its connection to the next one soon."""

log = structlog.get_logger()


class Pauses:
    """How long to pause: the interval, and after failures in a row twice as long each time."""

    def __init__(self, settings: Settings) -> None:
        self._interval_s = settings.stp_interval_ms / 1000
        self._longest_s = settings.stp_backoff_max_s
        self._next_s = self._interval_s

    def after(self, *, failed: bool) -> float:
        """Seconds to pause now."""
        if not failed:
            self._next_s = self._interval_s
            return self._interval_s
        self._next_s = min(self._next_s * 2, self._longest_s)
        return self._next_s


async def run(settings: Settings, stop: asyncio.Event) -> None:
    """Work until `stop` is set; what fails is tried again with longer and longer pauses."""
    pauses = Pauses(settings)
    while not stop.is_set():
        try:
            await _work(settings, stop, pauses)
        except (*LOST_CONNECTION, asyncpg.PostgresError, NiError) as error:
            log.warning("straight_through_waits", error=type(error).__name__)
            await pause(stop, pauses.after(failed=True))


async def _work(settings: Settings, stop: asyncio.Event, pauses: Pauses) -> None:
    timeout_ms = min(settings.unload_lock_timeout_ms, LOCK_TIMEOUT_MS)
    pool = await open_unload_pool(
        settings.model_copy(update={"unload_lock_timeout_ms": timeout_ms})
    )
    worker = StraightThrough(pool, settings)
    try:
        while not stop.is_set():
            done = await worker.begin()
            seconds = pauses.after(failed=False)
            if done.postings < settings.stp_postings_max or done.closed:
                await pause(stop, seconds)
    finally:
        await worker.end()
        await close_pool(pool)
