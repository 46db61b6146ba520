"""Bringing back: what it may touch, what it leaves alone, and what a kill leaves behind."""

from __future__ import annotations

import asyncio
import random
from pathlib import Path
from time import monotonic
from typing import Any, Final

import asyncpg
import pytest

from ni.database import LOST_CONNECTION
from ni.night_copy import note_everything
from tests.night_copy.scene import Scene, names

BUCKETS = pytest.mark.parametrize("buckets", [1, 8])
PAUSE: Final = (Path(__file__).parent / "pause.sql").read_text()
ADD: Final = (
    "insert into core.account (account, kind, currency, balance)"
    " select n, 'customer', 'CZK', 5 from unnest($1::text[]) as n"
)
CHUNK: Final = "select * from ni.resync_night_copy_v1($1, 0, 10000)"
PLACEHOLDERS: Final = "select count(*) from night.account where kind = ''"


async def a_night_s_changes(scene: Scene, count: int) -> list[str]:
    """Every key changed, gone or new, each with its note; it is day again."""
    opened = await scene.open(count)
    await scene.turn("night")
    await scene.core.execute("delete from core.block")
    await scene.core.execute("update core.account set balance = balance + 1")
    await scene.core.execute("delete from core.account where account like '%5'")
    await scene.core.execute(ADD, names(count, "N"))
    await scene.turn("day")
    return opened


async def begun(scene: Scene, bucket: int) -> tuple[int, asyncio.Task[Any]]:
    """A chunk that has begun, and the process of the server that does it."""
    session = await scene.pool.acquire()
    try:
        pid = await session.fetchval("select pg_backend_pid()")
    except LOST_CONNECTION:  # killed while it was idle
        await scene.pool.release(session)
        return await begun(scene, bucket)

    async def work() -> Any:
        try:
            return await session.fetchrow(CHUNK, bucket)
        finally:
            await scene.pool.release(session)

    return int(pid), asyncio.create_task(work())


async def nothing_is_untold(scene: Scene) -> None:
    """What differs is noted, and no placeholder can be read."""
    assert all(noted for _, _, noted in await scene.differences())
    assert await scene.owner.fetchval(PLACEHOLDERS) == 0


@BUCKETS
async def test_a_night_s_changes_come_back(scene: Scene) -> None:
    await a_night_s_changes(scene, 300)
    told: list[int] = []
    done = await scene.bring_back(told=told.append)
    assert done.exact
    assert done.keys >= 600
    assert told[-1] == done.keys
    assert await scene.is_the_same()
    before = await scene.owner.fetchval("select copied_at from ni.night_copy")
    assert (await scene.bring_back()).keys == 0
    assert await scene.owner.fetchval("select copied_at from ni.night_copy") == before


@BUCKETS
async def test_what_the_core_holds_is_left_and_nobody_waits(scene: Scene) -> None:
    """Rows that a core transaction has changed stay noted; rows that it has only locked do not."""
    opened = await a_night_s_changes(scene, 40)
    await scene.core.execute("begin")
    held = opened[:3]
    await scene.core.execute("select from core.account where account = any($1) for update", opened)
    await scene.core.execute("update core.account set balance = 7 where account = any($1)", held)
    await scene.core.execute(ADD, ["X1"])
    began = monotonic()
    assert not (await scene.bring_back()).exact
    assert monotonic() - began < 1
    assert await scene.notes() == [("account", name) for name in held]
    await scene.core.execute("commit")
    assert (await scene.bring_back()).exact
    assert await scene.is_the_same()


async def test_a_key_that_the_core_inserts_does_not_hold_up_the_others(scene: Scene) -> None:
    """Noted by night as new and gone, inserted again by a transaction that stays open."""
    await scene.open(4)
    await scene.turn("night")
    again, others = names(12, "AGAIN"), names(50, "OTHER")
    await scene.core.execute(ADD, again + others)
    await scene.core.execute("delete from core.account where account = any($1)", again)
    await scene.turn("day")
    await scene.core.execute("begin")
    await scene.core.execute(ADD, again)
    for _ in range(20):
        await scene.bring_back()
    assert await scene.notes() == [("account", name) for name in again]
    assert await scene.owner.fetchval(
        "select count(*) from night.account where account = any($1)", others
    ) == len(others)
    await scene.core.execute("commit")
    assert (await scene.bring_back()).exact
    assert await scene.is_the_same()


@BUCKETS
async def test_it_locks_no_row_of_the_core(scene: Scene) -> None:
    """While a chunk is open, the core locks all its rows; NI has asked to read its tables only."""
    await a_night_s_changes(scene, 40)
    async with scene.pool.acquire() as session:
        await session.execute("begin")
        for bucket in range(scene.database.buckets):
            await session.fetchrow(CHUNK, bucket)
        locks = await scene.owner.fetch(
            "select distinct l.mode from pg_locks as l join pg_class as c on c.oid = l.relation"
            " where l.pid = $1 and c.relnamespace = 'core'::regnamespace",
            session.get_server_pid(),
        )
        assert [row["mode"] for row in locks] == ["AccessShareLock"]
        await scene.core.fetch("select from core.account for update nowait")
        await session.execute("commit")
    assert await scene.is_the_same()


@BUCKETS
@pytest.mark.parametrize("committed", [False, True])
async def test_a_key_deleted_while_its_place_is_made(scene: Scene, committed: bool) -> None:
    """The core's trigger cannot see the placeholder, so it leaves a note of its own."""
    await scene.open(2)
    await scene.turn("night")
    await scene.core.execute(ADD, ["NEW"])
    await scene.turn("day")
    await scene.owner.execute(PAUSE)
    work = asyncio.create_task(scene.bring_back())
    await asyncio.sleep(0.3)
    await scene.core.execute("begin")
    await scene.core.execute("delete from core.account where account = 'NEW'")
    if committed:
        await scene.core.execute("commit")
    await work
    if not committed:
        await scene.core.execute("commit")
    await nothing_is_untold(scene)
    await scene.owner.execute("drop trigger rest on night.account")
    assert (await scene.bring_back()).exact
    assert await scene.is_the_same()


@pytest.mark.parametrize("change", ["update", "delete_and_insert"])
async def test_a_key_written_while_its_place_is_made(scene: Scene, change: str) -> None:
    """The core waits for the chunk, then writes what is newer; it is never the deadlock victim."""
    await scene.open(2)
    await scene.turn("night")
    await scene.core.execute(ADD, ["NEW"])
    await scene.turn("day")
    await scene.owner.execute(PAUSE)
    work = asyncio.create_task(scene.bring_back())
    await asyncio.sleep(0.3)
    await scene.core.execute("begin")
    if change == "update":
        await scene.core.execute("update core.account set balance = 77 where account = 'NEW'")
    else:
        await scene.core.execute("delete from core.account where account = 'NEW'")
        await scene.core.execute(ADD, ["NEW"])
    await scene.core.execute("commit")
    await work
    await nothing_is_untold(scene)
    await scene.owner.execute("drop trigger rest on night.account")
    assert (await scene.bring_back()).exact
    assert await scene.is_the_same()


@BUCKETS
async def test_a_kill_at_any_moment_leaves_nothing_untold(scene: Scene) -> None:
    await a_night_s_changes(scene, 1500)
    killed = 0
    killer = await scene.session(scene.database.superuser_dsn)
    for turn in range(40):
        pid, work = await begun(scene, turn % scene.database.buckets)
        # A chunk of fewer keys takes less time.
        await asyncio.sleep(random.uniform(0, 0.12 / (1 + scene.database.buckets)))
        await killer.execute("select pg_terminate_backend($1)", pid)
        end = (await asyncio.gather(work, return_exceptions=True))[0]
        killed += isinstance(end, BaseException)
        if turn % 8 == 7:
            await nothing_is_untold(scene)
            await scene.core.execute("update core.account set balance = balance + 1")
            await note_everything(scene.pool)
    assert killed > 5
    await nothing_is_untold(scene)
    assert (await scene.bring_back()).exact
    assert await scene.is_the_same()


async def test_a_kill_between_copying_and_forgetting(scene: Scene) -> None:
    """The clock is asked after the copying, before the notes go."""
    await a_night_s_changes(scene, 30)
    was = await scene.owner.fetchval("select pg_get_functiondef('ni.clock'::regproc)")
    await scene.owner.execute(
        "create or replace function ni.clock() returns timestamptz language sql as"
        " 'select clock_timestamp() from pg_sleep(30)'"
    )
    notes = await scene.notes()
    pid, work = await begun(scene, 0)
    await asyncio.sleep(0.5)
    assert not work.done()
    killer = await scene.session(scene.database.superuser_dsn)
    await killer.execute("select pg_terminate_backend($1)", pid)
    with pytest.raises((asyncpg.PostgresError, OSError)):
        await work
    assert await scene.notes() == notes
    await nothing_is_untold(scene)
    await scene.owner.execute(was)
    assert (await scene.bring_back()).exact
    assert await scene.is_the_same()


async def test_a_note_that_comes_while_its_key_is_copied_stays(scene: Scene) -> None:
    """A transaction of the night commits between the copying and the deletion of older notes."""
    [name, *_] = await scene.open(3)
    await scene.turn("night")
    update = "update core.account set balance = balance + 1 where account = $1"
    await scene.core.execute(update, name)
    await scene.core.execute("begin")
    await scene.core.execute(update, name)
    await scene.turn("day")
    await scene.owner.execute(
        "create or replace function ni.clock() returns timestamptz language sql as"
        " 'select clock_timestamp() from pg_sleep(0.5)'"
    )
    _pid, work = await begun(scene, 0)
    await asyncio.sleep(0.3)
    await scene.core.execute("commit")
    await work
    assert [(key, noted) for _, key, noted in await scene.differences()] == [(name, True)]


@BUCKETS
async def test_two_at_once(scene: Scene) -> None:
    await a_night_s_changes(scene, 400)
    scene.settings.night_copy_chunk = 50
    await note_everything(scene.pool)
    await asyncio.gather(*(scene.bring_back() for _ in range(3)))
    assert (await scene.bring_back()).exact
    assert await scene.is_the_same()


@BUCKETS
async def test_a_full_copy_goes_on_where_it_was(scene: Scene) -> None:
    """The copy is emptied behind everybody's back, then copied anew, with a stop in the middle."""
    await scene.open(400)
    await scene.owner.execute("truncate night.account, night.block, night.ledger")
    stray = "insert into night.account values ($1, 'STRAY', 'customer', 'CZK', 'active', 1, 0)"
    await scene.owner.execute(stray, scene.database.buckets - 1)
    assert await scene.is_exact(), "nobody has noted it"
    scene.settings.night_copy_chunk = 100
    assert await note_everything(scene.pool) == "day"
    stop = asyncio.Event()

    def told(keys: int) -> None:
        if keys >= 200:
            stop.set()

    assert not (await scene.bring_back(stop=stop, told=told)).exact
    done = "select key from night.changed where relation = 'account' and side = 'core'"
    assert await scene.owner.fetchval(done) == "A-0199"
    assert await scene.owner.fetchval("select count(*) from night.account") == 201
    rest = await scene.bring_back()
    assert rest.exact
    assert rest.keys < 900
    assert await scene.is_the_same()


async def test_a_chunk_gives_way_to_the_core(scene: Scene) -> None:
    """The core holds its table as a whole by day: the chunk comes again later, and says so."""
    await a_night_s_changes(scene, 10)
    blocker = await scene.session(scene.database.superuser_dsn)
    await blocker.execute("begin; lock table core.account")
    began = monotonic()
    assert not (await scene.bring_back()).exact
    assert monotonic() - began < 1
    await blocker.execute("rollback")
    assert (await scene.bring_back()).exact


async def test_the_switch_does_not_wait_long_for_a_chunk(scene: Scene) -> None:
    """A chunk of the setting's size, in the time that a switch waits for the gate."""
    await a_night_s_changes(scene, 2000)
    work = asyncio.create_task(scene.bring_back())
    waits: list[Any] = []
    while not work.done():
        began = monotonic()
        async with scene.owner.transaction():
            await scene.owner.execute("lock table ni.gate in exclusive mode")
            waits.append(monotonic() - began)
        await asyncio.sleep(0.02)
    assert (await work).exact
    assert sorted(waits)[len(waits) // 2] < 0.1, waits
