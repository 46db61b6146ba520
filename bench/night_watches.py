"""What looks at the database through a night: at locks on the core, at snapshots, at the outbox."""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, field
from random import randrange
from statistics import median
from uuid import UUID

import asyncpg

from bench.night_figures import Morning
from bench.packet_figures import LockCount
from bench.queries import query
from bench.watches import counting, looking

POLL_EVENTS = 500
POLL_PAUSE_S = 0.1
FLOOR_MS = 600_000
"""Events may become visible so much later than their ids say; ten minutes are far more."""
WHOLE_SCAN_S = 60.0


def core_watch(dsn: str) -> AbstractAsyncContextManager[LockCount]:
    """Count, every 10 ms, whether NI has or wants a lock on something of the core."""
    return counting(dsn, "core_looks")


async def take_snapshot(connection: asyncpg.Connection, found: Morning) -> None:
    """Compare a range of keys, drawn among those that the night has changed."""
    keys = found.snapshot_keys
    first = randrange(max(found.changed - keys, 0) + 1)
    [row] = await connection.fetch(query("snapshot"), first, first + keys)
    found.snapshots += 1
    found.unnoted += row["unnoted"]
    found.noted += row["differing"] - row["unnoted"]
    found.unnoted_keys = (found.unnoted_keys + row["keys"])[:5]


@dataclass(slots=True)
class OutboxReader:
    """Takes events from the outbox by id, as whoever delivers them does."""

    events: int = 0
    polls_ms: list[float] = field(default_factory=list)
    """Each poll of the next events, from the floor on."""
    _newest: UUID = field(default=UUID(int=0))
    _scanned_at: float = 0.0

    def floor(self, now: float) -> UUID:
        """Return the id to look from: ten minutes before the newest; once a minute the first."""
        if now - self._scanned_at > WHOLE_SCAN_S:
            self._scanned_at = now
            return UUID(int=0)
        return UUID(int=max((self._newest.int >> 80) - FLOOR_MS, 0) << 80)

    async def poll(self, connection: asyncpg.Connection) -> int:
        """Take the next events and remove them; return how many these were."""
        began = time.perf_counter()
        floor = self.floor(began)
        rows = await connection.fetch(query("outbox_next"), floor, POLL_EVENTS)
        if floor.int:
            self.polls_ms.append((time.perf_counter() - began) * 1000)
        ids = [row["event_id"] for row in rows]
        if ids:
            await connection.execute(query("outbox_done"), ids)
            self._newest = max(self._newest, UUID(int=ids[-1].int))
        self.events += len(ids)
        return len(ids)

    def edges(self) -> tuple[float, float]:
        """Return the median of the first and of the last hundredth of the polls, in ms."""
        if not self.polls_ms:
            return 0.0, 0.0
        part = max(len(self.polls_ms) // 100, 1)
        return median(self.polls_ms[:part]), median(self.polls_ms[-part:])


@asynccontextmanager
async def outbox_reader(dsn: str) -> AsyncIterator[OutboxReader]:
    """Read the outbox as long as the block runs. What was written before is taken first."""
    reader = OutboxReader()

    async def look(connection: asyncpg.Connection) -> None:
        if await reader.poll(connection) < POLL_EVENTS:
            await asyncio.sleep(POLL_PAUSE_S)

    plans = {"enable_seqscan": "off", "enable_bitmapscan": "off", "jit": "off"}
    async with looking(dsn, look, plans):
        yield reader
