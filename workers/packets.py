"""Straight-through processing: groups postings into packets and unloads them while the core is
open.

Two workers at once do no harm: rows that one has locked are left to it, and a packet's row lets
one run at a time. What a killed worker has grouped and not unloaded keeps its packet's name and is
taken by the next pass.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final
from uuid import UUID

import asyncpg
import structlog

from ni import clock
from ni.database import LOST_CONNECTION, close_pool, open_unload_pool
from ni.decisions import Decision
from ni.errors import NiError
from ni.identifiers import floor_before
from ni.packets import Order, Packets
from workers.pauses import pause

if TYPE_CHECKING:
    from ni.database import Pool
    from ni.settings import Settings

BY: Final = "ni"
GROUP: Final = "SELECT * FROM ni.group_straight_through_v1($1, $2, $3)"
PACKETS_A_PASS: Final = 10
FLOOR_MARGIN_S: Final = 600
"""Ids may be committed a little after later ones; the scan begins this much earlier."""
WHOLE_SCAN_INTERVAL_S: Final = 60
_NO_FLOOR: Final = UUID(int=0)

log = structlog.get_logger()


@dataclass(slots=True)
class Pass:
    """What one pass has done. `closed`: the core takes nothing now."""

    packets: int = 0
    postings: int = 0
    closed: bool = False
    failed: int = 0


class StraightThrough:
    """Groups what waits and unloads it, a pass at a time."""

    def __init__(self, pool: Pool, settings: Settings) -> None:
        self._pool = pool
        self._settings = settings
        self._packets = Packets(pool, settings)
        self._floor = _NO_FLOOR
        self._scanned_at = float("-inf")

    async def step(self) -> Pass:
        """One pass. Raises what the database raises when nothing could be grouped."""
        if clock.monotonic() - self._scanned_at > WHOLE_SCAN_INTERVAL_S:
            self._floor, self._scanned_at = _NO_FLOOR, clock.monotonic()
        size = self._settings.stp_postings_max
        groups = await self._pool.fetch(GROUP, self._floor, size, size * PACKETS_A_PASS)
        done = Pass(len(groups), sum(row["postings"] for row in groups))
        outcomes = await asyncio.gather(
            *(self._unload(row["client"], row["packet"]) for row in groups)
        )
        done.closed = Decision.core_closed in outcomes
        done.failed = outcomes.count(None)
        if groups and not done.closed and not done.failed:
            newest = max(row["newest"] for row in groups)
            self._floor = max(self._floor, floor_before(newest, FLOOR_MARGIN_S))
        return done

    async def _unload(self, client: str, packet: str) -> Decision | None:
        order = Order(client=client, packet=packet, by=BY, key=None, fingerprint=b"")
        try:
            return (await self._packets.unload(order, accepted=True)).decision
        except (NiError, asyncpg.PostgresError):
            log.exception("straight_through_packet_failed", packet=packet)
            return None


async def run(settings: Settings, stop: asyncio.Event) -> None:
    """Work until `stop` is set; while the core refuses, with longer and longer pauses."""
    interval_s = settings.stp_interval_ms / 1000
    pause_s = interval_s
    while not stop.is_set():
        try:
            await _work(settings, stop)
        except (*LOST_CONNECTION, asyncpg.PostgresError, NiError) as error:
            log.warning("straight_through_waits", error=type(error).__name__)
            await pause(stop, pause_s)
            pause_s = min(pause_s * 2, settings.stp_backoff_max_s)


async def _work(settings: Settings, stop: asyncio.Event) -> None:
    pool = await open_unload_pool(settings)
    interval_s = settings.stp_interval_ms / 1000
    pause_s = interval_s
    try:
        worker = StraightThrough(pool, settings)
        while not stop.is_set():
            done = await worker.step()
            idle = done.closed or done.failed
            pause_s = min(pause_s * 2, settings.stp_backoff_max_s) if idle else interval_s
            if done.postings < settings.stp_postings_max or idle:
                await pause(stop, pause_s)
    finally:
        await close_pool(pool)
