"""Straight-through processing: groups postings into packets and unloads them.

Two at once do no harm: rows that one has locked are left to it, and a packet's row lets one run at
a time. What a killed process has grouped and not unloaded keeps its packet's name and is taken by
the next pass.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final
from uuid import UUID

import asyncpg
import structlog

from ni import clock
from ni.database import LOST_CONNECTION
from ni.decisions import Decision
from ni.errors import NiError
from ni.identifiers import floor_before
from ni.packets import Order, Packets

if TYPE_CHECKING:
    from ni.database import Pool
    from ni.settings import Settings

BY: Final = "ni"
GROUP: Final = "SELECT * FROM ni.group_straight_through_v1($1, $2, $3)"
PACKETS_A_PASS: Final = 10
FLOOR_MARGIN_S: Final = 600
"""Ids may be committed a little after later ones; the scan begins this much earlier."""
WHOLE_SCAN_INTERVAL_S: Final = 60
LAST_PASS_TRIES_S: Final = 2
"""How long the last pass before a close tries a packet that the core does not let through."""
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
        try:
            groups = await self._pool.fetch(GROUP, self._floor, size, size * PACKETS_A_PASS)
        except asyncpg.LockNotAvailableError:
            return Pass(closed=True)  # the core holds its tables
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


async def last_pass(pool: Pool, settings: Settings) -> Pass:
    """Unload what waits, before the day closes: within the time for which a close waits for runs.

    What comes while it works is left when a pass has taken all there was. Nothing is raised: what
    could not be unloaded stays, and is told as unfinished.
    """
    hurried = settings.model_copy(
        update={"unload_timeout_s": min(settings.unload_timeout_s, LAST_PASS_TRIES_S)}
    )
    straight, done = StraightThrough(pool, hurried), Pass()
    try:
        async with asyncio.timeout(settings.drain_timeout_s):
            while True:
                step = await straight.step()
                done.packets += step.packets
                done.postings += step.postings
                done.closed, done.failed = step.closed, step.failed
                full = step.postings >= settings.stp_postings_max * PACKETS_A_PASS
                if step.closed or step.failed or not full:
                    return done
    except (*LOST_CONNECTION, asyncpg.PostgresError, NiError) as error:
        log.warning("last_pass_broken_off", error=type(error).__name__, postings=done.postings)
        done.failed += 1
        return done
