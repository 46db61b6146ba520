"""The triggers: by day the copy is what the core is, by night the keys are noted, whatever is done.

Each change is one that a core may make; afterwards the copy is compared row for row.
"""

from __future__ import annotations

from typing import Final

import asyncpg
import pytest

from tests.night_copy.scene import Scene, names

BUCKETS = pytest.mark.parametrize("buckets", [1, 8])
CHANGES: Final = {
    "balance": "update core.account set balance = balance + 5 where account < 'A-0005'",
    "limit": "update core.account set credit_limit = 7, status = 'closed'",
    "another_column": "update core.account set customer_id = 'C1'",
    "key": "update core.account set account = 'B-' || account where account > 'A-0004'",
    "delete": "delete from core.account where account > 'A-0004'",
    "delete_block": "delete from core.block",
    "block": "insert into core.block (account, side, legal_reference, valid_from)"
    " select account, 'all', 'order', now() from core.account",
    "block_ends": "update core.block set valid_to = now()",
    "block_moves": "update core.block set account = 'A-0007'",
    "block_key": "update core.block set block_id = default",
    "date": "update core.ledger set business_date = '2031-03-04', next_business_date ="
    " '2031-03-05'",
    "insert": "insert into core.account (account, kind, currency)"
    " select 'C-' || g, 'customer', 'CZK' from generate_series(1, 100) as g",
    "upsert": "insert into core.account (account, kind, currency) values"
    " ('A-0001', 'customer', 'CZK'), ('N', 'customer', 'CZK')"
    " on conflict (account) do update set balance = 77",
    "merge": "merge into core.account as a using (values ('A-0001'), ('A-0002'), ('M')) as v (n)"
    " on a.account = v.n when matched and v.n = 'A-0002' then delete"
    " when matched then update set balance = 3"
    " when not matched then insert (account, kind, currency) values (v.n, 'customer', 'CZK')",
    "nothing": "update core.account set balance = 1 where false",
    "gone_and_back": "with gone as (delete from core.block returning *)"
    " insert into core.block (account, side, legal_reference, valid_from)"
    " select 'A-0003', side, legal_reference, valid_from from gone",
}
"""What a core does in one statement."""


async def do(core: asyncpg.Connection, change: str) -> None:
    """A change, with its keys no longer wanted by a foreign key."""
    if change in ("key", "delete", "merge"):
        await core.execute("delete from core.block")
    await core.execute(CHANGES[change])


@BUCKETS
@pytest.mark.parametrize("change", CHANGES)
async def test_by_day_the_copy_follows(scene: Scene, change: str) -> None:
    await scene.open()
    await do(scene.core, change)
    assert await scene.is_the_same()
    assert await scene.owner.fetchval("select count(*) from night.account") > 3


@BUCKETS
@pytest.mark.parametrize("change", CHANGES)
async def test_by_night_keys_are_noted_and_the_copy_stays(scene: Scene, change: str) -> None:
    await scene.open()
    await scene.turn("night")
    before = await scene.owner.fetch("select * from night.account order by 1, 2")
    await do(scene.core, change)
    assert await scene.owner.fetch("select * from night.account order by 1, 2") == before
    differences = await scene.differences()
    assert all(noted for _, _, noted in differences)
    expected = change not in ("another_column", "nothing")
    assert (bool(differences), await scene.is_exact()) == (expected, not expected)
    assert (await scene.bring_back()).mode == ("night" if expected else "day")
    assert len(await scene.differences()) == len(differences), "by night nothing is brought back"
    await scene.turn("day")
    assert (await scene.bring_back()).exact
    assert await scene.is_the_same()


@pytest.mark.parametrize("mode", ["day", "night"])
async def test_an_unchanged_row_costs_no_write(scene: Scene, mode: str) -> None:
    await scene.open()
    await scene.turn(mode)
    places = "select array_agg(ctid::text || xmin::text) from night.account"
    before = await scene.owner.fetchval(places)
    await scene.core.execute("update core.account set customer_id = 'C2', balance = balance")
    assert await scene.owner.fetchval(places) == before
    assert await scene.notes() == []


@BUCKETS
@pytest.mark.parametrize("mode", ["day", "night"])
@pytest.mark.parametrize("table", ["block", "account"])
async def test_a_truncated_table_is_noted_as_a_whole(scene: Scene, table: str, mode: str) -> None:
    """Nobody can say which keys are gone: the copy is inexact until both sides were walked."""
    await scene.open()
    await scene.turn(mode)
    await scene.owner.execute(f"truncate core.{table} cascade")
    await scene.core.execute(
        "insert into core.account (account, kind, currency, balance)"
        " values ('A-0001', 'customer', 'CZK', 3) on conflict (account) do update set balance = 3"
    )
    assert not await scene.is_exact()
    assert {noted for _, _, noted in await scene.differences()} == {True}
    await scene.turn("day")
    assert (await scene.bring_back()).exact
    assert await scene.is_the_same()


@BUCKETS
@pytest.mark.parametrize("mode", ["day", "night"])
async def test_bulk_loading_is_seen(scene: Scene, mode: str) -> None:
    await scene.turn(mode)
    await scene.core.copy_records_to_table(
        "account",
        schema_name="core",
        columns=("account", "kind", "currency", "balance"),
        records=[(name, "customer", "CZK", 5) for name in names(3000)],
    )
    assert await scene.is_exact() is (mode == "day")
    await scene.turn("day")
    assert (await scene.bring_back()).exact
    assert await scene.is_the_same()


async def test_a_loader_that_skips_ordinary_triggers_does_not_skip_these(scene: Scene) -> None:
    opened = await scene.open()
    loader = await scene.session(scene.database.superuser_dsn)
    await loader.execute("set session_replication_role = replica")
    await loader.execute("update core.account set balance = 9 where account = $1", opened[1])
    await loader.execute("delete from core.block")
    assert await scene.is_the_same()
    await loader.execute("truncate core.block")
    assert not await scene.is_exact()


@pytest.mark.parametrize("mode", ["day", "night"])
async def test_the_core_s_path_and_rights_change_nothing(scene: Scene, mode: str) -> None:
    """Every name in the triggers is qualified, and the core's role may not do what they do."""
    [name, *_] = await scene.open()
    await scene.turn(mode)
    await scene.core.execute("set search_path = day_alias, pg_temp")
    await scene.core.execute("create temp table changed (a int); create temp table account (b int)")
    await scene.core.execute("update core.account set balance = 12 where account = $1", name)
    assert all(noted for _, _, noted in await scene.differences())
    for statement in (
        "select * from night.account", "delete from night.changed", "select night.follow_account()",
        "insert into night.changed (bucket, relation, key) values (0, 'account', 'A')",
        "select ni.rebuild_night_copy_v1()", "select night.drop_account(0::smallint, '{A}')",
    ):  # fmt: skip
        for dsn in (scene.database.core_dsn, scene.database.engine_dsn):
            other = await scene.session(dsn)
            if "rebuild" in statement and dsn == scene.database.engine_dsn:
                continue
            with pytest.raises(asyncpg.InsufficientPrivilegeError):
                await other.execute(statement)
