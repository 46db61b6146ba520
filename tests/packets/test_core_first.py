"""The core locks the same accounts in its own order: NI gives way, the core is never the victim."""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from contextlib import AsyncExitStack

import asyncpg

from ni.session import connected
from tests.engine.world import CASH, World, debit, decisions
from tests.packets.desk import Desk, open_desk
from tests.races.arena import rounds
from tests.support.databases import Database
from tests.support.lock_watch import until_unload_held

ACCOUNTS = 8
CORES = 2
POSTINGS = 24
OPENING = 1_000_000_00
LOCK = "select from core.account where account = $1 for update"
MOVE = "update core.account set balance = balance + $2 where account = $1"


class Core:
    """Transfers of the core's own, each locking its accounts from the last name to the first."""

    def __init__(self, world: World, names: list[str]) -> None:
        self._world = world
        self._names = [*names, CASH]
        self.ends: Counter[str] = Counter()

    async def work(self, stop: asyncio.Event) -> None:
        async with connected(self._world.database.core_dsn) as session:
            while not stop.is_set():
                names = sorted(random.sample(self._names, 3), reverse=True)
                try:
                    await self._transfer(session, names)
                    self.ends["committed"] += 1
                except asyncpg.PostgresError as error:
                    self.ends[error.sqlstate or "?"] += 1
                await asyncio.sleep(random.uniform(0, 0.3))

    async def _transfer(self, session: asyncpg.Connection, names: list[str]) -> None:
        """Takes from the last, gives to the first; asks NI for the position of one of them."""
        async with session.transaction():
            for name, amount in zip(names, (-5, 0, 5), strict=True):
                await session.execute(MOVE, name, amount)
                await asyncio.sleep(random.uniform(0, 0.01))
            for name in names[:2]:
                if name != CASH:
                    await session.fetchval("select ni.lock_available($1)", name)


async def test_the_core_is_never_the_victim(database: Database) -> None:
    """Unloads, decisions and the core's transfers over the same few accounts."""
    async with open_desk(database, unload_connections=3) as desk:
        names = await desk.world.open(ACCOUNTS, balance=OPENING)
        core, stop = Core(desk.world, names), asyncio.Event()
        async with AsyncExitStack() as stack:
            stack.callback(stop.set)
            work = [asyncio.create_task(core.work(stop)) for _ in range(CORES)]
            for turn in range(rounds(5, full=100)):
                packets = [f"{name}{turn}" for name in "abc"]
                await asyncio.gather(*(fill(desk, names, packet) for packet in packets))
                runs = await asyncio.gather(*(desk.unload(packet) for packet in packets))
                assert [run["booked"] for run in runs] == [POSTINGS] * len(packets)
        await asyncio.gather(*work)
        assert core.ends.keys() == {"committed"}, core.ends
        assert await core_sum(desk) == ACCOUNTS * OPENING
        assert await desk.world.bank.faults() == []


async def fill(desk: Desk, names: list[str], packet: str) -> None:
    """Postings between all of the accounts."""
    pairs = [random.sample([*names, CASH], 2) for _ in range(POSTINGS)]
    submit = desk.world.engine.submit
    answers = await asyncio.gather(
        *(submit(debit(one, 1, other, packet=packet)) for one, other in pairs)
    )
    assert set(decisions(answers)) == {"approved"}


async def core_sum(desk: Desk) -> int:
    """All balances of the core, in minor units."""
    return int(await desk.world.owner.fetchval("select sum(balance) from core.account"))


async def test_the_core_that_waited_first_is_not_the_victim(database: Database) -> None:
    """The core waits for an account of the packet; half a second later the packet for the core's.

    The core looks for deadlocks a second after its own wait began, which may be before a wait of
    NI's that began later has run out, however short its limit: so NI must not stand in a circle.
    """
    async with open_desk(database) as desk:
        first, last = sorted(await desk.world.open(2))
        for name in (first, last):
            await desk.post(name, 1_00)
        async with desk.world.stranger() as other, connected(database.core_dsn) as core:
            async with core.transaction():
                await core.execute(LOCK, CASH)
                async with other.transaction():
                    await other.execute(LOCK, last)
                    unload = asyncio.create_task(desk.unload())  # has the first, wants the last
                    await until_unload_held(database.superuser_dsn)
                    waiting = asyncio.create_task(core.execute(LOCK, first))
                    await asyncio.sleep(0.5)
                await waiting
        assert (await unload)["booked"] == 2
