"""Rounds of bad luck for packets: the unloader or PostgreSQL is killed, then all is counted.

While decisions come in through the API, a process unloads, accepts and rejects their packets, and
accounts are arrested and set free. After each kill every packet must be in the core wholly or not
at all; an observer looks at both sides every 50 ms meanwhile.
"""

from __future__ import annotations

import asyncio
import os
import random
import signal
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import asyncpg

from ni.database import LOST_CONNECTION, close_pool, open_unload_pool
from ni.packets import Packets
from ni.settings import Settings
from tests.support.bank import Bank
from tests.support.killable_unloader import CHIEF, CLIENT, PACKETS, resolve
from tests.support.observer import Observer
from tests.support.unloader_process import UnloaderProcess
from tests.torture.account_for import (
    UnaccountedError,
    account_for,
    resolve_unanswered,
    wait_answering,
)
from tests.torture.load import ACCOUNTS, account
from tests.torture.rounds import POINT_SECONDS, RECOVERY_SECONDS, Bench, torture_bench

STEPS: Final = ("entered", "unloaded", "kept", "committed", "random")
SERVER_KILLS: Final = ("postmaster", "session")
PASSES_MAX: Final = 12


@dataclass
class PacketBench:
    """A bench whose packets are unloaded by a process that can be killed."""

    bench: Bench
    unloader: UnloaderProcess
    observer: Observer
    settings: Settings
    repeated: int = 0

    async def owner(self) -> asyncpg.Connection:
        """A new session of the owner, for the old one may have died with the server."""
        return await asyncpg.connect(self.bench.postgres.servers.owner_dsn)


@asynccontextmanager
async def packet_bench(home: Path, buckets: int = 1) -> AsyncIterator[PacketBench]:
    """Servers of their own below `home`, a load that names packets, and an unloader."""
    async with torture_bench(home, buckets, (*PACKETS, None)) as bench:
        servers = bench.postgres.servers
        observer = await Observer.of(servers.owner_dsn)
        unloader = UnloaderProcess(servers, home)
        settings = Settings(database_url=servers.engine_dsn)
        unloader.start()
        try:
            yield PacketBench(bench, unloader, observer, settings)
        finally:
            unloader.kill()


async def kill_in_turn(packets: PacketBench, number: int, draw: random.Random) -> str:
    """The round of this number: each step and each kind of server kill in turn; which it was."""
    turns = (*STEPS, *SERVER_KILLS)
    turn = turns[number % len(turns)]
    if turn in STEPS:
        await kill_unloader(packets, turn, draw)
    else:
        await kill_server(packets, turn, draw)
    return turn


async def kill_unloader(packets: PacketBench, step: str, draw: random.Random) -> None:
    """Kill the unloader under load at a named step or at any moment, and count."""
    async with under_load(packets):
        await until_working(packets)
        if step == "random":
            await asyncio.sleep(draw.uniform(0, 0.4))
            packets.unloader.kill()
        else:
            packets.unloader.trigger.write_text(f"{step} {draw.randrange(1, PASSES_MAX)} KILL")
            await until_dead(packets.unloader, step)
        await asyncio.sleep(draw.uniform(0, 0.05))
    await count(packets)
    packets.unloader.start()


async def kill_server(packets: PacketBench, what: str, draw: random.Random) -> None:
    """Kill the postmaster, or the session that is unloading, under load; then count."""
    async with under_load(packets):
        await until_working(packets)
        await asyncio.sleep(draw.uniform(0, 0.4))
        if what == "postmaster":
            packets.bench.postgres.kill()
            await asyncio.to_thread(packets.bench.postgres.start_again)
        else:
            await kill_session(packets)
        await wait_answering(packets.bench.load, RECOVERY_SECONDS)
        await asyncio.sleep(draw.uniform(0, 0.2))
        assert packets.unloader.is_running, packets.unloader.log()
        packets.unloader.kill()
    await count(packets)
    packets.unloader.start()


async def kill_session(packets: PacketBench) -> None:
    """SIGKILL to a server process that unloads at this moment; the server restarts by itself."""
    owner = await packets.owner()
    try:
        async with asyncio.timeout(POINT_SECONDS):
            while True:
                process_id = await owner.fetchval(
                    "select pid from pg_stat_activity where application_name = 'ni unload'"
                    " and backend_xid is not null limit 1"
                )
                if process_id is not None:
                    break
    finally:
        owner.terminate()
    os.kill(process_id, signal.SIGKILL)


@asynccontextmanager
async def under_load(packets: PacketBench) -> AsyncIterator[None]:
    """Decisions come in, arrests come and go, and the observer looks."""
    stop = asyncio.Event()
    arrests = asyncio.create_task(arrest(packets, stop))
    try:
        async with packets.observer.watching(), packets.bench.load.running():
            yield
    finally:
        stop.set()
        await arrests


async def arrest(packets: PacketBench, stop: asyncio.Event) -> None:
    """Block an account and set it free again, as long as the server is there."""
    while not stop.is_set():
        name = account(random.randrange(ACCOUNTS))
        try:
            owner = await packets.owner()
            try:
                await Bank(owner).block(name, random.choice(("debit", "credit", "all")))
                await asyncio.sleep(random.uniform(0, 0.05))
                await Bank(owner).unblock(name)
            finally:
                owner.terminate()
        except (*LOST_CONNECTION, asyncpg.PostgresError):
            await asyncio.sleep(0.05)


async def until_working(packets: PacketBench) -> None:
    """Return when the unloader has carried out something; raises TimeoutError."""
    known = len(list(packets.unloader.journal.lines()))
    async with asyncio.timeout(POINT_SECONDS):
        while len(list(packets.unloader.journal.lines())) < known + 2:
            assert packets.unloader.is_running, packets.unloader.log()
            await asyncio.sleep(0.01)


async def until_dead(unloader: UnloaderProcess, step: str) -> None:
    """Raises TimeoutError when the process never comes to the step."""
    try:
        async with asyncio.timeout(POINT_SECONDS):
            while unloader.is_running:  # a process has no event
                await asyncio.sleep(0.005)
    except TimeoutError as error:
        raise TimeoutError(f"the unloader never came to the step {step!r}") from error
    assert unloader.process is not None
    assert unloader.process.returncode == -signal.SIGKILL, unloader.log()


async def count(packets: PacketBench) -> None:
    """Give every order without an answer again, then account for decisions and packets."""
    await resolve_unanswered(packets.bench.load)
    pool = await open_unload_pool(packets.settings)
    try:
        work = Packets(pool, packets.settings)
        packets.repeated += await resolve(packets.unloader.journal, work)
    finally:
        await close_pool(pool)
    owner = await packets.owner()
    try:
        bank = Bank(owner)
        for number in range(ACCOUNTS):
            await bank.unblock(account(number))
        await retry_problems(packets, owner)
        await account_for(packets.bench.load, bank)
        faults = await packets.observer.packet_faults(owner)
        faults += await orders_against_runs(packets, owner)
    finally:
        await owner.close()
    if faults:
        raise UnaccountedError("; ".join(faults[:5]))


async def retry_problems(packets: PacketBench, owner: asyncpg.Connection) -> None:
    """Every problem becomes pending again, for the arrests are over."""
    rows = await owner.fetch("select posting_id from ni.posting where home and status = 'problem'")
    for row in rows:
        answer = await packets.bench.load.caller.post(
            f"/v1/problems/{row['posting_id']}/resolve", {"action": "retry", "reason": "torture"}
        )
        if answer.status != 200:
            raise UnaccountedError(f"a retry: {answer.status} {answer.content!r}")


async def orders_against_runs(packets: PacketBench, owner: asyncpg.Connection) -> list[str]:
    """Each run was told under one key alone, and each run that was told is there."""
    told: Counter[tuple[str, int]] = Counter()
    for order in packets.unloader.journal.orders().values():
        document = order.get("document", {})
        if order.get("kind") not in ("unload", "wait") or order["answer"] != "approved":
            continue
        if document["booked"] or document["problems_total"]:
            told[document["packet"], document["number"]] += 1
    rows = await owner.fetch(
        "select packet, number, client, unloaded_by, decided_by from ni.unload"
        " where packet not like 'stp.%'"
    )
    faults = [f"{run} was told {times} times" for run, times in told.items() if times > 1]
    runs = {(row["packet"], row["number"]) for row in rows}
    faults += [f"{run} is in the core and nobody ordered it" for run in runs - told.keys()]
    faults += [f"{run} was told and is not there" for run in told.keys() - runs]
    for row in rows:
        if row["client"] != CLIENT or row["decided_by"] not in (None, CHIEF):
            faults.append(f"{row['packet']} {row['number']} is of {row['client']}")
    return faults
