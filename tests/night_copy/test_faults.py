"""Triggers that are gone, off or elsewhere: told in words, and the copy is not exact."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Final

import asyncpg
import pytest

from ni.night_copy import status
from tests.night_copy.scene import Scene

NOTED: Final = "select ni.noted_buckets_v1()"
PARTITIONS: Final = (Path(__file__).parent / "partitions.sql").read_text()
BREAKS: Final = {
    "disabled": "alter table core.account disable trigger night_copy_account_update",
    "all_disabled": "alter table core.block disable trigger user",
    "not_always": "alter table core.account enable trigger night_copy_account_insert",
    "replica_only": "alter table core.account enable replica trigger night_copy_account_delete",
    "dropped": "drop trigger night_copy_block_truncate on core.block",
    "other_function": "create or replace trigger night_copy_ledger_truncate after truncate on"
    " core.ledger for each statement execute function ni.note_everything('block');"
    " alter table core.ledger enable always trigger night_copy_ledger_truncate",
    "conditional": "create or replace trigger night_copy_block_truncate after truncate on"
    " core.block for each statement when (false) execute function ni.note_everything('block');"
    " alter table core.block enable always trigger night_copy_block_truncate",
    "renamed_away": "alter table core.block rename to old_block;"
    " create table core.block (like core.old_block including all)",
    "schema_renamed": "alter schema core rename to core_old",
    "view_replaced": "create table core.other (like core.block);"
    " create or replace view day_alias.block as"
    " select account, side, legal_reference, valid_from, valid_to from core.other",
    "one_more_table": "create table core.more (like core.block);"
    " create or replace view day_alias.block as"
    " select account, side, legal_reference, valid_from, valid_to from core.block union all"
    " select account, side, legal_reference, valid_from, valid_to from core.more",
    "child": "create table core.child () inherits (core.block)",
    "invoker": "alter function night.follow_account() security invoker",
}


@pytest.mark.parametrize("fault", BREAKS)
async def test_a_broken_trigger_is_told(scene: Scene, fault: str) -> None:
    await scene.open()
    assert await scene.is_the_same()
    assert (await status(scene.pool)).faults == ()
    await scene.owner.execute(BREAKS[fault])
    found = await status(scene.pool)
    assert not found.exact
    assert found.changed_keys == 0
    assert found.faults
    assert all("core" in text or "day_alias" in text for text in found.faults), found.faults


async def test_installing_again_repairs_and_notes_everything(scene: Scene) -> None:
    opened = await scene.open()
    await scene.owner.execute("alter table core.account disable trigger user")
    await scene.core.execute("update core.account set balance = 1 where account = $1", opened[1])
    made = await scene.owner.fetch("select ni.install_night_copy_v1() as made order by 1")
    assert [row["made"] for row in made] == [
        f"night_copy_account_{event} on core.account"
        for event in ("delete", "insert", "truncate", "update")
    ]
    assert scene.owner.is_closed() is False
    assert ("account", "core") in await scene.notes()
    assert (await scene.bring_back()).exact
    assert await scene.is_the_same()
    assert await scene.owner.fetch("select ni.install_night_copy_v1()") == []
    assert await scene.is_exact()


async def test_by_night_no_trigger_is_made(scene: Scene) -> None:
    """Making one empties the copy, which decisions read."""
    await scene.open()
    await scene.owner.execute("alter table core.account disable trigger user")
    await scene.turn("night")
    with pytest.raises(asyncpg.ObjectNotInPrerequisiteStateError, match="by day"):
        await scene.owner.execute("select ni.install_night_copy_v1()")
    assert await scene.owner.fetchval("select count(*) from night.account") == 10


async def test_who_empties_the_copy_asks_for_the_mode_himself(scene: Scene) -> None:
    """A trigger may have gone after the first look, when nobody asked because all stood."""
    await scene.open()
    await scene.turn("night")
    with pytest.raises(asyncpg.ObjectNotInPrerequisiteStateError, match="by day"):
        await scene.owner.execute("select ni.note_installed_v1('account', true)")
    assert await scene.owner.fetchval("select count(*) from night.account") == 10
    await scene.turn("day")
    async with scene.owner.transaction():
        await scene.owner.execute("select ni.note_installed_v1('account', true)")
        other = await scene.session(scene.database.owner_dsn)
        with pytest.raises(asyncpg.LockNotAvailableError):
            await other.execute("begin; lock table ni.gate in exclusive mode nowait")


async def test_installing_again_touches_no_table_of_the_core(scene: Scene) -> None:
    """A deploy by night: what stands is left alone, so nobody waits for the core."""
    await scene.open()
    blocker = await scene.session(scene.database.superuser_dsn)
    await blocker.execute("begin; lock table core.account, core.block, core.ledger")
    await scene.owner.execute("set lock_timeout = '100ms'")
    assert await scene.owner.fetch("select ni.install_night_copy_v1()") == []
    await blocker.execute("rollback")


async def test_a_partitioned_relation_is_followed_in_each_partition(scene: Scene) -> None:
    """Statements that name a partition do not fire the parent's triggers."""
    opened = await scene.open()
    await scene.owner.execute(PARTITIONS)
    assert not await scene.is_exact()
    await scene.owner.execute("select ni.install_night_copy_v1()")
    assert (await scene.bring_back()).exact
    assert await scene.is_the_same()
    for table, key in (("block", 5), ("block_low", 6), ("block_high", 150), ("block", 151)):
        await scene.core.execute(
            f"insert into core.{table} (block_id, account, side, legal_reference, valid_from)"
            " values ($1, $2, 'all', 'order', now())", key, opened[3],
        )  # fmt: skip
    await scene.core.execute("update core.block_low set side = 'debit' where block_id = 6")
    await scene.core.execute("update core.block set block_id = 160 where block_id = 5")
    assert await scene.owner.fetchval("select count(*) from night.block") == 4
    assert await scene.is_the_same()
    await scene.turn("night")
    await scene.core.execute("delete from core.block_high where block_id = 150")
    assert ("block", "150") in await scene.notes()
    await scene.turn("day")
    assert (await scene.bring_back()).exact
    await scene.core.execute("truncate core.block_low")
    assert not await scene.is_exact()
    assert (await scene.bring_back()).exact
    assert await scene.is_the_same()
    await scene.owner.execute(
        "create table core.block_more partition of core.block for values from (200) to (300)"
    )
    assert not await scene.is_exact(), "a partition without triggers"


@pytest.mark.parametrize("buckets", [1, 8])
async def test_asking_looks_at_few_pages_after_many_deleted_notes(scene: Scene) -> None:
    """Somebody's transaction keeps 200,000 deleted notes; the floor passes over them."""
    holder = await scene.session(scene.database.superuser_dsn)
    await holder.execute("begin isolation level repeatable read; create temp table held ()")
    await scene.owner.execute(
        "insert into night.changed (bucket, relation, key) select g % $1, 'account', 'X' || g"
        " from generate_series(1, 200000) as g;".replace("$1", str(scene.database.buckets))
    )
    await scene.owner.execute("delete from night.changed where key <> 'X200000'")
    slow = await _asked(scene)
    assert (await scene.bring_back()).exact
    assert await scene.owner.fetchval("select settled from ni.night_copy") == 200000
    fast = await _asked(scene)
    assert fast < slow / 50, (fast, slow)
    assert await scene.is_exact()
    await holder.execute("rollback")


async def _asked(scene: Scene) -> int:
    """How many pages a question looks at; the first one may set hints."""
    pages = 0
    for _ in range(2):
        told = await scene.owner.fetchval(f"explain (analyze, buffers, format json) {NOTED}")
        [plan] = json.loads(told)
        pages = plan["Plan"]["Shared Hit Blocks"] + plan["Plan"]["Shared Read Blocks"]
    return pages
