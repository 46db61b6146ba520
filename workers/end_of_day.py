"""The end of day by schedule: closes and opens when it is time.

What is due is found from the clock and the mode in the database alone, so a worker that was killed
goes on where it was, and two of them do no harm: of two switchers one waits for the other and finds
the work done. What is refused for a passing reason is asked again.
"""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING, Final

import asyncpg
import structlog

from ni import clock
from ni.business_day import BusinessDay
from ni.database import LOST_CONNECTION, Pools, close_pool, open_unload_pool
from ni.day_switch import DayOrder
from ni.decisions import Decision
from ni.errors import NiError
from ni.reads import Reads
from ni.schedule import Due, schedule_of
from ni.sql import query
from workers.pauses import pause

if TYPE_CHECKING:
    from ni.day_reads import DayState
    from ni.schedule import Schedule
    from ni.settings import Settings

BY: Final = "end-of-day"
LOOK_S: Final = 1.0
RETRY_FIRST_S: Final = 1.0
RETRY_MAX_S: Final = 10.0
TOLD_EVERY_S: Final = 3600.0

log = structlog.get_logger()


class EndOfDay:
    """Looks at the schedule and does what is due, a look at a time."""

    def __init__(self, day: BusinessDay, schedule: Schedule) -> None:
        self._day = day
        self._schedule = schedule
        self._pause_s = RETRY_FIRST_S
        self._told_at = float("-inf")

    async def step(self) -> float:
        """Do what is due, if anything is; how long to pause until the next look.

        Raises Unavailable when the database does not tell.
        """
        state = await self._day.reads.state()
        due = self._schedule.wanted(state.now, state.mode, state.since)
        if due is None:
            self._tell(state)
            self._pause_s = RETRY_FIRST_S
            return LOOK_S
        log.info("day_due", to=due.mode, due_at=due.at.isoformat(), mode=state.mode)
        answer = await self._switch(due)
        if answer is Decision.approved:
            self._told_at = float("-inf")
            self._pause_s = RETRY_FIRST_S
            return LOOK_S
        seconds, self._pause_s = self._pause_s, min(self._pause_s * 2, RETRY_MAX_S)
        log.warning("day_due_waits", to=due.mode, reason=answer.name, again_in_s=seconds)
        return seconds

    async def _switch(self, due: Due) -> Decision:
        order = DayOrder(by=BY)
        if due.mode == "night":
            answer = await self._day.close(order)
        else:
            answer = await self._day.open(order)
        if answer.decision is Decision.approved:
            document = json.loads(answer.document)
            log.info("day_is_switched", **{name: document[name] for name in ("mode", "epoch")},
                     unfinished_packets=len(document["unfinished_packets"]))  # fmt: skip
        return answer.decision

    def _tell(self, state: DayState) -> None:
        """What comes next, once an hour and after each switch."""
        if clock.monotonic() - self._told_at < TOLD_EVERY_S:
            return
        self._told_at = clock.monotonic()
        coming = self._schedule.next_due(state.now)
        log.info(
            "day_waits", mode=state.mode, epoch=state.epoch,
            next=coming and coming.mode, next_at=coming and coming.at.isoformat(),
        )  # fmt: skip


async def run(settings: Settings, stop: asyncio.Event) -> None:
    """Work until `stop` is set. Raises NiError when no schedule is set, or a wrong one."""
    schedule = schedule_of(settings)
    if schedule is None:
        raise NiError("there is no schedule: set NI_CLOSE_TIME and NI_OPEN_TIME")
    while not stop.is_set():
        try:
            await _work(settings, schedule, stop)
        except (*LOST_CONNECTION, asyncpg.PostgresError, NiError) as error:
            log.warning("end_of_day_waits", error=f"{type(error).__name__}: {error}")
            await pause(stop, RETRY_FIRST_S)


async def _work(settings: Settings, schedule: Schedule, stop: asyncio.Event) -> None:
    pools = await Pools.open(settings, 1)
    try:
        unload_pool = await open_unload_pool(settings)
        try:
            buckets = await pools.current.fetchval(query("installation_read"))
            day = BusinessDay(Reads(pools, settings, buckets), unload_pool, settings)
            worker = EndOfDay(day, schedule)
            while not stop.is_set():
                await pause(stop, await worker.step())
        finally:
            await close_pool(unload_pool)
    finally:
        await pools.close()
