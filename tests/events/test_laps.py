"""The outbox's laps: its size follows what waits, never what has passed."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Final

import asyncpg
import pytest

from ni.database import close_pool, open_pool
from ni.outbox import BEGINNING, LAP_BYTES_MAX, LAPS, PAGE, TURN, Outbox, Row
from ni.session import connected
from ni.settings import Settings
from tests.engine.world import debit, hold, made, open_world
from tests.events.house import Teller
from tests.packets.desk import open_desk
from tests.support.databases import Database

SIZE: Final = (
    "select sum(pg_total_relation_size(i.inhrelid))::bigint from pg_inherits as i"
    " where i.inhparent = 'ni.outbox'::regclass"
)
PUT_BACK: Final = "update ni.outbox set lap = (lap + 4) % 8"
INTO_A_PAST_LAP: Final = (Path(__file__).parent / "write_into_a_past_lap.sql").read_text()
NOW: Final = "select (date_part('epoch', clock_timestamp())::bigint >> 3 & 7)::int"
COUNT_LAPS: Final = (Path(__file__).parent / "count_laps.sql").read_text()
ASKED: Final = "select case when is_called then last_value + 1 else 0 end from ni.laps_asked"
LOCKED: Final = (
    "select count(*) from pg_locks where pid = pg_backend_pid() and mode = 'AccessExclusiveLock'"
    " and relation in (select inhrelid from pg_inherits where inhparent = 'ni.outbox'::regclass)"
)
XID: Final = "select pg_current_xact_id()"


async def deliver(outbox: Outbox) -> int:
    """Take everything out, as a relay does; how many there were."""
    count = 0
    while rows := await outbox.page(1000):
        await outbox.remove(rows)
        count += len(rows)
    return count


async def test_it_does_not_grow_with_the_events_that_pass(
    database: Database, teller: Teller, owner: asyncpg.Connection
) -> None:
    """Under a foreign transaction that is open all the time, as the core's end of day is."""
    pool = await open_pool(Settings(database_url=database.engine_dsn), "day", 1)
    accounts = [f"CZ{number}" for number in range(2500)]
    sizes = []
    try:
        async with connected(database.owner_dsn) as foreign, foreign.transaction():
            await foreign.execute(XID)
            await owner.execute(INTO_A_PAST_LAP)
            outbox = Outbox(pool, Settings(), 1)
            for _ in range(8):
                await teller.tell(accounts)
                outbox.start_over()
                assert await deliver(outbox) == len(accounts)
                for lap in LAPS:
                    await outbox.turn(lap)
                sizes.append(await owner.fetchval(SIZE))
        assert max(sizes[2:]) <= 1.2 * max(sizes[:2]), sizes
    finally:
        await close_pool(pool)


async def test_no_decision_meets_the_lock_of_a_past_lap(
    database: Database, owner: asyncpg.Connection
) -> None:
    async with open_world(database) as world, connected(database.owner_dsn) as turning:
        (name,) = await world.open()
        made(await world.engine.submit(debit(name, 1)))
        async with turning.transaction():
            now = await turning.fetchval(NOW)
            for lap in {*range(10)} - {now, (now + 1) % 8}:
                await turning.execute(f"lock table only ni.outbox_{lap}")
            async with asyncio.timeout(1):
                for _ in range(20):
                    made(await world.engine.submit(debit(name, 1)))


async def test_decisions_and_unloads_write_into_different_files(database: Database) -> None:
    """One that grows is locked for that moment, and no decision may wait for an unload."""
    async with open_desk(database) as desk:
        (name,) = await desk.world.open(balance=100_00)
        await desk.post(name, 1_00)
        await desk.unload()
        rows = await desk.world.owner.fetch("select type, lap = 9 as is_apart from ni.outbox")
    told = {row["type"] for row in rows if row["is_apart"]}
    assert told == {"ni.posting.booked", "ni.packet.unloaded"}
    assert {row["type"] for row in rows if not row["is_apart"]} == {"ni.posting.created"}


async def test_a_lap_that_somebody_writes_in_is_left(
    database: Database, teller: Teller, owner: asyncpg.Connection
) -> None:
    """It is emptied after the commit, without the event that was committed late."""
    await _fill_and_empty(teller, owner)
    async with connected(database.owner_dsn) as slow:
        transaction = slow.transaction()
        await transaction.start()
        lap = await owner.fetchval("select (n.lap + 4) % 8 from (" + NOW + " as lap) as n")
        rows = teller.rows(["SLOW"])
        await teller.write(rows, slow)
        await slow.execute("update ni.outbox set lap = $1", lap)
        assert not await owner.fetchval(TURN, lap, 0, 1000)
        await transaction.commit()
    assert await owner.fetchval("select count(*) from ni.outbox") == 1
    assert await owner.fetchval(TURN, lap, 0, 1000)
    moved = await owner.fetchrow("select event_id, lap, account from ni.outbox")
    assert moved is not None
    assert (moved["event_id"], moved["lap"], moved["account"]) == (rows[0][1], 8, "SLOW")


async def _fill_and_empty(teller: Teller, owner: asyncpg.Connection) -> None:
    await teller.tell(["A"] * 100)
    await owner.execute("delete from ni.outbox")


async def test_what_many_wait_for_is_not_moved(teller: Teller, owner: asyncpg.Connection) -> None:
    """Nor is the lap locked for a look at it."""
    await teller.tell(["A"] * 20)
    await owner.execute(PUT_BACK)
    lap = await owner.fetchval("select min(lap) from ni.outbox")
    async with owner.transaction():
        assert not await owner.fetchval(TURN, lap, 0, 19)
        assert await owner.fetchval(LOCKED) == 0
    assert await owner.fetchval("select count(*) from ni.outbox where lap < 8") == 20
    async with owner.transaction():
        assert await owner.fetchval(TURN, lap, 0, 20)
        assert await owner.fetchval(LOCKED) == 1
    assert await owner.fetchval("select count(*) from ni.outbox where lap = 8") == 20
    assert not await owner.fetchval(TURN, lap, LAP_BYTES_MAX, 20)


async def test_the_laps_that_are_written_are_never_emptied(
    teller: Teller, owner: asyncpg.Connection
) -> None:
    await teller.tell(["A"])
    for lap in range(-1, 11):
        now = await owner.fetchval(NOW)
        emptied = await owner.fetchval(TURN, lap, -1, 0)
        if now == await owner.fetchval(NOW):
            assert emptied == (lap in LAPS and lap not in (now, (now + 1) % 8)), (lap, now)


async def test_what_waits_for_a_lap_that_is_locked_waits_on(
    database: Database, teller: Teller, owner: asyncpg.Connection
) -> None:
    """Longer than a session waits for a lock: a page, and the end of what was delivered."""
    settings = Settings(database_url=database.engine_dsn)
    pool = await open_pool(settings, "day", 1)
    try:
        outbox = Outbox(pool, settings, 1)
        await teller.tell(["A"])
        async with connected(database.owner_dsn) as locking:
            for work in (outbox.page(10), outbox.remove(await _all(owner))):
                async with locking.transaction():
                    await locking.execute("lock table ni.outbox")
                    working = asyncio.create_task(work)
                    await asyncio.sleep(3 * settings.lock_timeout_ms / 1000)
                    assert not working.done()
                await working
        assert await owner.fetchval("select count(*) from ni.outbox") == 0
    finally:
        await close_pool(pool)


async def _all(owner: asyncpg.Connection) -> list[Row]:
    page = await owner.fetch(PAGE, [0], [BEGINNING], [10], [10], [])
    return list(page)


async def test_what_was_moved_after_it_was_read_is_taken_out(
    database: Database, teller: Teller, owner: asyncpg.Connection
) -> None:
    pool = await open_pool(Settings(database_url=database.engine_dsn), "day", 1)
    try:
        outbox = Outbox(pool, Settings(), 1)
        await teller.tell(["A"] * 5)
        rows: list[Row] = await outbox.page(10)
        await owner.execute("update ni.outbox set lap = 8")
        await outbox.remove(rows)
        assert await owner.fetchval("select count(*) from ni.outbox") == 0
    finally:
        await close_pool(pool)


@pytest.mark.parametrize("buckets", [1, 8])
async def test_who_writes_many_events_asks_once_for_the_lap(
    database: Database, owner: asyncpg.Connection
) -> None:
    """Not the column's default, which is asked once a row."""
    await owner.execute(COUNT_LAPS)
    async with open_desk(database, refused_events=True) as desk:
        (name,) = await desk.world.open(balance=50_00)
        made(await desk.world.engine.submit(hold(name, 1)))
        await desk.world.engine.submit(debit(name, 60_00))
        for _ in range(10):
            await desk.post(name, 1)
        types = await owner.fetch("select type, count(*) from ni.outbox group by type order by 1")
        assert [tuple(row) for row in types] == [
            ("ni.debit.refused", 1), ("ni.hold.placed", 1), ("ni.posting.created", 10),
        ]  # fmt: skip
        assert await owner.fetchval(ASKED) == 0
        await desk.unload()
        booked = "select count(*) from ni.outbox where type = 'ni.posting.booked'"
        assert await owner.fetchval(booked) == 10
        assert await owner.fetchval(ASKED) == 0
