"""What the copy stands on: a core that changes it never leaves a wrong copy exact.

After each act the copy is inexact, or it shows what the views of the day show. What can be put
right without the owner of the core's tables is put right by bringing back; the rest is a fault.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

import pytest

from ni.night_copy import status
from tests.night_copy.scene import Scene

_HERE: Final = Path(__file__).parent
PARTITIONS: Final = (_HERE / "partitions.sql").read_text()
VIEWS_DIFFER: Final = (_HERE / "views_differ.sql").read_text()
ADD: Final = (
    "insert into {} (block_id, account, side, legal_reference, valid_from)"
    " select g, 'A-0003', 'all', 'order', '2031-03-03' from generate_series({}, {}) as g"
)
BLOCK_VIEW: Final = (
    "create or replace view day_alias.block as"
    " select account, side, legal_reference, valid_from, valid_to from core.block"
)
ALWAYS: Final = "".join(
    f"alter table core.{table} enable always trigger night_copy_{relation}_{event};"
    for table, relation in (("account", "account"), ("block_low", "block"))
    for event in ("insert", "update", "delete", "truncate")
)
HEALED: Final = {
    "partition_dropped": "drop table core.block_low",
    "triggers_off_for_a_while": "alter table core.account disable trigger user;"
    " update core.account set balance = 7;" + ALWAYS,
    "one_trigger_off_for_a_while": "alter table core.account disable trigger"
    " night_copy_account_update; update core.account set balance = 7;"
    " alter table core.account enable always trigger night_copy_account_update",
    "detached_and_attached": "alter table core.block detach partition core.block_low;"
    " alter table core.block_low disable trigger user; delete from core.block_low;"
    + ALWAYS
    + "alter table core.block attach partition core.block_low for values from (1) to (100)",
    "unlogged_and_logged": "alter table core.ledger set unlogged;"
    " alter table core.ledger set logged",
    "rewritten": "alter table core.account alter column customer_id type varchar(90) using 'other'",
}
"""What ends with everything in place; something may have been missed meanwhile."""
FAULTS: Final = {
    "partition_detached": "alter table core.block detach partition core.block_low",
    "partition_attached": "create table core.block_more (like core.block);"
    + ADD.format("core.block_more", 300, 305)
    + "; alter table core.block attach partition core.block_more for values from (300) to (400)",
    "child_taken_away": "create table core.more () inherits (core.account)",
    "unlogged": "alter table core.ledger set unlogged",
    "dropped_and_made_again": "drop table core.block cascade;"
    ' create table core.block (block_id bigint unique, account text collate "C", side text,'
    " legal_reference text, valid_from timestamptz, valid_to timestamptz);" + BLOCK_VIEW,
    "view_made_again": BLOCK_VIEW + " where side <> 'all'",
    "column_names_changed": "alter table core.account rename balance to old;"
    " alter table core.account rename credit_limit to balance;"
    " alter table core.account rename old to credit_limit",
    "source_changed": "update ni.night_source set columns = columns ||"
    " '{\"credit_limit\": \"r.credit_limit + 1\"}' where relation = 'account'",
}
"""What needs the owner: the copy stays inexact until he has called the installer."""
SEEN: Final = {
    "rule_instead": "create rule elsewhere as on delete to core.block do instead"
    " update core.block set side = 'debit' where block_id = old.block_id;"
    " delete from core.block",
    "rule_nothing": "create rule nothing as on insert to core.block do instead nothing;"
    + ADD.format("core.block", 400, 402),
    "replica": "set session_replication_role = replica; update core.account set balance = 8;"
    " delete from core.block; reset session_replication_role",
    "loaded_frozen": "begin; truncate core.account cascade; copy core.account (account, kind,"
    " currency) from program 'echo F-1,customer,CZK' with (freeze, format csv); commit",
    "renamed_there_and_back": "alter table core.account rename to other;"
    " update core.other set balance = 9; alter table core.other rename to account",
    "column_added_and_dropped": "alter table core.account add column more int default 5;"
    " update core.account set balance = more; alter table core.account drop column more",
    "cascade": "delete from core.block; alter table core.block add foreign key (account)"
    " references core.account on update cascade",
}
"""What the triggers see."""

SUBSCRIBED: Final = (
    "create subscription test_lines connection 'dbname=nowhere' publication p"
    " with (connect = false, slot_name = none);"
    "set allow_system_table_mods = on;"
    "insert into pg_subscription_rel select s.oid, 'core.account'::regclass, 'r', null"
    "  from pg_subscription as s where s.subname = 'test_lines'"
)
UNSUBSCRIBED: Final = "alter subscription test_lines disable; drop subscription test_lines"


async def partitioned(scene: Scene) -> None:
    """Accounts, and blocks in two partitions, followed and exact."""
    await scene.open()
    await scene.owner.execute(PARTITIONS)
    await scene.owner.execute("select ni.install_night_copy_v1()")
    await scene.owner.execute(ADD.format("core.block", 1, 5))
    await scene.owner.execute(ADD.format("core.block", 150, 155))
    assert (await scene.bring_back()).exact
    assert await differences(scene) == []


async def differences(scene: Scene) -> list[str]:
    """What the views of the night show otherwise than those of the day."""
    return [str(row["what"]) for row in await scene.owner.fetch(VIEWS_DIFFER)]


async def act(scene: Scene, statements: str) -> None:
    """As the owner of the core's tables; what only the server's master may do, as he."""
    masters = ("replica", "program", "subscription")
    is_master = any(word in statements for word in masters)
    dsn = scene.database.superuser_dsn if is_master else scene.database.owner_dsn
    session = await scene.session(dsn)
    await session.execute(statements)
    await session.close()


@pytest.mark.parametrize("change", HEALED)
async def test_what_may_have_been_missed_is_compared_again(scene: Scene, change: str) -> None:
    await partitioned(scene)
    await act(scene, HEALED[change])
    assert not await scene.is_exact()
    assert (await status(scene.pool)).faults == ()
    assert (await scene.bring_back()).exact
    assert await differences(scene) == []
    assert (await scene.bring_back()).keys == 0, "once"


@pytest.mark.parametrize("change", HEALED)
async def test_by_night_it_is_noted_for_the_morning(scene: Scene, change: str) -> None:
    await partitioned(scene)
    await scene.turn("night")
    await act(scene, HEALED[change])
    assert not await scene.is_exact()
    assert not (await scene.bring_back()).exact
    assert await scene.notes() != []
    await scene.turn("day")
    assert (await scene.bring_back()).exact
    assert await differences(scene) == []


@pytest.mark.parametrize("change", FAULTS)
async def test_what_was_followed_and_is_another_thing_now_is_a_fault(
    scene: Scene, change: str
) -> None:
    await partitioned(scene)
    await act(scene, FAULTS[change])
    assert not await scene.is_exact()
    faults = (await status(scene.pool)).faults
    assert faults
    assert all("core." in text or "day_alias." in text for text in faults), faults
    if "column" not in change:
        await scene.bring_back()
    assert not await scene.is_exact(), "bringing back does not pass over it"


@pytest.mark.parametrize("change", ["partition_detached", "partition_attached", "child_taken_away"])
async def test_installing_again_mends_it(scene: Scene, change: str) -> None:
    await partitioned(scene)
    await act(scene, FAULTS[change])
    if change == "child_taken_away":
        await scene.owner.execute("select ni.install_night_copy_v1()")
        await scene.core.execute(
            "insert into core.account (account, kind, currency) values ('B-1', 'customer', 'CZK')"
        )
        assert (await scene.bring_back()).exact
        await act(scene, "alter table core.more no inherit core.account")
        assert not await scene.is_exact()
    await scene.owner.execute("select ni.install_night_copy_v1()")
    assert (await status(scene.pool)).faults == ()
    assert (await scene.bring_back()).exact
    assert await differences(scene) == []
    if change == "partition_detached":
        await scene.owner.execute("update core.block_low set side = 'credit'")
        assert await differences(scene) == [], "nobody follows it any more"


@pytest.mark.parametrize("change", SEEN)
async def test_what_is_seen_stays_right(scene: Scene, change: str) -> None:
    await partitioned(scene)
    await act(scene, SEEN[change])
    assert not await scene.is_exact() or await differences(scene) == []
    assert (await scene.bring_back()).exact
    assert await differences(scene) == []


async def test_a_subscription_is_a_fault(scene: Scene) -> None:
    """What it applies fires no trigger of a statement."""
    await scene.open()
    await act(scene, SUBSCRIBED)
    try:
        assert not await scene.is_exact()
        [fault] = (await status(scene.pool)).faults
        assert "core.account is written by a subscription" in fault
    finally:
        await act(scene, UNSUBSCRIBED)
