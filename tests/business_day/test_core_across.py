"""What the night decides on when a transaction of the core was open at the close.

Any state in between its statements is one that the core never had: no decision may see it.
"""

from __future__ import annotations

import pytest

from ni.decisions import Decision
from ni.session import connected
from tests.business_day.house import House
from tests.engine.world import debit

pytestmark = pytest.mark.parametrize("buckets", [1, 8])
_BOOK = "update core.account set balance = balance + $2 where account = $1"


async def test_an_arrest_that_the_core_replaces_stays_an_arrest(house: House) -> None:
    [account] = await house.world.open(balance=100_00)
    await house.world.bank.block(account, "debit")
    async with connected(house.world.database.core_dsn) as core:
        await core.execute("begin")
        await core.execute("delete from core.block where account = $1", account)
        await house.close()
        await core.execute(
            "insert into core.block (account, side, legal_reference, valid_from)"
            " values ($1, 'debit', 'EX 2', now() - interval '1 day')",
            account,
        )
        await core.execute("commit")
    answer = await house.world.engine.submit(debit(account, 100_00))
    assert answer.decision is Decision.account_blocked


async def test_a_booking_that_the_core_takes_back_is_no_money(house: House) -> None:
    [account] = await house.world.open(balance=100_00)
    async with connected(house.world.database.core_dsn) as core:
        await core.execute("begin")
        await core.execute(_BOOK, account, 5_000_00)
        await house.close()
        await core.execute(_BOOK, account, -5_000_00)
        await core.execute("commit")
    answer = await house.world.engine.submit(debit(account, 5_000_00))
    assert answer.decision is Decision.insufficient_funds
    await house.open()
    assert await house.world.available(account) == 100_00


async def test_an_account_that_the_core_writes_anew_is_there_by_night(house: House) -> None:
    [account] = await house.world.open(balance=100_00)
    async with connected(house.world.database.core_dsn) as core:
        await core.execute("begin")
        await core.execute("delete from core.account where account = $1", account)
        await house.close()
        await core.execute(
            "insert into core.account (account, kind, currency, balance)"
            " values ($1, 'customer', 'CZK', 7000)",
            account,
        )
        await core.execute("commit")
    assert await house.world.available(account) == 70_00
