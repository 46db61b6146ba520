"""Keeps many accounts in flight and the rows of each account in the file's order.

A reader feeds one chain of rows an account, at most LOOK_AHEAD_ROWS rows ahead. An account whose
chain is not empty stands once in the queue; whoever takes it sends its first row, compares the
answer and puts it back. So no account has two rows in flight, and a long chain holds up nobody.
Packets are unloaded beside all that, see `unloading`.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from typing import Final

from ni.errors import NiError
from ni.replay.preparation import Plan
from ni.replay.report import ReplayReport
from ni.replay.rows import Rows
from ni.replay.sender import Sender
from ni.replay.statement import Row, read_rows
from ni.replay.unloading import AT_ONCE, Unloading

LOOK_AHEAD_ROWS: Final = 10_000
_YIELD_EVERY_ROWS: Final = 100


class Replay:
    """One run over a prepared statement. `stop()` ends it early, after what is in flight."""

    def __init__(
        self,
        plan: Plan,
        sender: Sender,
        *,
        in_flight: int,
        on_answer: Callable[[ReplayReport], None] | None = None,
    ) -> None:
        self.report = ReplayReport(rows_in_file=plan.survey.rows)
        self._plan = plan
        self._sender = sender
        self._in_flight = in_flight
        self._on_answer = on_answer
        self._rows = Rows(plan, sender, self.report)
        self._unloading = Unloading(plan.survey, sender, self.report)
        self._chains: dict[str, deque[Row]] = {}
        self._ready: asyncio.Queue[str | None] = asyncio.Queue()
        self._room = asyncio.Semaphore(LOOK_AHEAD_ROWS)
        self._waiting = 0
        self._is_read = False
        self._failure: NiError | None = None
        self._stopped = False

    def stop(self) -> None:
        """No further row or packet is sent. What was not answered is left to the next run."""
        if not self._stopped:
            self._stopped = True
            self._unloading.stop()
            self._sender.hurry()
            self._room.release()
            self._dismiss()

    async def run(self) -> ReplayReport:
        """Sends every row of the file, compares every answer and unloads every packet.

        Raises NiError when the server does not answer within the sender's patience, refuses the
        key or is not NI; the rows answered until then are kept by NI and replayed by a next run.
        """
        workers = (self._work() for _ in range(self._in_flight))
        unloaders = (self._unload() for _ in range(AT_ONCE))
        await asyncio.gather(self._feed(), *workers, *unloaders)
        left = self.report.packets < len(self._plan.survey.packets)
        self.report.interrupted = left or self.report.rows < self.report.rows_in_file
        if self._failure is not None:
            raise self._failure
        return self.report

    async def _feed(self) -> None:
        try:
            survey = self._plan.survey
            for row in read_rows(survey.path, survey.currency):
                await self._room.acquire()
                if self._stopped:
                    return
                self._append(row)
                if row.seq % _YIELD_EVERY_ROWS == 0:
                    await asyncio.sleep(0)
        except NiError as error:
            self._fail(error)
        self._is_read = True
        if not self._waiting:
            self._all_answered()

    async def _unload(self) -> None:
        try:
            await self._unloading.work()
        except NiError as error:
            self._fail(error)

    def _append(self, row: Row) -> None:
        self._waiting += 1
        chain = self._chains.get(row.account)
        if chain is None:
            self._chains[row.account] = deque([row])
            self._ready.put_nowait(row.account)
        else:
            chain.append(row)

    async def _work(self) -> None:
        while True:
            account = await self._ready.get()
            if account is None or self._stopped:
                return
            chain = self._chains[account]
            try:
                await self._send(chain[0])
            except NiError as error:
                self._fail(error)
                return
            self._done(account, chain)

    def _done(self, account: str, chain: deque[Row]) -> None:
        chain.popleft()
        if chain:
            self._ready.put_nowait(account)
        else:
            del self._chains[account]
        self._room.release()
        self._waiting -= 1
        if self._is_read and not self._waiting:
            self._all_answered()

    async def _send(self, row: Row) -> None:
        await self._rows.send(row)
        self._unloading.answered(row)
        if self._on_answer is not None:
            self._on_answer(self.report)

    def _fail(self, error: NiError) -> None:
        if not self._stopped:
            self._failure = error
            self.stop()

    def _all_answered(self) -> None:
        self._dismiss()
        self._unloading.no_more()

    def _dismiss(self) -> None:
        for _ in range(self._in_flight):
            self._ready.put_nowait(None)
