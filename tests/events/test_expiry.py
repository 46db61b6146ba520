"""Expiry events leave within a second of their instant, also when many holds expire at once."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from datetime import datetime, timedelta

import asyncpg
import pytest

from ni.clock import utc_now
from ni.database import LOST_CONNECTION
from ni.session import connected
from tests.engine.world import debit, hold, made, open_world
from tests.events.house import RelayProcess, Taker, until
from tests.support.databases import Database
from workers import housekeeping

HOLDS = 600
"""More than one step of the sweep, and holds of one instant."""


@pytest.mark.parametrize("buckets", [1, 8])
async def test_expiry_leaves_within_a_second(
    database: Database, taker: Taker, new_relay: Callable[..., RelayProcess]
) -> None:
    relay = new_relay().start()
    await relay.until_logged("relay_publishes")
    stop = asyncio.Event()
    async with open_world(database, housekeeping_step=250) as world:
        working = asyncio.create_task(housekeeping.run(world.settings, stop))
        names = await world.open(HOLDS)
        expires_at = utc_now() + timedelta(seconds=5)
        holds = [hold(name, 40, expires_at=expires_at) for name in names]
        for answer in await world.engine.submit_batch(holds, atomic=False):
            made(answer)
        taker.take_all(HOLDS)
        assert utc_now() < expires_at, "this machine is too slow for the test's own preparation"
        arrived: list[datetime] = []

        def take() -> bool:
            if taker.take_now():
                arrived.append(utc_now())
            return len(taker.bodies) >= 2 * HOLDS

        await until(take, relay.log)
        stop.set()
        await working
    assert sum(b'"ni.hold.expired"' in body for body in taker.bodies) == HOLDS
    assert expires_at <= arrived[0]
    assert arrived[-1] - expires_at < timedelta(seconds=1), arrived[-1] - expires_at


async def test_the_sweep_begins_at_its_floor(database: Database) -> None:
    """What was swept is not looked at again, and what comes below the floor is found later."""
    async with open_world(database) as world:
        keeper = housekeeping.Housekeeper(world.settings, world.engine)
        (name,) = await world.open()
        made(await world.engine.submit(hold(name, 4, expires_at=_soon())))
        await asyncio.sleep(0.6)
        assert await keeper.expire() == 1
        assert await keeper.expire() == 0
        await world.owner.execute(
            "update ni.hold set status = 'active', expires_at = now() - interval '1 hour'"
        )
        await world.owner.execute("update ni.state set next_expiry = '2020-01-01Z', held = 4")
        assert await keeper.expire() == 0
        keeper._whole_at = time.monotonic() - housekeeping.WHOLE_SWEEP_S - 1
        assert await keeper.expire() == 1
        made(await world.engine.submit(debit(name, 5)))


def _soon() -> datetime:
    return utc_now() + timedelta(milliseconds=500)


async def test_the_housekeeper_outlives_a_table_that_is_locked(
    database: Database, owner: asyncpg.Connection
) -> None:
    """As a deploy's changes lock one: longer than a session waits for a lock."""
    stop = asyncio.Event()
    async with open_world(database) as world:
        (name,) = await world.open()
        made(await world.engine.submit(hold(name, 4, expires_at=_soon())))
        async with owner.transaction():
            await owner.execute("lock table ni.hold")
            working = asyncio.create_task(housekeeping.run(world.settings, stop))
            await asyncio.sleep(5 * world.settings.lock_timeout_ms / 1000)
            assert not working.done()
        async with asyncio.timeout(20):
            while await owner.fetchval("select count(*) from ni.hold where status = 'active'"):
                await asyncio.sleep(0.05)
        stop.set()
        await working


async def test_the_housekeeper_outlives_a_database_that_goes_away(
    database: Database, owner: asyncpg.Connection
) -> None:
    stop = asyncio.Event()
    async with open_world(database) as world:
        working = asyncio.create_task(housekeeping.run(world.settings, stop))
        await asyncio.sleep(0.5)
        async with connected(database.superuser_dsn) as superuser:
            await superuser.execute(
                "select pg_terminate_backend(pid) from pg_stat_activity where usename = 'ni_engine'"
                " and datname = current_database()"
            )
        (name,) = await world.open()
        while True:
            try:
                made(await world.engine.submit(hold(name, 4, expires_at=_soon())))
                break
            except LOST_CONNECTION:
                await asyncio.sleep(0.05)
        async with asyncio.timeout(20):
            while await owner.fetchval("select count(*) from ni.hold where status = 'active'"):
                await asyncio.sleep(0.05)
        stop.set()
        await working
