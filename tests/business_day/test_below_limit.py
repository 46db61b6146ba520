"""Accounts that the core itself has left below their limit by night are told, not hidden."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import pytest

from ni.decisions import Decision
from ni.session import connected
from tests.business_day.house import House, resynchronise
from tests.engine.world import debit, hold, made
from workers.housekeeping import Housekeeper

BUCKETS = pytest.mark.parametrize("buckets", [1, 8])


async def core_charges(house: House, *names: str, fee: int) -> None:
    """The core takes a fee from these accounts, by itself."""
    await house.world.owner.execute(
        "update core.account set balance = balance - $2 where account = any ($1)", names, fee
    )


async def below(house: House) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = (await house.status())["accounts_below_limit"]
    return found


@BUCKETS
async def test_a_fee_that_puts_an_account_below_its_limit_is_told(house: House) -> None:
    """As NI counts: pending and holds included, limit too. Others are not named."""
    world = house.world
    [rich] = await world.open(balance=100_00)
    [posted] = await world.open(balance=100_00)
    [held] = await world.open(balance=100_00)
    [limited] = await world.open(balance=0, credit_limit=50_00)
    [untouched] = await world.open(balance=10_00)
    await house.desk.post(posted, 99_50)
    await house.desk.post(limited, 49_50)
    await house.desk.post(untouched, 20_00, check="none")
    await house.close()
    made(await world.engine.submit(hold(held, 99_50)))
    await core_charges(house, rich, posted, held, limited, fee=1_00)
    assert await below(house) == [], "by night nobody knows yet"
    await house.open()
    await resynchronise(house)
    expected = {posted: "0.00", held: "0.00", limited: "50.00"}
    assert await below(house) == [
        {"account": name, "available": "-0.50", "credit_limit": expected[name]}
        for name in sorted(expected)
    ]
    for name in expected:
        assert await world.available(name) == -50
        answer = await world.engine.submit(debit(name, 1))
        assert answer.decision is Decision.insufficient_funds
        assert (await world.engine.submit(hold(name, 1))).decision is Decision.insufficient_funds
    made(await world.engine.submit(debit(rich, 99_00)))
    made(await world.engine.submit(debit(posted, 1, check="none")))


@BUCKETS
async def test_a_booking_begun_by_day_and_committed_by_night_is_told(house: House) -> None:
    """What it does after the close is noted, whichever way the transaction goes."""
    [name] = await house.world.open(balance=100_00)
    async with connected(house.world.database.owner_dsn) as core:
        await core.execute("begin")
        await core.execute(
            "update core.account set balance = balance - 50 where account = $1", name
        )
        made(await house.world.engine.submit(debit(name, 99_00)))
        await house.close()
        await core.execute(
            "update core.account set balance = balance - 100 where account = $1", name
        )
        await core.execute("commit")
    await house.open()
    await resynchronise(house)
    assert [one["account"] for one in await below(house)] == [name]
    assert await house.world.available(name) == -50


async def test_expired_holds_do_not_count(house: House) -> None:
    [name] = await house.world.open(balance=100_00)
    made(await house.world.engine.submit(hold(name, 100_00)))
    await house.world.owner.execute(
        "update ni.hold set expires_at = ni.clock() - interval '1 second'"
    )
    await house.world.owner.execute(
        "update ni.state set next_expiry = ni.clock() - interval '1 second'"
    )
    await house.close()
    await core_charges(house, name, fee=1_00)
    await house.open()
    await resynchronise(house)
    assert await below(house) == []
    assert await house.world.available(name) == 99_00


async def test_the_list_is_that_of_the_last_night(house: House) -> None:
    """Still there the next night; gone in the morning in which the core has left nobody below."""
    [name] = await house.world.open(balance=50)
    await house.close()
    await core_charges(house, name, fee=1_00)
    await house.open()
    await resynchronise(house)
    assert [one["account"] for one in await below(house)] == [name]
    await house.close()
    assert [one["account"] for one in await below(house)] == [name]
    await core_charges(house, name, fee=-1_00)
    await house.open()
    await resynchronise(house)
    assert await below(house) == []


@BUCKETS
@pytest.mark.parametrize("limits", [{"housekeeping_step": 7}])
async def test_old_lists_are_deleted_and_what_is_shown_is_not(house: House) -> None:
    """In steps, by age; the list of the last night stays whatever its age."""
    world = house.world
    names = await world.open(30, balance=50)
    for _ in range(3):
        await house.close()
        await core_charges(house, *names, fee=1_00)
        await house.open()
        await resynchronise(house)
    keeper = Housekeeper(world.settings, world.engine)
    assert (await keeper.step()).below_limit == 0
    await world.owner.execute("update ni.below_limit set found_at = found_at - interval '99 days'")
    await house.close()
    while (await keeper.step()).below_limit:
        pass
    left = "select epoch, count(*) from ni.below_limit group by epoch"
    epoch = (await house.mode())[1]
    assert [tuple(row) for row in await world.owner.fetch(left)] == [(epoch - 1, 30)]
    assert len(await below(house)) == 30


async def test_nothing_is_lost_when_the_work_is_interrupted(house: House) -> None:
    """An account is noted in the transaction that forgets that the core has changed it."""
    names = await house.world.open(50, balance=50)
    await house.close()
    await core_charges(house, *names, fee=1_00)
    await house.open()
    for _ in range(3):
        working = asyncio.create_task(resynchronise(house))
        await asyncio.sleep(0.003)
        working.cancel()
        await asyncio.gather(working, return_exceptions=True)
        [row] = await house.world.owner.fetch(
            "select (select count(*) from night.changed where relation like '%account') as left,"
            " (select count(*) from ni.below_limit) as found"
        )
        assert row["left"] + row["found"] >= len(names), dict(row)
    await resynchronise(house)
    assert await house.world.owner.fetchval("select count(*) from ni.below_limit") == len(names)


@BUCKETS
async def test_the_list_shows_a_hundred_and_keeps_all(house: House) -> None:
    names = await house.world.open(130, balance=50)
    await house.close()
    await core_charges(house, *names, fee=1_00)
    await house.open()
    await resynchronise(house)
    shown = [one["account"] for one in await below(house)]
    assert shown == sorted(names)[:100]
    assert await house.world.owner.fetchval("select count(*) from ni.below_limit") == 130


async def test_many_accounts_are_looked_at_without_disturbing_a_debit(house: House) -> None:
    """50,000 of them: the flip does not wait for it, and debits meanwhile are not slow."""
    await house.world.owner.execute(
        "insert into core.account (account, kind, currency, balance)"
        " select 'MANY-' || n, 'customer', 'CZK', 50 from generate_series(1, 50000) as n"
    )
    [name] = await house.world.open(balance=100_00)
    await house.close()
    await house.world.owner.execute(
        "update core.account set balance = balance - 100 where account like 'MANY-%5'"
    )
    began = time.monotonic()
    await house.open()
    opened_s = time.monotonic() - began
    working = asyncio.create_task(resynchronise(house))
    took = []
    while not working.done():
        began = time.monotonic()
        made(await house.world.engine.submit(debit(name, 1)))
        took.append(time.monotonic() - began)
        await asyncio.sleep(0.01)
    await working
    print(
        f"opened in {opened_s:.3f} s; debits beside the listing {max(took) * 1000:.0f} ms at most"
    )
    assert opened_s < 1
    assert max(took) < 1
    assert await house.world.owner.fetchval("select count(*) from ni.below_limit") == 5_000
