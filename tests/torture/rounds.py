"""Rounds of bad luck: the API process or PostgreSQL is killed under load, then all is counted."""

from __future__ import annotations

import asyncio
import random
import signal
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Final

import asyncpg

from tests.support.api_process import ApiProcess
from tests.support.bank import ALL_MONEY_SCOPES, Bank
from tests.support.caller import Caller, http_client
from tests.support.own_postgres import OwnPostgres
from tests.torture.account_for import account_for, resolve_unanswered, wait_answering
from tests.torture.load import Load, torture_accounts

POINTS: Final = ("random", "locked", "decided", "written", "committed", "answering")
RECOVERY_SECONDS: Final = 5.0
POINT_SECONDS: Final = 10.0
Tell = Callable[[str], None]


@dataclass
class Bench:
    """One database server, one API process that can be killed, one load."""

    postgres: OwnPostgres
    api: ApiProcess
    bank: Bank
    load: Load
    trigger: Path


@asynccontextmanager
async def torture_bench(
    home: Path,
    buckets: int = 1,
    packets: Sequence[str | None] = ("torture",),
    settings: Mapping[str, str] | None = None,
) -> AsyncIterator[Bench]:
    """Servers of their own below `home`: nobody else is hurt when they are killed.

    The load's postings name one of `packets`; None stands for straight-through. `settings` are
    the API's besides where its servers are.
    """
    async with AsyncExitStack() as stack:
        postgres = await OwnPostgres.create(home, buckets)
        stack.callback(postgres.stop)
        owner = await asyncpg.connect(postgres.servers.owner_dsn)
        bank = Bank(owner)
        await bank.open_ledger(date(2031, 3, 3), date(2031, 3, 4))
        await bank.open_accounts(torture_accounts())
        key = await bank.add_client("torturer", (*ALL_MONEY_SCOPES, "problem:resolve"))
        await owner.close()
        trigger = home / "trigger"
        environment = {"NI_TEST_TRIGGER": str(trigger), **(settings or {})}
        api = ApiProcess(postgres.servers, home, "tests.support.killable_api", environment)
        stack.callback(api.stop)
        api.start()
        http = await stack.enter_async_context(http_client(timeout_seconds=10))
        load = Load(Caller(http, api.base_url, key), packets=packets)
        yield Bench(postgres, api, bank, load, trigger)


async def kill_api(bench: Bench, point: str, draw: random.Random) -> None:
    """Kill the process under load at a named point or at any moment, start it again, and count."""
    async with bench.load.running():
        await asyncio.sleep(draw.uniform(0.1, 0.6))
        if point == "random":
            bench.api.kill(signal.SIGKILL)
        else:
            bench.trigger.write_text(f"{point} {draw.randrange(1, 60)} KILL")
            await wait_until_dead(bench.api, point)
    await asyncio.to_thread(bench.api.start)
    await count(bench)


async def wait_until_dead(api: ApiProcess, point: str) -> None:
    """Raises TimeoutError when the process never comes to the point."""
    try:
        async with asyncio.timeout(POINT_SECONDS):
            while api.is_running:  # a process has no event
                await asyncio.sleep(0.01)
    except TimeoutError as error:
        raise TimeoutError(f"the API never came to the point {point!r}") from error


async def kill_postgres(bench: Bench, draw: random.Random) -> float:
    """Kill the postmaster under load, start the server again; returns the seconds to recover.

    The API process stays and must find the server again by itself.
    """
    async with bench.load.running():
        await asyncio.sleep(draw.uniform(0.1, 0.4))
        bench.postgres.kill()
        await asyncio.sleep(draw.uniform(0, 0.5))
        await asyncio.to_thread(bench.postgres.start_again)
        started = asyncio.get_running_loop().time()
        await wait_answering(bench.load, RECOVERY_SECONDS)
        seconds = asyncio.get_running_loop().time() - started
        await asyncio.sleep(0.1)
    assert bench.api.is_running
    await count(bench)
    return seconds


async def count(bench: Bench) -> None:
    """Resolve what is open, then account for everything."""
    await resolve_unanswered(bench.load)
    owner = await asyncpg.connect(bench.postgres.servers.owner_dsn)
    try:
        await account_for(bench.load, Bank(owner))
    finally:
        await owner.close()
