"""The load generator, a process of its own: reads a `LoadSpec` as JSON, prints a `LoadResult`.

Raw HTTP/1.1 over kept-alive connections, one request in flight on each. It answers for nothing
but the wire: about 30,000 requests a second against an endpoint that does nothing, so that it
takes a tenth of one core at the rates that it measures.
"""

import asyncio
import gc
import sys
import time
from array import array
from typing import cast

import uvloop

from bench.load_requests import request_maker
from bench.load_spec import LoadResult, LoadSpec

DRAIN_LIMIT_S = 15
SAMPLES_LIMIT = 5
SAMPLE_BYTES = 600
FAILURES_LIMIT = 100


class Load:
    """The figures that all connections of one load add to."""

    def __init__(self, spec: LoadSpec) -> None:
        """Prepare, without starting the clock."""
        self.spec = spec
        self.next_request = request_maker(spec)
        self.status = b"201" if spec.kind == "posting" else b"200"
        self.latencies = array("d")
        self.per_second = [0] * (int(spec.seconds) + 1)
        self.approved = self.approved_measured = self.failures = 0
        self.samples: list[str] = []
        self.begin = self.end = 0.0
        self.open = 0
        self.all_closed = asyncio.Event()

    def start_clock(self) -> None:
        """Begin the warm-up; the measured part follows it at once."""
        self.begin = time.perf_counter() + self.spec.warm_seconds
        self.end = self.begin + (float("inf") if self.spec.count else self.spec.seconds)

    def answered(self, answer: bytearray, asked_at: float) -> None:
        """Count one answer to what was asked at that instant."""
        now = time.perf_counter()
        approved = self._approved(answer)
        if approved == 0:
            self.failed(bytes(answer[:SAMPLE_BYTES]).decode("utf-8", "replace"))
        self.approved += approved
        counted_at = self.counted_at(asked_at, now)
        if self.begin <= counted_at <= self.end:
            self.latencies.append(now - asked_at)
            self.approved_measured += approved
            second = min(int(counted_at - self.begin), len(self.per_second) - 1)
            self.per_second[second] += approved

    def counted_at(self, _asked_at: float, now: float) -> float:
        """Return the instant that decides whether an answer belongs to the measured part."""
        return now

    def goes_on(self) -> bool:
        """Return whether there is still something to ask."""
        return time.perf_counter() < self.end and self.failures < FAILURES_LIMIT

    def failed(self, sample: str) -> None:
        """Count a failure and keep the first few for the report."""
        self.failures += 1
        if len(self.samples) < SAMPLES_LIMIT:
            self.samples.append(sample)

    def closed(self) -> None:
        """Take note that one connection has had its last answer."""
        self.open -= 1
        if self.open == 0:
            self.all_closed.set()

    def _approved(self, answer: bytearray) -> int:
        if answer[9:12] != self.status:
            return 0
        if self.spec.kind != "batch":
            return 1
        # A batch whose items are not all new approvals is a failure as a whole.
        approved = answer.count(b'"status":201')
        refused = answer.rfind(b'"refused":0')
        return approved if refused > 0 and answer.find(b'"replayed":true') < 0 else 0

    def measured_s(self) -> float:
        """Return how long the measured part was."""
        return time.perf_counter() - self.begin if self.spec.count else self.spec.seconds

    def result(self) -> LoadResult:
        """Return the figures of the measured part."""
        ordered = sorted(self.latencies)
        return LoadResult(
            rate=self.approved_measured / self.measured_s(),
            p50_ms=percentile(ordered, 50) * 1000,
            p99_ms=percentile(ordered, 99) * 1000,
            max_ms=percentile(ordered, 100) * 1000,
            approved=self.approved,
            failures=self.failures,
            samples=self.samples,
            per_second=self.per_second[: int(self.spec.seconds)],
        )


def percentile(ordered: list[float], percent: int) -> float:
    """Return the value that `percent` of the ordered values do not exceed; 0.0 of none."""
    if not ordered:
        return 0.0
    rank = -(-len(ordered) * percent // 100)
    return ordered[max(rank, 1) - 1]


class Connection(asyncio.Protocol):
    """One kept-alive connection with one request in flight."""

    def __init__(self, load: Load) -> None:
        """Belong to this load."""
        self.load = load
        self.buffer = bytearray()
        self.expected = 0
        self.asked_at = 0.0
        self.finished = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Remember where to write."""
        self.transport = cast(asyncio.Transport, transport)  # uvloop's own class, same interface
        self.load.open += 1

    def send(self) -> None:
        """Ask once; finish when there is nothing left to ask."""
        request = self.load.next_request()
        if request is None:
            self.finish()
            return
        self.ask(request, time.perf_counter())

    def ask(self, request: bytes, asked_at: float) -> None:
        """Send a request whose time counts from that instant."""
        self.asked_at = asked_at
        self.transport.write(request)

    def data_received(self, data: bytes) -> None:
        """Collect one whole answer, count it and go on."""
        buffer = self.buffer
        buffer += data
        if self.expected == 0:
            end = buffer.find(b"\r\n\r\n")
            if end < 0:
                return
            self.expected = end + 4 + content_length(bytes(buffer[:end]).lower())
        if len(buffer) < self.expected:
            return
        self.load.answered(buffer, self.asked_at)
        buffer.clear()
        self.expected = 0
        self.go_on()

    def go_on(self) -> None:
        """Ask again, or finish."""
        if self.load.goes_on():
            self.send()
        else:
            self.finish()

    def finish(self) -> None:
        """Close after the last answer."""
        if self.finished:  # the server was quicker
            return
        self.finished = True
        self.transport.close()
        self.load.closed()

    def connection_lost(self, error: Exception | None) -> None:
        """Count a connection that the server ended while we still used it."""
        if not self.finished:
            self.finished = True
            self.load.failed(f"connection lost: {error}; received {bytes(self.buffer[:200])!r}")
            self.load.closed()


def content_length(head: bytes) -> int:
    """Return the length of the body that this lower-case head announces.

    Raises ValueError if it announces none: neither NI nor the ceiling sends such an answer.
    """
    start = head.find(b"content-length: ")
    if start < 0:
        raise ValueError(f"no content-length in {head!r}")
    line_end = head.find(b"\r\n", start)
    return int(head[start + 16 : line_end if line_end > 0 else len(head)])


async def run(spec: LoadSpec) -> LoadResult:
    """Connect first, so that connecting is not measured; then ask until the time is up."""
    loop = asyncio.get_running_loop()
    load = Load(spec)
    connections = [
        (await loop.create_connection(lambda: Connection(load), "127.0.0.1", spec.port))[1]
        for _ in range(spec.connections)
    ]
    load.start_clock()
    for connection in connections:
        connection.send()
    limit = spec.warm_seconds + spec.seconds + DRAIN_LIMIT_S
    try:
        await asyncio.wait_for(load.all_closed.wait(), limit)
    except TimeoutError:
        load.failed(f"{load.open} requests unanswered {DRAIN_LIMIT_S} s after the end")
    return load.result()


def main() -> None:
    """Run one load."""
    spec = LoadSpec.from_json(sys.stdin.read())
    gc.disable()
    print(uvloop.run(run(spec)).to_json())


if __name__ == "__main__":
    main()
