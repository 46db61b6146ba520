"""The core's own debits: with NI's lock, the core and NI never spend the same money."""

from __future__ import annotations

import asyncio
import random

import asyncpg
import pytest

from ni.decisions import Decision
from ni.session import connected
from tests.engine.world import debit, hold
from tests.packets.desk import Desk

ROUNDS = 60
WAITS = "select exists (select from pg_locks where pid = $1 and not granted)"


async def test_it_tells_what_is_available(desk: Desk) -> None:
    [account] = await desk.world.open(balance=100_00, credit_limit=10_00)
    await desk.post(account, 30_00)
    await desk.world.engine.submit(hold(account, 5_00))
    core = await asyncpg.connect(desk.world.database.core_dsn)
    try:
        assert await core.fetchval("select ni.lock_available($1)", account) == 75_00
        with pytest.raises(asyncpg.NoDataFoundError):
            await core.fetchval("select ni.lock_available('NOBODY')")
        await desk.world.owner.execute("update ni.mode set mode = 'night'")
        with pytest.raises(asyncpg.ObjectNotInPrerequisiteStateError):
            await core.fetchval("select ni.lock_available($1)", account)
    finally:
        await core.close()


@pytest.mark.parametrize(
    "change",
    [
        pytest.param("delete from core.account", id="deleted"),
        pytest.param("update core.account set kind = 'internal'", id="internal"),
    ],
)
async def test_a_customer_of_the_past_has_nothing_available(desk: Desk, change: str) -> None:
    """NI's position of the account is there still."""
    [account] = await desk.world.open(balance=100_00)
    await desk.post(account, 30_00)
    await desk.world.owner.execute(f"{change} where account = $1", account)
    async with connected(desk.world.database.core_dsn) as core:
        with pytest.raises(asyncpg.NoDataFoundError):
            await core.fetchval("select ni.lock_available($1)", account)


async def test_who_waits_for_the_cores_row_holds_up_no_decision(desk: Desk) -> None:
    [account] = await desk.world.open(balance=100_00)
    async with (
        connected(desk.world.database.core_dsn) as core,
        desk.world.stranger() as packet,
    ):
        pid = core.get_server_pid()
        async with packet.transaction():
            await packet.execute("select from core.account where account = $1 for update", account)
            asked = asyncio.create_task(core.fetchval("select ni.lock_available($1)", account))
            async with asyncio.timeout(10):
                while not await packet.fetchval(WAITS, pid):
                    await asyncio.sleep(0.005)
            async with asyncio.timeout(2):
                await desk.post(account, 10_00)
        assert await asked == 90_00


async def test_the_same_money_is_never_spent_twice(desk: Desk) -> None:
    accounts = await desk.world.open(ROUNDS, balance=100_00)
    core = await asyncpg.connect(desk.world.database.core_dsn)
    try:
        for account in accounts:
            taken, answer = await asyncio.gather(
                _repay(core, account, 70_00), desk.world.engine.submit(debit(account, 60_00))
            )
            approved = answer.decision is Decision.approved
            assert taken is not approved, "one of the two, never both, never none"
            assert await desk.world.available(account) == (30_00 if taken else 40_00)
    finally:
        await core.close()


async def _repay(core: asyncpg.Connection, account: str, amount: int) -> bool:
    """A loan's instalment that the core takes by itself, if the customer has it."""
    await asyncio.sleep(random.uniform(0, 0.004))
    async with core.transaction():
        if await core.fetchval("select ni.lock_available($1)", account) < amount:
            return False
        await core.execute(
            "update core.account set balance = balance - $2 where account = $1", account, amount
        )
        await core.execute(
            "insert into core.entry (account, amount, currency, value_date, business_date,"
            " booked_at) select $1, -$2::bigint, 'CZK', business_date, business_date, now()"
            " from core.ledger",
            account,
            amount,
        )
    return True
