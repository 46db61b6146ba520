"""Sessions of the idle mode are warm when their turn comes, and never in the way."""

from __future__ import annotations

import asyncio
import time

import pytest

from ni import reads, transaction
from ni.database import MODES, Mode, Pools
from ni.session import connected
from ni.warmth import keep_warm, warm
from tests.business_day.house import House, core_held, no_lock_on_core
from tests.engine.world import debit, made

LAST_QUERIES = (
    "select count(*) from pg_stat_activity where datname = current_database()"
    " and application_name = 'ni ' || $1::text and query like '%' || $2::text || '%'"
)


async def test_every_idle_session_has_called_what_it_will_need(house: House) -> None:
    """Those of decisions and those of reads, whatever the mode."""
    pools = await Pools.open(house.world.settings, 3)
    try:
        for calls, last in ((transaction.warm_calls, "figures_v1"), (reads.warm_calls, "kind_v1")):
            warming = asyncio.create_task(keep_warm(pools, calls))
            async with connected(house.world.database.superuser_dsn) as superuser:
                async with asyncio.timeout(5):
                    while await superuser.fetchval(LAST_QUERIES, "night", last) < 3:
                        await asyncio.sleep(0.01)
            warming.cancel()
    finally:
        await pools.close()


async def test_first_decisions_on_accounts_are_warm_too(house: House) -> None:
    """What opens a position is planned before the night that needs it first."""
    async with connected(house.world.database.superuser_dsn) as superuser:
        name = await superuser.fetchval("select current_database()")
        await superuser.execute(f"alter database {name} set track_functions = 'all'")
    calls = "select calls from pg_stat_xact_user_functions where funcname = $1"
    pools = await Pools.open(house.world.settings, 1)
    try:
        async with pools.night.acquire() as session, session.transaction():
            for text, arguments in transaction.warm_calls("night"):
                await session.fetchrow(text, *arguments)
            for function in ("place_positions_v1", "open_positions_v1", "figures_v1", "lock_v1"):
                assert await session.fetchval(calls, function) == 1, function
    finally:
        await pools.close()
    [account] = await house.world.open(balance=100)
    await house.close()
    assert made(await house.world.engine.submit(debit(account, 1)))["epoch"] == 2


@pytest.mark.parametrize("mode", MODES)
async def test_warming_touches_no_core_by_night(house: House, mode: Mode) -> None:
    await house.close()
    async with core_held(house.world.database.owner_dsn), asyncio.timeout(5):
        async with no_lock_on_core(house.world.database.superuser_dsn):
            for calls in (transaction.warm_calls(mode), reads.warm_calls(mode)):
                await warm(house.world.pools.of(mode), calls)


async def test_warming_waits_for_no_session_that_is_in_use(house: House) -> None:
    """The mode has just come back: work has the sessions, and gets those that warming held."""
    pools = await Pools.open(house.world.settings, 3)
    try:
        async with pools.night.acquire():
            began = time.monotonic()
            await warm(pools.night, transaction.warm_calls("night"))
            assert time.monotonic() - began < 1
            assert pools.night.get_idle_size() == 2
    finally:
        await pools.close()
