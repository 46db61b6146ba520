"""A consumer of events, a process of its own, which notes when each event reaches it.

It reads a `SinkSpec` from its standard input and prints `begun` when it listens. A second line says
how many events there must be, and from which instant on they count; when that many have come it
prints what it found, as JSON. An event's id holds the instant of its decision to the microsecond:
the transaction commits after that, so the time until arrival is told too long, never too short.
"""

import dataclasses
import json
import select
import sys
import time
from dataclasses import dataclass
from typing import Any

import pika

from bench.load import percentile
from bench.load_spec import BEGUN

PREFETCH = 500
LOOK_S = 0.02
LIMIT_S = 120.0


@dataclass(frozen=True, slots=True)
class SinkSpec:
    """The queue that is listened to."""

    url: str
    queue: str


@dataclass(frozen=True, slots=True)
class SinkResult:
    """What came: `events` different ones, `copies` of these again. Times are of `counted` ones."""

    events: int
    copies: int
    counted: int
    p50_ms: float
    p99_ms: float
    max_ms: float


def decided_us(identifier: str) -> int:
    """The instant in an event's id, in microseconds since 1970, rounded down."""
    milliseconds = int(identifier[:8] + identifier[9:13], 16)
    return milliseconds * 1000 + (int(identifier[15:18], 16) * 1000 >> 12)


class Sink:
    """What has come so far."""

    def __init__(self) -> None:
        """Begin with nothing."""
        self.arrived_us: dict[str, int] = {}
        self.copies = 0

    def take(self, channel: Any, method: Any, _properties: Any, body: bytes) -> None:
        """Note one message and acknowledge it."""
        now_us = time.time_ns() // 1000
        identifier = json.loads(body)["id"]
        if self.arrived_us.setdefault(identifier, now_us) != now_us:
            self.copies += 1
        channel.basic_ack(method.delivery_tag)

    def result(self, since_us: int) -> SinkResult:
        """Return the figures of the events that were decided since then."""
        lags = sorted(
            (arrived - decided_us(identifier)) / 1000
            for identifier, arrived in self.arrived_us.items()
            if decided_us(identifier) >= since_us
        )
        return SinkResult(
            len(self.arrived_us), self.copies, len(lags), percentile(lags, 50),
            percentile(lags, 99), lags[-1] if lags else 0.0,
        )  # fmt: skip


def main() -> None:
    """Listen until all that must come has come."""
    spec = SinkSpec(**json.loads(sys.stdin.readline()))
    connection = pika.BlockingConnection(pika.URLParameters(spec.url))
    channel, sink = connection.channel(), Sink()
    channel.basic_qos(prefetch_count=PREFETCH)
    channel.basic_consume(spec.queue, sink.take)
    print(BEGUN, flush=True)
    asked, deadline = None, 0.0
    while asked is None or len(sink.arrived_us) < asked["events"]:
        connection.process_data_events(time_limit=LOOK_S)
        if asked is None and select.select([sys.stdin], [], [], 0)[0]:
            asked, deadline = json.loads(sys.stdin.readline()), time.monotonic() + LIMIT_S
        if asked is not None and time.monotonic() > deadline:
            break
    since_us = asked["since_us"] if asked else 0
    print(json.dumps(dataclasses.asdict(sink.result(since_us))), flush=True)
    connection.close()


if __name__ == "__main__":
    main()
