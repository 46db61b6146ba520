"""What the tests of events share: events in the outbox, a relay, a queue and what came out."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, Self

import asyncpg
import pika

from ni.events import Event, parse
from ni.identifiers import bucket_of, make_id

_ROOT: Final = Path(__file__).parents[2]
_HERE: Final = Path(__file__).parent
WRITE: Final = (_HERE / "write_events.sql").read_text()
WAITING: Final = "select count(*) from ni.outbox"
WAITING_OF: Final = f"{WAITING} where account = any ($1)"
LIMIT_S: Final = 40.0
STOP_S: Final = 10.0
QUIET_S: Final = 0.1
_salt = iter(range(1, 10**9))


def now_us() -> int:
    """The host's clock, which the test's server shares."""
    return time.time_ns() // 1000


@dataclass
class Teller:
    """Writes events as decisions do: of each account in its order."""

    owner: asyncpg.Connection
    buckets: int = 1
    sequences: defaultdict[str, int] = field(default_factory=lambda: defaultdict(int))
    kind: str = "ni.posting.created"

    def rows(self, accounts: Iterable[str], at_us: int | None = None) -> list[tuple[Any, ...]]:
        """One event more of each account named, as often as it is named."""
        at = now_us() if at_us is None else at_us
        made = []
        for number, account in enumerate(accounts):
            self.sequences[account] += 1
            bucket = bucket_of(account, self.buckets)
            identifier = make_id(at + number, next(_salt), bucket)
            made.append((bucket, identifier, self.kind, account, self.sequences[account]))
        return made

    async def write(
        self, rows: list[tuple[Any, ...]], by: asyncpg.Connection | None = None
    ) -> None:
        """One transaction, or a part of the one that `by` has open."""
        await (by or self.owner).execute(WRITE, *map(list, zip(*rows, strict=True)))

    async def tell(self, accounts: Iterable[str]) -> None:
        await self.write(self.rows(accounts))

    @property
    def told(self) -> int:
        """How many events there are."""
        return sum(self.sequences.values())


class RelayProcess:
    """`python -m workers relay`, with short times."""

    def __init__(self, home: Path, engine_dsn: str, amqp_url: str, **settings: str) -> None:
        self._home = home
        self._environment = {
            "NI_HOME": str(home),
            "NI_DATABASE_URL": engine_dsn,
            "NI_AMQP_URL": amqp_url,
            "NI_LOG_LEVEL": "debug",
            "NI_DELIVERY_NICE": "0",  # other tests beside it decide
            **{f"NI_{name.upper()}": value for name, value in settings.items()},
        }
        self.log_path: Final = home / f"relay-{next(_salt)}.log"
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> Self:
        with self.log_path.open("ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "workers", "relay"],
                cwd=_ROOT,
                env=os.environ | self._environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )
        return self

    def signal(self, number: signal.Signals) -> None:
        assert self.process is not None
        self.process.send_signal(number)
        if number is signal.SIGKILL:
            self.process.wait(STOP_S)

    def log(self) -> str:
        return self.log_path.read_text()

    async def until_logged(self, words: str) -> None:
        """Wait for a line of its log. Raises AssertionError with the log when it does not come."""
        await until(lambda: words in self.log(), self.log)

    def stop(self) -> None:
        if self.process is not None and self.process.poll() is None:
            self.process.send_signal(signal.SIGCONT)
            self.process.terminate()
            try:
                self.process.wait(STOP_S)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait(STOP_S)

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.stop()


async def until(
    is_true: Callable[[], bool], tell: Callable[[], object] = str, limit_s: float = LIMIT_S
) -> None:
    """Wait for it. Raises AssertionError with what `tell` says when it does not come."""
    deadline = time.monotonic() + limit_s
    while not is_true():
        if time.monotonic() > deadline:
            raise AssertionError(str(tell())[-3000:])
        await asyncio.sleep(0.02)


async def until_empty(owner: asyncpg.Connection, limit_s: float = LIMIT_S) -> None:
    """Wait until every event was taken out of the outbox."""
    deadline = time.monotonic() + limit_s
    while left := await owner.fetchval(WAITING):
        assert time.monotonic() < deadline, f"{left} events still wait"
        await asyncio.sleep(0.02)


class Taker:
    """A queue of the test's own, which takes every event."""

    def __init__(
        self, url: str, queue: str = "test", arguments: Mapping[str, Any] | None = None
    ) -> None:
        self.queue: Final = queue
        self.url: Final = url
        self._connection = pika.BlockingConnection(pika.URLParameters(url))
        self._channel = self._connection.channel()
        self._channel.exchange_declare("ni.events", "topic", durable=True)
        self._channel.queue_declare(
            queue, durable=True, arguments={"x-queue-type": "quorum", **(arguments or {})}
        )
        self._channel.queue_bind(queue, "ni.events", "ni.#")
        self.bodies: list[bytes] = []
        self._consuming = False

    def take(self) -> int:
        """Take what lies in the queue now; how much that was. It is kept in `bodies`."""
        if not self._consuming:
            self._consuming = True
            self._channel.basic_consume(
                self.queue, lambda *message: self.bodies.append(message[-1]), auto_ack=True
            )
        before = last = len(self.bodies)
        while True:
            self._connection.process_data_events(time_limit=QUIET_S)
            if len(self.bodies) == last:
                return last - before
            last = len(self.bodies)

    def take_now(self) -> int:
        """Take what has come already, without waiting; how much that was."""
        before = len(self.bodies)
        self._connection.process_data_events(time_limit=0)
        return len(self.bodies) - before

    def take_all(self, count: int) -> None:
        """Take until so many different events have come, and what comes right after them."""
        deadline = time.monotonic() + LIMIT_S
        while len(set(self.bodies)) < count and time.monotonic() < deadline:
            self.take()
        self.take()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._connection.close()


def first_deliveries(events: Iterable[Event]) -> dict[str, list[int]]:
    """The sequences of each account in the order in which they came first."""
    seen: set[str] = set()
    found: defaultdict[str, list[int]] = defaultdict(list)
    for event in events:
        if event.id not in seen and event.subject is not None:
            seen.add(event.id)
            found[event.subject].append(event.data["sequence"])
    return dict(found)


def first_read(rows: Iterable[asyncpg.Record]) -> dict[str, list[int]]:
    """The sequences of each account in the order in which rows of the outbox came."""
    found: defaultdict[str, list[int]] = defaultdict(list)
    for row in rows:
        found[row["account"]].append(row["sequence"])
    return dict(found)


def assert_complete(bodies: Iterable[bytes], teller: Teller) -> int:
    """Nothing lost, nothing invented, first deliveries in order, repeats the same bytes.

    Returns how many repeats there were.
    """
    by_id: dict[str, bytes] = {}
    events = []
    repeats = 0
    for body in bodies:
        event = parse(body)
        events.append(event)
        repeats += event.id in by_id
        assert by_id.setdefault(event.id, body) == body
    expected = {name: list(range(1, last + 1)) for name, last in teller.sequences.items()}
    assert first_deliveries(events) == expected
    return repeats
