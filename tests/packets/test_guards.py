"""What keeps one run out of another's way, and out of the core's."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import asyncpg
import pytest

from ni.database import close_pool, open_unload_pool
from ni.decisions import Decision
from ni.errors import Overloaded
from ni.packets import Packets
from ni.session import connected
from tests.engine.world import made
from tests.packets.desk import Desk, open_desk, order
from tests.support.databases import Database

STANDS = 28_001
WAITING = (
    "select count(*) from pg_stat_activity where application_name = 'ni unload'"
    " and wait_event_type = 'Lock'"
)


@asynccontextmanager
async def _patient(desk: Desk) -> AsyncIterator[Packets]:
    """Unloads that would wait for a lock for 20 seconds, far longer than an answer may take."""
    settings = desk.world.settings.model_copy(update={"unload_lock_timeout_ms": 20_000})
    pool = await open_unload_pool(settings)
    try:
        yield Packets(pool, settings)
    finally:
        await close_pool(pool)


@asynccontextmanager
async def _watching(desk: Desk) -> AsyncIterator[asyncpg.Connection]:
    """A session that sees what every other one waits for."""
    async with connected(desk.world.database.superuser_dsn) as session:
        yield session


async def test_a_large_packet_that_is_at_its_entries_holds_no_internal_account(
    desk: Desk,
) -> None:
    """Both bring money to the same internal account; the small one is through first."""
    async with _patient(desk) as patient:
        large, small = await desk.world.open(2)
        await desk.post(large, 1_00, packet="large", narrative="large")
        await desk.post(small, 1_00, packet="small", narrative="small")
        await desk.world.owner.execute(
            "create function public.stand() returns trigger language plpgsql as $$ begin"
            f" perform pg_advisory_xact_lock_shared({STANDS}); return new; end $$;"
            "create trigger stand before insert on core.entry for each row"
            " when (new.narrative = 'large') execute function public.stand()"
        )
        async with desk.world.stranger() as other:
            async with other.transaction():
                await other.execute(f"select pg_advisory_xact_lock({STANDS})")
                running = asyncio.create_task(patient.unload(order("large"), accepted=True))
                async with asyncio.timeout(5), _watching(desk) as watch:
                    while not await watch.fetchval(WAITING):
                        await asyncio.sleep(0.005)
                async with asyncio.timeout(5):
                    assert (await desk.unload("small"))["booked"] == 1
        assert made(await running)["booked"] == 1


async def test_a_closing_day_is_told_at_once(desk: Desk) -> None:
    """Whoever closes holds the unload gate: nobody stands in a queue for it."""
    async with _patient(desk) as patient:
        [account] = await desk.world.open()
        await desk.post(account, 1_00)
        async with desk.world.stranger() as closing, closing.transaction():
            await closing.execute("lock table ni.unload_gate in exclusive mode")
            async with asyncio.timeout(5):
                answer = await patient.unload(order(), accepted=True)
            assert answer.decision is Decision.core_closed


async def test_nobody_stands_in_a_queue_for_a_row_of_the_core(desk: Desk) -> None:
    async with _patient(desk) as patient:
        [account] = await desk.world.open()
        await desk.post(account, 1_00)
        async with desk.world.stranger() as core, core.transaction():
            await core.execute("select from core.account where account = $1 for update", account)
            running = asyncio.create_task(patient.unload(order(), accepted=True))
            async with _watching(desk) as watch:
                for _ in range(50):
                    assert await watch.fetchval(WAITING) == 0
                    await asyncio.sleep(0.01)
            assert not running.done()
        assert made(await running)["booked"] == 1


async def test_so_many_unloads_and_no_more_wait(database: Database) -> None:
    async with open_desk(database, unload_queue_max=3) as desk:
        [account] = await desk.world.open()
        await desk.post(account, 1_00)
        async with desk.world.stranger() as core, core.transaction():
            await core.execute("select from core.account where account = $1 for update", account)
            running = [asyncio.create_task(desk.unload()) for _ in range(3)]
            await asyncio.sleep(0.1)
            for refused in (desk.unload(), desk.accept(), desk.reject()):
                with pytest.raises(Overloaded):
                    await refused
        assert [(await one)["booked"] for one in running].count(1) == 1
        assert (await desk.unload())["booked"] == 0
