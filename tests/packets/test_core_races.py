"""The core's own debits against NI's, many at once on one account: the money is there once."""

from __future__ import annotations

import asyncio
import random
from contextlib import AsyncExitStack

import asyncpg
import pytest

from ni.decisions import Decision
from ni.session import connected
from tests.engine.world import debit
from tests.packets.desk import Desk, open_desk, order
from tests.races.arena import rounds
from tests.support.databases import Database
from tests.support.observer import Observer

TAKE = "update core.account set balance = balance - $2 where account = $1"
BOOK = (
    "insert into core.entry (account, amount, currency, value_date, business_date, booked_at)"
    " select $1, -$2::bigint, 'CZK', business_date, business_date, ni.clock() from core.ledger"
)
CORE_SESSIONS = 3
TRIES = 4
AMOUNT = 30_00
OPENING = 100_00


async def take(core: asyncpg.Connection, account: str) -> bool:
    """A loan's instalment that the core takes by itself, if NI says that the customer has it."""
    await asyncio.sleep(random.uniform(0, 0.01))
    async with core.transaction():
        if await core.fetchval("select ni.lock_available($1)", account) < AMOUNT:
            return False
        await core.execute(TAKE, account, AMOUNT)
        await core.execute(BOOK, account, AMOUNT)
    return True


async def spend(desk: Desk, account: str) -> bool:
    """A debit that NI decides."""
    await asyncio.sleep(random.uniform(0, 0.01))
    answer = await desk.world.engine.submit(debit(account, AMOUNT))
    assert answer.decision in (Decision.approved, Decision.insufficient_funds)
    return answer.decision is Decision.approved


@pytest.mark.parametrize("buckets", [1, 8])
async def test_the_same_money_is_never_spent_twice(database: Database) -> None:
    """Three of 30.00 out of 100.00, whoever asks, also while the packet is being unloaded."""
    async with open_desk(database) as desk:
        names = await desk.world.open(rounds(10, full=200), balance=OPENING)
        async with AsyncExitStack() as stack:
            sessions = [connected(database.core_dsn) for _ in range(CORE_SESSIONS)]
            cores = [await stack.enter_async_context(session) for session in sessions]
            for name in names:
                await spend_everything(desk, cores, name)
        assert await desk.world.bank.faults() == []
        observer = Observer(database.owner_dsn, {})
        assert await observer.packet_faults(desk.world.owner) == []


async def spend_everything(desk: Desk, cores: list[asyncpg.Connection], name: str) -> None:
    """The core, NI and an unload at once on an account; what was taken is what is missing."""

    async def core_takes(core: asyncpg.Connection) -> list[bool]:
        return [await take(core, name) for _ in range(TRIES)]

    by_ni = [spend(desk, name) for _ in range(TRIES)]
    unloads = [desk.packets.unload(order(), accepted=True) for _ in range(2)]
    taken, spent, _ = await asyncio.gather(
        asyncio.gather(*map(core_takes, cores)), asyncio.gather(*by_ni), asyncio.gather(*unloads)
    )
    times = sum(map(sum, taken)), sum(spent)
    assert sum(times) == OPENING // AMOUNT, times
    assert await desk.world.available(name) == OPENING - sum(times) * AMOUNT
    await desk.packets.unload(order(), accepted=True)
    assert await desk.core_balance(name) == OPENING - sum(times) * AMOUNT
    assert await desk.pending(name) == "0.00"
