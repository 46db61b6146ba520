"""The core's transactions across a switch of the mode: neither missed nor doubled.

A trigger reads the mode in its own statement and takes no gate. So a transaction that wrote the
copy by day goes on writing it by night, and moves it whole when it commits; one that noted by night
goes on noting by day.
"""

from __future__ import annotations

import pytest

from tests.night_copy.scene import Scene

BUCKETS = pytest.mark.parametrize("buckets", [1, 8])
LEVELS = pytest.mark.parametrize("level", ["read committed", "repeatable read"])
LOCKS = """
select distinct l.pid, relation::regclass::text from pg_locks as l
join pg_class as c on c.oid = relation
where c.relnamespace = 'core'::regnamespace and l.pid <> $1 and l.database = (
    select oid from pg_database where datname = current_database())
"""


@BUCKETS
@LEVELS
@pytest.mark.parametrize(("begun", "ended"), [("day", "night"), ("night", "day")])
async def test_a_transaction_over_a_switch(
    scene: Scene, level: str, begun: str, ended: str
) -> None:
    opened = await scene.open()
    await scene.turn(begun)
    await scene.core.execute(f"begin isolation level {level}")
    update = "update core.account set balance = balance - 100 where account = any($1)"
    await scene.core.execute(update, opened[:6])
    await scene.turn(ended)
    await scene.core.execute(update, opened[4:8])
    await scene.core.execute("delete from core.account where account = $1", opened[9])
    assert await scene.differences() == []
    await scene.core.execute("commit")
    assert all(noted for _, _, noted in await scene.differences())
    assert await scene.is_exact() == (await scene.notes() == [])
    await scene.turn("day")
    assert (await scene.bring_back()).exact
    assert await scene.is_the_same()
    balances = await scene.owner.fetch("select balance from night.account order by account")
    assert [row[0] for row in balances] == [900] * 4 + [800] * 2 + [900] * 2 + [1000]


@BUCKETS
@pytest.mark.parametrize(
    ("modes", "shown"), [(("day", "night"), [900, 900]), (("night", "day", "night"), [1000, 1000])]
)
async def test_the_night_is_shown_a_transaction_whole_or_not_at_all(
    scene: Scene, modes: tuple[str, ...], shown: list[int]
) -> None:
    """One booking in each mode; the last mode is the one that sees the commit."""
    one, other, *_ = await scene.open()
    await scene.turn(modes[0])
    await scene.core.execute("begin")
    for account, mode in zip((one, other), modes, strict=False):
        await scene.turn(mode)
        await scene.core.execute(
            "update core.account set balance = balance - 100 where account = $1", account
        )
    await scene.turn("night")
    await scene.core.execute("commit")
    rows = await scene.owner.fetch(
        "select balance from night.account where account = any($1)", [one, other]
    )
    assert [row[0] for row in rows] == shown
    await scene.turn("day")
    assert (await scene.bring_back()).exact
    assert await scene.is_the_same()


@LEVELS
async def test_what_is_undone_leaves_nothing(scene: Scene, level: str) -> None:
    opened = await scene.open()
    for mode in ("day", "night"):
        await scene.turn(mode)
        await scene.core.execute(f"begin isolation level {level}")
        await scene.core.execute("update core.account set balance = 1")
        await scene.core.execute("delete from core.account where account = $1", opened[5])
        await scene.core.execute("rollback")
        assert await scene.is_the_same()


async def test_notes_that_come_after_the_opening_are_seen(scene: Scene) -> None:
    """Their ids are older than the floor would be if it had not waited for their transaction."""
    opened = await scene.open()
    await scene.turn("night")
    await scene.core.execute("begin")
    await scene.core.execute("update core.account set balance = 1 where account = $1", opened[0])
    other = await scene.session()
    await other.execute("update core.account set balance = 2 where account = $1", opened[1])
    await scene.turn("day")
    assert (await scene.bring_back()).exact
    assert await scene.is_exact(), "nobody sees the open transaction's notes yet"
    assert await scene.owner.fetchval("select settled from ni.night_copy") == 0
    await scene.core.execute("commit")
    assert not await scene.is_exact()
    assert (await scene.bring_back()).exact
    assert await scene.is_the_same()
    assert await scene.owner.fetchval("select settled from ni.night_copy") == 2


async def test_by_night_nothing_of_the_copy_waits_for_the_core(scene: Scene) -> None:
    """The core holds its tables as a whole; status, faults, notes and chunks answer at once."""
    await scene.open()
    await scene.turn("night")
    pid = await scene.core.fetchval("select pg_backend_pid()")
    await scene.core.execute("begin")
    await scene.core.execute("update core.account set balance = balance + 1")
    await scene.owner.execute("grant maintain on all tables in schema core to ni_core")
    await scene.core.execute("lock table core.account, core.block, core.ledger")
    async with scene.pool.acquire() as session, session.transaction():
        await session.execute("set local lock_timeout = '100ms'")
        for call in (
            "ni.night_copy_is_exact_v1()", "ni.night_copy_status_v1()", "ni.noted_buckets_v1()",
            "ni.night_copy_faults_v1()", "ni.resync_night_copy_v1(0::smallint, 0, 10)",
            "ni.settle_night_copy_v1(true)", "ni.rebuild_night_copy_v1()",
            "ni.check_night_copy_v1('account', 'core', 0::smallint, null, 10, true)",
            "ni.night_copy_size_v1()",
        ):  # fmt: skip
            await session.fetch(f"select * from {call}")
        assert await scene.owner.fetch(LOCKS, pid) == []
    await scene.core.execute("commit")
    await scene.turn("day")
    assert (await scene.bring_back()).exact
    assert await scene.is_the_same()
