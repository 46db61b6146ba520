"""A bank under load whose events leave through relays and a broker that can be killed."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, Self

import asyncpg

from tests.support.api_process import Servers
from tests.support.bank import Bank
from tests.support.broker import VirtualHost
from tests.support.caller import Caller, http_client
from tests.support.rabbitmq import RabbitMQ
from tests.torture.account_for import UnaccountedError, resolve_unanswered
from tests.torture.event_auditor import Auditor, EmbeddedAuditor
from tests.torture.event_check import LEDGER, account_for_events
from tests.torture.event_load import BankLife, EventLoad
from tests.torture.rounds import Bench, torture_bench

_ROOT: Final = Path(__file__).parents[2]
SETTLE_SECONDS: Final = 90.0
BOUND_SECONDS: Final = 60.0
STOP_SECONDS: Final = 20.0
QUEUE_KEPT_SECONDS: Final = 1.5
"""The broker writes down which queues there are half a second after a change."""
COMMITTED: Final = "select count(*) from torture.told"
WAITING: Final = "select count(*) from ni.outbox"
UNDER_WAY: Final = (Path(__file__).parent / "event_under_way.sql").read_text()
BESIDE: Final = ("packets", "housekeeping", "night-copy")
"""Workers that make events: what is booked, what expires, and the night that needs its copy."""


class WorkerProcess:
    """`python -m workers NAME`, killed and started again; each life has a log of its own."""

    def __init__(self, name: str, home: Path, environment: dict[str, str]) -> None:
        self._name = name
        self._home = home
        self._environment = environment
        self._lives = 0
        self.process: subprocess.Popen[bytes] | None = None

    @property
    def log_path(self) -> Path:
        return self._home / f"{self._name}-{id(self):x}-{self._lives}.log"

    @property
    def log(self) -> str:
        return self.log_path.read_text(errors="replace") if self.log_path.exists() else ""

    def start(self) -> Self:
        self._lives += 1
        with self.log_path.open("ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "workers", self._name],
                cwd=_ROOT,
                env=os.environ | self._environment | {"NI_HOME": str(self._home)},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )
        return self

    @property
    def is_running(self) -> bool:
        return self.process is not None and self.process.poll() is None

    @property
    def works(self) -> bool:
        """Whether this relay is the one that publishes, not one that stands by or has failed."""
        said = self.log if self.is_running else ""
        otherwise = max(said.rfind("relay_stands_by"), said.rfind("relay_waits"))
        return said.rfind("relay_works") > otherwise

    def kill(self) -> None:
        """SIGKILL, and it is reaped."""
        assert self.process is not None
        self.process.kill()
        self.process.wait(STOP_SECONDS)

    def stop(self) -> None:
        """The polite way, and the other way if it takes too long."""
        if self.process is None or not self.is_running:
            return
        self.process.send_signal(signal.SIGTERM)
        try:
            self.process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self.kill()


@dataclass(frozen=True)
class Takeover:
    """A kill of the relay that worked: when the other one had gone on with what came after it.

    `stood_still_s` of the `seconds` nothing ran on this machine, not even who measured.
    """

    seconds: float
    stood_still_s: float

    @property
    def own_s(self) -> float:
        """What the relays needed."""
        return self.seconds - self.stood_still_s


@dataclass
class EventBench:
    """One bank, two relays, one broker, one auditor, and what was done to them."""

    bench: Bench
    life: BankLife
    server: RabbitMQ
    world: VirtualHost
    relays: list[WorkerProcess]
    auditor: Auditor
    home: Path
    kinds: Counter[str] = field(default_factory=Counter)
    """How many events of each type there were when they were counted."""
    takeovers: list[Takeover] = field(default_factory=list)

    @property
    def servers(self) -> Servers:
        return self.bench.postgres.servers

    @property
    def events(self) -> int:
        """How many there were when they were counted."""
        return self.kinds.total()

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Under load, and the bank lives beside."""
        async with self.life.going_on(), self.bench.load.running():
            yield

    async def ask(self, question: str) -> int:
        """A number from the owner's session."""
        owner = await asyncpg.connect(self.servers.owner_dsn)
        try:
            found = await owner.fetchval(question)
        finally:
            await owner.close()
        return int(found)

    async def rest(self, seconds: float = SETTLE_SECONDS) -> None:
        """Wait until nothing happens by itself any more, then `settle`."""
        await resolve_unanswered(self.bench.load, 20)
        deadline = time.monotonic() + seconds
        while under_way := await self.ask(UNDER_WAY):
            if time.monotonic() > deadline:
                raise UnaccountedError(f"{under_way} still expire or wait for the core")
            await asyncio.sleep(0.1)
        await self.settle(seconds)

    async def settle(self, seconds: float = SETTLE_SECONDS) -> None:
        """Wait until all that was committed has come and the outbox is empty."""
        await resolve_unanswered(self.bench.load, 20)
        deadline = time.monotonic() + seconds
        while True:
            committed, waiting = await self.ask(COMMITTED), await self.ask(WAITING)
            arrived = len(self.auditor.first)
            if not waiting and committed <= arrived:
                return
            if time.monotonic() > deadline:
                logs = "\n".join(relay.log[-1500:] for relay in self.relays)
                raise UnaccountedError(
                    f"after {seconds} s {arrived} of {committed} events have come and {waiting}"
                    f" wait in the outbox: {logs}"
                )
            await asyncio.sleep(0.1)

    async def count(self) -> None:
        """Wait for everything, then compare everything. Raises UnaccountedError."""
        await self.rest()
        await self.count_now()

    async def count_now(self) -> None:
        """Compare everything as it is. Raises UnaccountedError."""
        if faults := self.bench.load.faults + self.life.faults:
            raise UnaccountedError("; ".join(faults[:5]))
        owner = await asyncpg.connect(self.servers.owner_dsn)
        try:
            self.kinds = await account_for_events(owner, self.auditor)
        finally:
            await owner.close()


async def until(happened: Callable[[], bool], seconds: float, what: str) -> None:
    """Wait until it is so. Raises UnaccountedError when it takes too long."""
    deadline = time.monotonic() + seconds
    while not happened():
        if time.monotonic() > deadline:
            raise UnaccountedError(f"after {seconds} s: {what}")
        await asyncio.sleep(0.02)


def relay_environment(servers: Servers, amqp_url: str) -> dict[str, str]:
    """What a relay needs, and shorter pauses than in a bank."""
    environment = {
        "NI_DATABASE_URL": servers.engine_dsn,
        "NI_AMQP_URL": amqp_url,
        "NI_RELAY_SCAN_S": "2",
        "NI_RELAY_BACKOFF_MAX_S": "2",
    }
    if amqp_url:
        # So few are read ahead that accounts are parked. PostgreSQL's queues know no such thing,
        # and each page is a commit there.
        environment["NI_RELAY_PAGE"] = "5"
    return environment


@asynccontextmanager
async def living_bank(home: Path, buckets: int) -> AsyncIterator[tuple[Bench, BankLife]]:
    """A bank that makes events of every type, each noted in a book when it is committed."""
    async with AsyncExitStack() as stack:
        packets, settings = ("torture", "torture", None), {"NI_REFUSED_EVENTS": "true"}
        bench = await stack.enter_async_context(torture_bench(home, buckets, packets, settings))
        bench.load = EventLoad(bench.load.caller, packets=packets)
        servers = bench.postgres.servers
        owner = await asyncpg.connect(servers.owner_dsn)
        await owner.execute(LEDGER)
        key = await Bank(owner).add_client("operator", ("admin",))
        await owner.close()
        for name in BESIDE:
            environment = {"NI_DATABASE_URL": servers.engine_dsn, "NI_NIGHT_COPY_INTERVAL_MS": "50"}
            worker = WorkerProcess(name, home, environment)
            stack.callback(worker.stop)
            worker.start()
        http = await stack.enter_async_context(http_client(timeout_seconds=30))
        operator = Caller(http, bench.api.base_url, key)
        yield bench, BankLife(operator, servers.owner_dsn)


@asynccontextmanager
async def event_bench(
    home: Path, buckets: int = 1, *, embedded: bool = False
) -> AsyncIterator[EventBench]:
    """Servers of their own below `home`; `embedded`: the broker stands by, and nobody uses it."""
    async with AsyncExitStack() as stack:
        bench, life = await stack.enter_async_context(living_bank(home, buckets))
        server = RabbitMQ(home)
        stack.callback(server.end)
        await asyncio.to_thread(server.start)
        world = VirtualHost("torture", server.url("torture"), server.admin)
        server.admin.make_vhost(world.name)
        servers = bench.postgres.servers
        auditor = EmbeddedAuditor(servers.engine_dsn) if embedded else Auditor(world.url)
        stack.callback(auditor.stop)
        auditor.start()
        environment = relay_environment(servers, "" if embedded else world.url)
        relays = [WorkerProcess("relay", home, environment) for _ in range(2)]
        for relay in relays:
            stack.callback(relay.stop)
            relay.start()
        await until(auditor.bound.is_set, BOUND_SECONDS, "the auditor has no queue")
        await until(lambda: any(relay.works for relay in relays), BOUND_SECONDS, "no relay works")
        await asyncio.sleep(QUEUE_KEPT_SECONDS)
        yield EventBench(bench, life, server, world, relays, auditor, home)
