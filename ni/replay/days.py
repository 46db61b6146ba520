"""Replays a statement date by date, and closes every date: its evening, night and morning.

The rows of a date but the last few, their packets to the core, close; the last few by night, the
core's end of day without charges, open; the night's packets to the core. A date that the core has
ended before is not closed again; its rows are sent all the same and answered as they were.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from contextlib import asynccontextmanager
from datetime import date
from itertools import groupby
from typing import Final

from ni.clock import monotonic
from ni.errors import NiError
from ni.replay.calendar import Calendar
from ni.replay.preparation import Plan
from ni.replay.report import DaysReport, ReplayReport
from ni.replay.rows import Rows
from ni.replay.sender import Sender
from ni.replay.statement import Row, read_rows
from ni.replay.switch import Switch
from ni.replay.unloading import AT_ONCE, NIGHT, unload

NIGHT_PERCENT: Final = 20
"""The share of a date's rows that is sent by night, rounded up to a whole row."""


class _Stopped(Exception):
    """Somebody has called `stop`."""


class ReplayByDay:
    """One run over a prepared statement. `stop()` ends it early, after what is in flight."""

    def __init__(
        self,
        plan: Plan,
        calendar: Calendar,
        sender: Sender,
        switch: Switch,
        *,
        in_flight: int,
        night_percent: int = NIGHT_PERCENT,
        on_answer: Callable[[ReplayReport], None] | None = None,
    ) -> None:
        self.days = DaysReport(dates=len(calendar.dates), ended_before=len(calendar.ended))
        self.report = ReplayReport(rows_in_file=plan.survey.rows, days=self.days)
        self._survey = plan.survey
        self._calendar = calendar
        self._sender = sender
        self._switch = switch
        self._in_flight = in_flight
        self._night_percent = night_percent
        self._on_answer = on_answer
        self._rows = Rows(plan, sender, self.report)
        self._failure: NiError | None = None
        self._stopped = False

    def stop(self) -> None:
        """Nothing further is sent. What was not answered is left to the next run."""
        self._stopped = True
        self._sender.hurry()
        self._switch.hurry()

    async def run(self) -> ReplayReport:
        """Replays every date and closes those that have not ended.

        Raises NiError when the server does not answer within patience, refuses a key or is not NI,
        or when NI or the core refuses to close or open.
        """
        survey = self._survey
        try:
            for day, rows in groupby(read_rows(survey.path, survey.currency), lambda row: row.day):
                await self._replay(day, list(rows))
                self.days.done += 1
        except _Stopped:
            self.report.interrupted = True
        except NiError:
            if not self._stopped:
                raise
            self.report.interrupted = True
        finally:
            self.days.waited_us = self._switch.waited_us
        return self.report

    async def _replay(self, day: date, rows: Sequence[Row]) -> None:
        if day in self._calendar.ended:
            await self._send(rows)
            return
        night = rows
        if day != self._calendar.night_of:
            first = len(rows) - (len(rows) * self._night_percent + 99) // 100
            evening, night = rows[:first], rows[first:]
            async with self._timed("day"):
                await self._send(evening)
                await self._unload(evening, 0)
            async with self._timed("close"):
                await self._switch.close()
                self.days.closes += 1
        self.days.by_night = True
        async with self._timed("night"):
            await self._send(night)
            self.days.night_rows += len(night)
        async with self._timed("end of day"):
            after = self._calendar.after(self._calendar.after(day))
            await self._switch.end(day, after)
        async with self._timed("open"):
            await self._switch.open()
            self.days.opens += 1
        self.days.by_night = False
        async with self._timed("unload"):
            await self._unload(night, NIGHT)

    @asynccontextmanager
    async def _timed(self, step: str) -> AsyncIterator[None]:
        """Counts the time of a step; nothing begins once somebody has stopped the replay."""
        if self._stopped:
            raise _Stopped
        began = monotonic()
        try:
            yield
        finally:
            self.days.took_us[step] += int((monotonic() - began) * 1_000_000)

    async def _send(self, rows: Sequence[Row]) -> None:
        """Sends rows, those of an account one after the other."""
        chains: dict[str, deque[Row]] = {}
        for row in rows:
            chains.setdefault(row.account, deque()).append(row)
        waiting = deque(chains.values())

        async def work() -> None:
            while waiting:
                for row in waiting.popleft():
                    if self._stopped or self._failure:
                        return
                    await self._rows.send(row)
                    if self._on_answer is not None:
                        self._on_answer(self.report)

        await self._all([work() for _ in range(min(self._in_flight, len(chains)))])

    async def _unload(self, rows: Sequence[Row], after_run: int | str) -> None:
        """Takes the packets of rows to the core."""
        waiting = deque(sorted({row.packet for row in rows}))

        async def work() -> None:
            while waiting and not self._failure:
                packet = waiting.popleft()
                await unload(self._sender, self._survey, self.report, packet, after_run)

        await self._all([work() for _ in range(AT_ONCE)])

    async def _all(self, works: Sequence[Coroutine[None, None, None]]) -> None:
        """Runs these beside each other; after the first failure they end. Raises that one."""

        async def guarded(work: Coroutine[None, None, None]) -> None:
            try:
                await work
            except NiError as error:
                self._failure = self._failure or error

        await asyncio.gather(*(guarded(work) for work in works))
        if self._stopped:
            raise _Stopped
        if self._failure is not None:
            raise self._failure
