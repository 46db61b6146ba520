"""Straight-through processing: groups postings into packets and unloads them, each for itself.

Two at once do no harm: rows that one has locked are left to it, and a packet's row lets one run at
a time. What a killed process has grouped and not unloaded keeps its packet's name and is found
again. A packet that does not pass is tried again with longer and longer pauses, and takes no more
than its share: it holds up no other.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, TypeAlias
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
LEFT: Final = "SELECT * FROM ni.straight_through_left_v1($1, $2)"
PACKETS_A_PASS: Final = 10
LEFT_MAX: Final = 100
TASKS_MAX: Final = 20
KNOWN_MAX: Final = 1_000
"""Packets that wait for their turn or a new try; with so many nothing more is grouped."""
PATIENCE_S: Final = 1.0
"""How long one try of a packet waits for what the core holds."""
FLOOR_MARGIN_S: Final = 600
"""Ids may be committed a little after later ones; the scan begins this much earlier."""
WHOLE_SCAN_INTERVAL_S: Final = 60
LOOK_SHARE: Final = 20
"""Looking for packets that were left takes this part of the time at most."""
LAST_PASS_TRIES_S: Final = 2
"""How long the last pass before a close tries a packet that the core does not let through."""
_NO_FLOOR: Final = UUID(int=0)

Name: TypeAlias = tuple[str, str]
"""A client and its packet."""

log = structlog.get_logger()


@dataclass(slots=True)
class Pass:
    """What one pass has done. `closed`: the core takes nothing now; `full`: there may be more."""

    packets: int = 0
    postings: int = 0
    closed: bool = False
    failed: int = 0
    full: bool = False

    @property
    def complete(self) -> bool:
        """Whether everything was unloaded that waited when the pass began."""
        return not (self.closed or self.failed or self.full)


@dataclass(slots=True)
class _Turn:
    """When a packet is tried (next), and how often it has failed."""

    due: float = 0.0
    failures: int = 0
    task: asyncio.Task[None] | None = None


class StraightThrough:
    """Groups what waits and unloads it, a task for each packet."""

    def __init__(self, pool: Pool, settings: Settings) -> None:
        self._pool = pool
        self._settings = settings
        self._packets = Packets(pool, settings, PATIENCE_S)
        self._turns: dict[Name, _Turn] = {}
        self._floor = _NO_FLOOR
        self._scanned_at = float("-inf")
        self._look_at = float("-inf")
        self._closed = False

    async def begin(self) -> Pass:
        """Group what waits and begin to unload what is due; does not wait for its end.

        Raises what the database raises when nothing could be grouped.
        """
        done = Pass()
        self._closed = False
        try:
            if len(self._turns) < KNOWN_MAX:
                await self._find_left(done)
                await self._group(done)
            else:
                done.full = True
        except asyncpg.LockNotAvailableError:
            done.closed = True  # the core holds its tables
        self._start()
        return done

    async def step(self) -> Pass:
        """One pass, to its end: every packet that waits is tried once, those that failed before,
        too. Raises as `begin` does.
        """
        self._turns = {name: turn for name, turn in self._turns.items() if turn.task is not None}
        self._look_at = float("-inf")
        done = await self.begin()
        names = set(self._turns)
        done.packets = len(names)
        while tasks := self._tasks():
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            self._start(fresh_only=True)
        done.failed = sum(1 for name in names if name in self._turns)
        done.closed = done.closed or self._closed
        return done

    async def end(self) -> None:
        """Break off what is being unloaded; it is found again."""
        tasks = self._tasks()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    # What waits --------------------------------------------------------------------------------

    async def _find_left(self, done: Pass) -> None:
        begun = clock.monotonic()
        if begun < self._look_at:
            return
        known = [packet for _, packet in self._turns]
        rows = await self._pool.fetch(LEFT, known, LEFT_MAX)
        for row in rows:
            self._turns.setdefault((row["client"], row["packet"]), _Turn())
        done.full = len(rows) == LEFT_MAX
        ended = clock.monotonic()
        self._look_at = ended + LOOK_SHARE * (ended - begun)

    async def _group(self, done: Pass) -> None:
        if clock.monotonic() - self._scanned_at > WHOLE_SCAN_INTERVAL_S:
            self._floor, self._scanned_at = _NO_FLOOR, clock.monotonic()
        size = self._settings.stp_postings_max
        rows = await self._pool.fetch(GROUP, self._floor, size, size * PACKETS_A_PASS)
        for row in rows:
            self._turns.setdefault((row["client"], row["packet"]), _Turn())
        done.packets = len(rows)
        done.postings = sum(row["postings"] for row in rows)
        done.full = done.full or done.postings >= size * PACKETS_A_PASS
        if rows:
            newest = max(row["newest"] for row in rows)
            self._floor = max(self._floor, floor_before(newest, FLOOR_MARGIN_S))

    # Tasks -------------------------------------------------------------------------------------

    def _tasks(self) -> list[asyncio.Task[None]]:
        return [turn.task for turn in self._turns.values() if turn.task is not None]

    def _start(self, *, fresh_only: bool = False) -> None:
        """Begin tasks for packets that are due; new tries never take the last connection."""
        now = clock.monotonic()
        running = [turn for turn in self._turns.values() if turn.task is not None]
        room = TASKS_MAX - len(running)
        again = max(1, self._settings.unload_connections - 1)
        again -= sum(1 for turn in running if turn.failures)
        for name, turn in self._turns.items():
            if room <= 0:
                return
            if turn.task is not None or turn.due > now or (turn.failures and fresh_only):
                continue
            if turn.failures:
                if again <= 0:
                    continue
                again -= 1
            room -= 1
            turn.task = asyncio.create_task(self._unload(name, turn))

    async def _unload(self, name: Name, turn: _Turn) -> None:
        order = Order(client=name[0], packet=name[1], by=BY, key=None, fingerprint=b"")
        passed = False
        try:
            answer = await self._packets.unload(order, accepted=True)
            self._closed = self._closed or answer.decision is Decision.core_closed
            passed = True
        except (NiError, asyncpg.PostgresError, *LOST_CONNECTION) as error:
            log.warning("straight_through_packet_failed", packet=name[1], error=str(error))
        finally:
            turn.task = None
            if passed:
                del self._turns[name]
            else:
                turn.failures += 1
                turn.due = clock.monotonic() + self._back_off_s(turn.failures)

    def _back_off_s(self, failures: int) -> float:
        interval_s = self._settings.stp_interval_ms / 1000
        longest_s = float(self._settings.stp_backoff_max_s)
        return min(longest_s, interval_s * (1 << min(failures - 1, 20)))


async def last_pass(pool: Pool, settings: Settings, within_s: float) -> Pass:
    """Unload what waits, before the day closes, within `within_s` seconds.

    What comes while it works is left when a pass has taken all there was. Nothing is raised: what
    could not be unloaded stays, and `complete` tells of it.
    """
    hurried = settings.model_copy(
        update={"unload_timeout_s": min(settings.unload_timeout_s, LAST_PASS_TRIES_S)}
    )
    straight, done = StraightThrough(pool, hurried), Pass()
    try:
        async with asyncio.timeout(within_s):
            while True:
                step = await straight.step()
                done.packets += step.packets
                done.postings += step.postings
                done.closed, done.failed, done.full = step.closed, step.failed, step.full
                if step.closed or step.failed or not step.full:
                    return done
    except (*LOST_CONNECTION, asyncpg.PostgresError, NiError) as error:
        log.warning("last_pass_broken_off", error=type(error).__name__, postings=done.postings)
        done.failed += 1
        return done
    finally:
        await straight.end()
