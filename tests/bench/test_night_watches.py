"""What looks at the database by night sees what it is there for."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from uuid import UUID

import asyncpg
import pytest

from bench.night_figures import Morning
from bench.night_watches import FLOOR_MS, OutboxReader, core_watch, take_snapshot
from bench.queries import query
from ni.session import connected
from tests.bench.statements import statement
from tests.support.databases import Database

KEYS = 50
CHOSEN = "CZ0000000007"
MINUTE_MS = 60_000


@pytest.fixture
async def owner(database: Database) -> AsyncIterator[asyncpg.Connection]:
    """The core's owner, in a bank of 50 accounts whose copy its triggers keep."""
    async with connected(database.owner_dsn) as connection:
        await connection.execute(query("core_grows"), KEYS)
        yield connection


def morning() -> Morning:
    return Morning(changed=KEYS, postings=0, exact_s=0, snapshot_keys=KEYS)


async def snapshot(owner: asyncpg.Connection) -> tuple[int, int, list[str]]:
    """What one snapshot of all keys finds: rows that differ with a note, without, and which."""
    found = morning()
    await take_snapshot(owner, found)
    return found.noted, found.unnoted, found.unnoted_keys


async def test_a_copy_that_is_kept_does_not_differ(owner: asyncpg.Connection) -> None:
    assert await snapshot(owner) == (0, 0, [])
    await owner.execute(query("core_books"), KEYS, -1)
    await owner.execute(query("core_charges"), 20, KEYS)
    assert await snapshot(owner) == (0, 0, [])


@pytest.mark.parametrize("fault", ["night_hide", "night_hide_row", "night_hide_more"])
async def test_a_planted_difference_without_a_note_is_found(
    owner: asyncpg.Connection, fault: str
) -> None:
    await owner.execute(statement(fault), CHOSEN)
    noted, unnoted, [key] = await snapshot(owner)
    assert (noted, unnoted) == (0, 1)
    await owner.execute(statement("night_note"), "CZ0000000008")
    assert (await snapshot(owner))[1] == 1
    await owner.execute(statement("night_note"), key)
    assert await snapshot(owner) == (1, 0, [])


async def test_a_note_of_everything_counts_for_every_key(owner: asyncpg.Connection) -> None:
    await owner.execute(statement("night_hide"), CHOSEN)
    await owner.execute(statement("night_note_all"))
    assert await snapshot(owner) == (1, 0, [])


async def test_snapshots_stay_within_what_has_changed(owner: asyncpg.Connection) -> None:
    found = Morning(changed=10, postings=0, exact_s=0, snapshot_keys=4)
    for number in range(10, KEYS):
        await owner.execute(statement("night_hide"), f"CZ{number:010d}")
    for _ in range(50):
        await take_snapshot(owner, found)
    assert (found.snapshots, found.unnoted) == (50, 0)
    await owner.execute(statement("night_hide"), "CZ0000000009")
    for _ in range(100):
        await take_snapshot(owner, found)
    assert found.unnoted > 0


@pytest.mark.parametrize(
    ("who", "seen"), [("engine", True), ("core", False)], ids=["NI", "the core itself"]
)
async def test_a_planted_lock_on_the_core_is_found(
    database: Database, owner: asyncpg.Connection, who: str, seen: bool
) -> None:
    dsn = database.engine_dsn if who == "engine" else database.owner_dsn
    async with connected(dsn) as session:
        async with core_watch(database.owner_dsn) as found:
            await asyncio.sleep(0.1)
            async with session.transaction():
                await session.execute(statement("core_by_day"))
                await asyncio.sleep(0.1)
    assert found.samples > 5
    assert (0 < found.with_locks < found.samples) is seen
    assert 0 < found.longest_gap_ms < 1_000


async def test_who_waits_for_the_core_is_found(
    database: Database, owner: asyncpg.Connection
) -> None:
    async with connected(database.engine_dsn) as session:
        async with core_watch(database.owner_dsn) as found:
            async with owner.transaction():
                await owner.execute(query("core_lock"))
                waiting = asyncio.create_task(session.execute(statement("core_by_day")))
                await asyncio.sleep(0.2)
                assert not waiting.done()
            await waiting
    assert found.with_locks > 5


async def test_the_outbox_is_read_by_id_from_a_floor(owner: asyncpg.Connection) -> None:
    reader = OutboxReader()
    now_ms = 1_000 * MINUTE_MS

    def event(at_ms: int) -> UUID:
        return UUID(int=at_ms << 80 | 7)

    async def left() -> list[UUID]:
        return [row["event_id"] for row in await owner.fetch(statement("outbox_ids"))]

    for at_ms in (now_ms, now_ms - MINUTE_MS):
        await owner.execute(statement("outbox_event"), event(at_ms))
    assert await reader.poll(owner) == 2
    assert await left() == []
    late, too_late = event(now_ms - FLOOR_MS), event(now_ms - FLOOR_MS - 1)
    for one in (late, too_late):
        await owner.execute(statement("outbox_event"), one)
    assert await reader.poll(owner) == 1
    assert await left() == [too_late]
    assert reader.floor(0).int == (now_ms - FLOOR_MS) << 80
    reader._scanned_at -= 61
    assert await reader.poll(owner) == 1
    assert (reader.events, len(reader.polls_ms)) == (4, 1)


async def test_the_gate_is_taken_out_and_put_back(owner: asyncpg.Connection) -> None:
    takes = statement("gate_locks")
    before = await owner.fetchval("SELECT pg_get_functiondef('ni.lock_v1'::regproc)")
    for _ in range(2):
        await owner.execute(query("gate_off"))
        assert await owner.fetchval(takes) is False
        with pytest.raises(asyncpg.RaiseError, match="does not take the gate"):
            await owner.execute(query("gate_off"))
        await owner.execute(query("gate_on"))
        assert await owner.fetchval(takes) is True
    assert await owner.fetchval("SELECT pg_get_functiondef('ni.lock_v1'::regproc)") == before


async def test_the_triggers_are_taken_out_and_put_back(owner: asyncpg.Connection) -> None:
    await owner.execute(query("triggers_off"))
    [row] = await owner.fetch(query("triggers_state"))
    assert row["stand"] >= 4
    assert row["fire"] == 0
    await owner.execute(query("core_books"), 1, -1)
    assert await snapshot(owner) == (0, 1, ["CZ0000000000"])
    assert await owner.fetch("SELECT * FROM ni.night_copy_faults_v1()")
    await owner.execute(query("triggers_on"))
    [row] = await owner.fetch(query("triggers_state"))
    assert row["fire"] == row["stand"]
    assert not await owner.fetch("SELECT * FROM ni.night_copy_faults_v1()")
