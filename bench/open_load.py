"""The open-loop load generator, a process of its own like `bench.load`.

Requests are due on a schedule, whatever became of those before. Their time counts from the instant
at which they were due, so that a server which stalls is charged for all who came meanwhile. When
every connection is busy the next requests wait here, and that time counts, too.

It reads a `LoadSpec` from its standard input, prints `begun` when the measured part begins and a
`LoadResult` at the end. The end of the standard input ends the load early.
"""

import asyncio
import dataclasses
import gc
import sys
import time
from collections import deque
from collections.abc import Callable, Coroutine, Iterator
from functools import partial
from typing import Any, Protocol

import uvloop

from bench.load import DRAIN_LIMIT_S, FAILURES_LIMIT, Connection, Load
from bench.load_spec import BEGUN, LoadResult, LoadSpec

LATE_S = 0.003
"""The event loop's timers are exact to one millisecond; what is later was held up here."""


class Schedule:
    """Instants at equal distances. Each is reckoned from the first, so that no error adds up."""

    def __init__(self, first: float, rate: float) -> None:
        """Begin at `first`, `rate` a second."""
        self._first = first
        self._rate = rate
        self._passed = 0

    @property
    def next_at(self) -> float:
        """The first instant that has not been handed out."""
        return self._first + self._passed / self._rate

    def due(self, now: float) -> Iterator[float]:
        """Hand out every instant that has come."""
        while self.next_at <= now:
            instant = self.next_at
            self._passed += 1
            yield instant


class OpenLoad(Load):
    """The figures of an open loop, its schedule and who waits for a connection."""

    def __init__(self, spec: LoadSpec, begun: Callable[[], None]) -> None:
        """Prepare; `begun` is called when the measured part begins."""
        super().__init__(spec)
        self.idle: deque[OpenConnection] = deque()
        """Who has been idle longest comes first, or the server would close who is never asked."""
        self.waiting: deque[float] = deque()
        self.arrivals = self.late = 0
        self._begun: Callable[[], None] | None = begun

    def start_clock(self) -> None:
        """Begin the schedule with the warm-up."""
        super().start_clock()
        self.schedule = Schedule(self.begin - self.spec.warm_seconds, self.spec.rate)
        self.tick()

    def tick(self) -> None:
        """Send what is due and come back when the next is."""
        now = time.perf_counter()
        if self._begun and now >= self.begin:
            self._begun()
            self._begun = None
        self.waiting.extend(self.schedule.due(min(now, self.end)))
        self.send_waiting()
        if now < self.end:
            pause = self.schedule.next_at - time.perf_counter()
            asyncio.get_running_loop().call_later(max(pause, 0.0), self.tick)
        else:
            self.finish_idle()

    def send_waiting(self) -> None:
        """Give the waiting requests to idle connections, the longest waiting first."""
        while self.waiting and self.idle and self.failures < FAILURES_LIMIT:
            request = self.next_request()
            if request is None:
                self.waiting.clear()
                self.stop()
                return
            due_at = self.waiting.popleft()
            if self.begin <= due_at <= self.end:
                self.arrivals += 1
                self.late += time.perf_counter() - due_at > LATE_S
            self.idle.popleft().ask(request, due_at)

    def stop(self) -> None:
        """Let nothing more become due; what is under way is still counted."""
        self.end = min(self.end, time.perf_counter())

    def finish_idle(self) -> None:
        """After the end, close every connection that nobody waits for."""
        if self.failures >= FAILURES_LIMIT:
            self.waiting.clear()
        while self.idle and not self.waiting:
            self.idle.popleft().finish()

    def counted_at(self, asked_at: float, _now: float) -> float:
        """Count a request where it was due: none is left out because its answer came late."""
        return asked_at

    def measured_s(self) -> float:
        """Return how long requests were due, the warm-up left out. Raises ValueError if never."""
        if self.end <= self.begin:
            raise ValueError("the load was ended within its warm-up")
        return self.end - self.begin

    def result(self) -> LoadResult:
        """Return the figures of the measured part."""
        self.per_second = self.per_second[: int(self.measured_s())]
        result = super().result()
        return dataclasses.replace(result, arrivals=self.arrivals, late=self.late)


class OpenConnection(Connection):
    """One kept-alive connection, which waits for requests to be due."""

    def __init__(self, load: OpenLoad) -> None:
        """Belong to this load."""
        super().__init__(load)
        self.open_load = load

    def go_on(self) -> None:
        """Take the next request that waits, or be idle."""
        load = self.open_load
        load.idle.append(self)
        load.send_waiting()
        if time.perf_counter() >= load.end:
            load.finish_idle()


async def run(spec: LoadSpec, stop: asyncio.Event, begun: Callable[[], None]) -> LoadResult:
    """Offer the load until its time is up or `stop` is set, and wait for the last answer."""
    load = OpenLoad(spec, begun)
    await offer(load, stop)
    return load.result()


async def offer(load: OpenLoad, stop: asyncio.Event) -> None:
    """Send what is due until the time is up or `stop` is set, and wait for the last answer."""
    loop, spec = asyncio.get_running_loop(), load.spec
    for _ in range(spec.connections):
        made = await loop.create_connection(lambda: OpenConnection(load), "127.0.0.1", spec.port)
        load.idle.append(made[1])
    load.start_clock()
    try:
        async with asyncio.timeout(spec.warm_seconds + spec.seconds):
            await stop.wait()
    except TimeoutError:
        pass
    load.stop()
    try:
        await asyncio.wait_for(load.all_closed.wait(), DRAIN_LIMIT_S)
    except TimeoutError:
        unanswered = len(load.waiting) + load.open
        load.failed(f"{unanswered} requests unanswered {DRAIN_LIMIT_S} s after the end")


class Result(Protocol):
    """What a load has found."""

    def to_json(self) -> str:
        """Return it in one line."""
        ...


Run = Callable[[asyncio.Event, Callable[[], None]], Coroutine[Any, Any, Result]]


def by_pipe(run: Run) -> None:
    """Run one load that a line on the standard input ends; print when it begins and its result."""
    gc.disable()
    print(uvloop.run(_until_told(run)).to_json())


async def _until_told(run: Run) -> Result:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    loop.add_reader(sys.stdin.fileno(), stop.set)
    try:
        return await run(stop, lambda: print(BEGUN, flush=True))
    finally:
        loop.remove_reader(sys.stdin.fileno())


def main() -> None:
    """Run one load."""
    by_pipe(partial(run, LoadSpec.from_json(sys.stdin.readline())))


if __name__ == "__main__":
    main()
