"""The engine: requests that wait at the same moment share one transaction.

Doors submit commands; lanes (writer tasks) take what waits, decide it in one transaction and
answer each command after the commit. A lone command is taken at once: a lane never waits for
company. An account's single commands always meet in the same lane, so that within a process a hot
account's commands share a batch instead of waiting for each other's locks.

Everything is bounded: the queue, a transaction's commands, and the time before a decision begins.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Final
from zlib import crc32

import structlog

from ni import clock, transaction
from ni.batch_state import Answer
from ni.commands import Command, accounts_of, movement_of
from ni.database import Pools, Seat
from ni.decisions import Decision
from ni.errors import Overloaded, Unavailable
from ni.queues import Queue, Unit
from ni.retries import decide_with_retries
from ni.settings import Settings
from ni.transaction import Progress
from ni.turns import End, Turns, no_turn
from ni.warmth import keep_warm

log = structlog.get_logger()


class Lane:
    """One writer: takes what waits in its queue, up to a slice, and decides it."""

    def __init__(self, engine: Engine, queue: Queue, turns: Turns | None = None) -> None:
        self._engine = engine
        self._turns = turns
        self.queue: Final = queue
        self.seat: Final = Seat(engine.pools, engine.settings)

    async def work(self) -> None:
        """Decide what comes, until cancelled."""
        try:
            while True:
                if not self.queue:
                    await self.seat.give_back()
                    await self.queue.arrival()
                await self._decide_next()
        finally:
            await self.seat.give_back()

    async def _decide_next(self) -> None:
        end = await self._turns.take() if self._turns else no_turn
        try:
            units = self.queue.take(self)
            if units:
                await self._engine.process(self, units, end)
        finally:
            self.queue.decided(self)
            end()


class Engine:
    """The one way to a decision; doors keep an instance for as long as they are open."""

    def __init__(self, settings: Settings, pools: Pools, buckets: int) -> None:
        self.settings: Final = settings
        self.pools: Final = pools
        self.buckets: Final = buckets
        turns = Turns(settings.turn_patience_ms)
        single = [Lane(self, Queue(settings.batch_slice), turns) for _ in range(settings.lanes)]
        self._queues = [lane.queue for lane in single]
        self._batches = Queue(settings.batch_slice, shared=True)
        batch_lanes = [Lane(self, self._batches) for _ in range(settings.batch_lanes)]
        self._lanes: Final = [*single, *batch_lanes]
        self._tasks: list[asyncio.Task[None]] = []
        self._in_flight: set[asyncio.Future[list[Answer]]] = set()

    @property
    def waiting(self) -> int:
        """Commands that wait for a lane."""
        return self._batches.commands + sum(queue.commands for queue in self._queues)

    def start(self) -> None:
        """Start the lanes."""
        for lane in self._lanes:
            self._tasks.append(asyncio.create_task(lane.work()))
        self._tasks.append(asyncio.create_task(keep_warm(self.pools, transaction.warm_calls)))

    async def stop(self) -> None:
        """Finish what was submitted, as long as decisions may take, then stop the lanes."""
        if self._in_flight:
            await asyncio.wait(self._in_flight, timeout=self.settings.decision_timeout_ms / 1000)
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        for queue in (*self._queues, self._batches):
            queue.abandon()

    async def submit(self, command: Command) -> Answer:
        """Decide one command; returns after its commit.

        A caller that is cancelled hears nothing any more; the decision goes on without it.
        Raises Overloaded when the queue is full or no decision began in time, Unavailable when
        the database stayed away.
        """
        unit = self._unit([command], atomic=False)
        self._queue_of(command).put(unit)
        answers = await unit.answers
        return answers[0]

    async def submit_batch(self, commands: Sequence[Command], *, atomic: bool) -> list[Answer]:
        """Decide commands in order: an atomic batch in one transaction, else slice by slice.

        Raises as `submit` does; what slices before have committed stays, and is told by the keys.
        """
        size = len(commands) if atomic else self.settings.batch_slice
        answers: list[Answer] = []
        for start in range(0, len(commands), max(1, size)):
            unit = self._unit(commands[start : start + size], atomic=atomic)
            self._batches.put(unit)
            answers += await unit.answers
        return answers

    def _unit(self, commands: Sequence[Command], *, atomic: bool) -> Unit:
        if self.waiting + len(commands) > self.settings.queue_max:
            raise Overloaded("the queue is full")
        deadline = clock.monotonic() + self.settings.decision_timeout_ms / 1000
        unit = Unit(commands, atomic, deadline)
        self._in_flight.add(unit.answers)
        unit.answers.add_done_callback(self._settled)
        return unit

    def _settled(self, answers: asyncio.Future[list[Answer]]) -> None:
        self._in_flight.discard(answers)
        if not answers.cancelled():
            answers.exception()  # it was told to the caller, or the caller has gone

    def _queue_of(self, command: Command) -> Queue:
        movement = movement_of(command)
        name = accounts_of(command)[0].encode() if movement is None else movement.bytes
        return self._queues[crc32(name) % len(self._queues)]

    async def process(self, lane: Lane, units: list[Unit], written: End) -> None:
        """Decide the units of one transaction; every unit hears its answers or why there are none.

        `written` is called when nothing but the commit is left.

        An error that is not the database's absence redoes the units one by one, then a unit's
        commands one by one, so that only the culprit fails.
        """
        try:
            commands = [command for unit in units for command in unit.commands]
            deadline = max(unit.deadline for unit in units)
            answers = await decide_with_retries(
                lane.seat, self.settings, self.buckets, commands, deadline,
                atomic=units[0].atomic, progress=Progress(lane.queue.learn, written),
            )  # fmt: skip
        except (Unavailable, asyncio.CancelledError) as error:
            reason = error if isinstance(error, Unavailable) else Unavailable("NI is stopping")
            for unit in units:
                unit.fail(reason)
            if not isinstance(error, Unavailable):
                raise
        except Exception as error:
            await self._process_apart(lane, units, error)
        else:
            self._answer(lane, units, answers)

    async def _process_apart(self, lane: Lane, units: list[Unit], error: Exception) -> None:
        if len(units) > 1:
            for unit in units:
                await self.process(lane, [unit], no_turn)
            return
        unit = units[0]
        if unit.atomic or len(unit.commands) == 1:
            unit.fail(error)
            return
        answers = [
            await self._decide_alone(lane, command, unit.deadline) for command in unit.commands
        ]
        unit.succeed(answers)

    async def _decide_alone(self, lane: Lane, command: Command, deadline: float) -> Answer:
        """A command of a slice by itself; whatever fails is its own answer, which is not kept."""
        try:
            answers = await decide_with_retries(
                lane.seat, self.settings, self.buckets, [command], deadline, atomic=False
            )
        except Unavailable:
            return Answer(Decision.overloaded, "{}")
        except Exception:
            log.exception("command_failed", command=type(command).__name__)
            return Answer(Decision.internal_error, "{}")
        return answers[0]

    def _answer(self, lane: Lane, units: list[Unit], answers: list[Answer]) -> None:
        start = 0
        for unit in units:
            part = answers[start : start + len(unit.commands)]
            start += len(unit.commands)
            if self._may_wait(unit, part):
                unit.last = part
                pause = self.settings.busy_pause_ms / 1000
                asyncio.get_running_loop().call_later(pause, lane.queue.put, unit)
            else:
                unit.succeed(part)

    def _may_wait(self, unit: Unit, answers: list[Answer]) -> bool:
        """Whether a named movement is just being unloaded and there is time to ask again."""
        pause = self.settings.busy_pause_ms / 1000
        return unit.deadline - pause > clock.monotonic() and any(
            answer.decision is Decision.posting_being_unloaded for answer in answers
        )
