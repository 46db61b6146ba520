"""A bank whose day closes and opens under load, and whose every figure is known beforehand.

The core books by itself, by night and across switches. What it has booked is kept here, apart for
day and night, so that each account's available follows from the movements alone.
"""

from __future__ import annotations

import asyncio
import subprocess
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import asyncpg

from ni.database import close_pool, open_unload_pool
from ni.packets import Packets
from ni.session import connected
from ni.settings import Settings
from tests.business_day.house import core_held
from tests.business_day.switcher import start
from tests.races.arena import minor
from tests.support.bank import Bank
from tests.support.caller import Caller, http_client
from tests.support.killable_unloader import PACKETS, resolve
from tests.support.observer import Observer
from tests.support.unloader_process import UnloaderProcess
from tests.torture.account_for import UnaccountedError, account_for, resolve_unanswered
from tests.torture.load import ACCOUNTS, OPENING_BALANCE, account
from tests.torture.packet_rounds import PacketBench, orders_against_runs
from tests.torture.rounds import Bench, torture_bench
from workers import night_copy

EQUATION: Final = (Path(__file__).parent / "night_equation.sql").read_text()
EXACT_SECONDS: Final = 30.0
SWITCHER_SECONDS: Final = 60.0
NIGHTLY: Final = 1_00
NAMES: Final = tuple(account(number) for number in range(ACCOUNTS))
OTHER: Final = {"day": "night", "night": "day"}


@dataclass
class NightBench:
    """Servers under load, and what the core has booked by itself."""

    packets: PacketBench
    owner: asyncpg.Connection
    operator: Caller
    home: Path
    by_day: Counter[str] = field(default_factory=Counter)
    """What of the core's own bookings the core's tables have."""
    by_night: Counter[str] = field(default_factory=Counter)
    """What of them the copy has."""
    switches: int = 0
    checked: int = 0

    @property
    def bench(self) -> Bench:
        return self.packets.bench

    async def mode(self) -> tuple[str, int]:
        """Mode and epoch; mode, switches and events must tell the same."""
        row = await self.owner.fetchrow("select mode, epoch from ni.mode")
        assert row is not None
        mode, epoch = row["mode"], row["epoch"]
        switches = await self.owner.fetchval("select count(*) from ni.day_switch")
        events = await self.owner.fetchval(
            "select count(*) from ni.outbox where type like 'ni.day.%'"
        )
        if not switches == events == epoch - 1 or mode != ("day" if epoch % 2 else "night"):
            raise UnaccountedError(f"{mode} in epoch {epoch}, {switches} switches, {events} events")
        return mode, epoch

    async def until_exact(self) -> None:
        """Wait until the copy may serve again; raises TimeoutError."""
        async with asyncio.timeout(EXACT_SECONDS):
            while not await self.owner.fetchval("select ni.night_copy_is_exact_v1()"):
                await asyncio.sleep(0.02)

    async def switch(self, to: str) -> None:
        """Close or open by REST; raises UnaccountedError if that is refused."""
        if to == "night":
            await self.until_exact()
        word = "close" if to == "night" else "open"
        answer = await self.operator.post(f"/v1/business-day/{word}", {})
        if answer.status != 200 or answer.body["mode"] != to:
            raise UnaccountedError(f"{word}: {answer.status} {answer.content!r}")
        self.note_switch(to)

    def note_switch(self, to: str) -> None:
        """A switch was made: a close finds a copy that is what the core is."""
        self.switches += 1
        if to == "night":
            self.by_night = Counter(self.by_day)

    async def core_works(self, seconds: float) -> None:
        """The core's evening: it holds its tables, books on every account, and lets go."""
        async with core_held(self.packets.bench.postgres.servers.owner_dsn) as core:
            await core.execute(
                "update core.account set balance = balance + $1 where kind = 'customer'", NIGHTLY
            )
            await asyncio.sleep(seconds)
            # The block ends with the commit: nothing was refused.
        self.by_day.update(dict.fromkeys(NAMES, NIGHTLY))

    def switcher(self, to: str, key: str, trigger: Path | None = None) -> subprocess.Popen[str]:
        """A switcher in a process of its own; `trigger` says where it kills itself."""
        dsn = self.packets.bench.postgres.servers.engine_dsn
        return start(dsn, trigger or self.home / "no trigger", to, key)


async def ended(process: subprocess.Popen[str]) -> tuple[int, str]:
    """How a switcher ended and its last line, the answer; raises TimeoutError."""
    try:
        async with asyncio.timeout(SWITCHER_SECONDS):
            while process.poll() is None:  # a process has no event
                await asyncio.sleep(0.005)
    finally:
        process.kill()
    said, _ = process.communicate()
    return process.returncode, said.strip().rpartition("\n")[2]


@asynccontextmanager
async def night_bench(home: Path, buckets: int = 1) -> AsyncIterator[NightBench]:
    """Servers of their own below `home`, a load, and the night copy's keeper beside."""
    async with torture_bench(home, buckets, (*PACKETS, None)) as bench:
        servers = bench.postgres.servers
        settings = Settings(database_url=servers.engine_dsn, night_copy_interval_ms=50)
        unloader = UnloaderProcess(servers, home)
        observer = await Observer.of(servers.owner_dsn)
        stop = asyncio.Event()
        async with connected(servers.owner_dsn) as owner, http_client(timeout_seconds=60) as http:
            key = await Bank(owner).add_client("operator", ("day:operate",))
            operator = Caller(http, bench.api.base_url, key)
            keeper = asyncio.create_task(night_copy.run(settings, stop))
            packets = PacketBench(bench, unloader, observer, settings)
            try:
                yield NightBench(packets, owner, operator, home)
            finally:
                unloader.kill()
                stop.set()
                await keeper


async def count(nights: NightBench) -> None:
    """Every call was served, every movement is there once, and the equation holds.

    Raises UnaccountedError.
    """
    load, faults = nights.bench.load, []
    if load.unanswered:
        faults.append(f"{len(load.unanswered)} calls were not served: {load.unanswered[:2]}")
    await resolve_unanswered(load)
    await account_for(load, Bank(nights.owner))
    faults += await equation_faults(nights)
    pool = await open_unload_pool(nights.packets.settings)
    try:
        work = Packets(pool, nights.packets.settings)
        nights.packets.repeated += await resolve(nights.packets.unloader.journal, work)
    finally:
        await close_pool(pool)
    faults += await orders_against_runs(nights.packets, nights.owner)
    if faults:
        raise UnaccountedError("; ".join(faults[:5]))


async def equation_faults(nights: NightBench) -> list[str]:
    """The accounts whose available is not opening, core's own bookings and movements."""
    mode, epoch = await nights.mode()
    own = nights.by_day if mode == "day" else nights.by_night
    rows = await nights.owner.fetch(EQUATION, list(NAMES))
    faults = []
    for row in rows:
        name, expected = row["account"], OPENING_BALANCE + own[row["account"]] + row["net"]
        answer = await nights.bench.load.caller.get(f"/v1/accounts/{name}/balance")
        shown = answer.body
        if (shown["mode"], shown["epoch"]) != (mode, epoch):
            faults.append(f"{name}: {shown['mode']} {shown['epoch']} in {mode} {epoch}")
        if minor(shown["available"]) != expected:
            faults.append(f"{name} by {mode} {epoch}: {shown['available']}, not {expected} minor")
        nights.checked += 1
    return faults
