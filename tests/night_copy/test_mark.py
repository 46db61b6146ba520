"""The mark that is taken with the whole question, and compared under the gate.

Nothing that makes the copy inexact, but a note, may leave it as it was.
"""

from __future__ import annotations

from typing import Final

import pytest

from tests.night_copy.scene import Scene
from tests.night_copy.test_faults import BREAKS
from tests.night_copy.test_ground import FAULTS, HEALED, SUBSCRIBED, UNSUBSCRIBED, act, partitioned

EXACT_MARK: Final = "select ni.exact_copy_mark_v1()"
MARK: Final = "select ni.night_mark_v1()"
KEPT: Final = {
    "kept_row_gone": "delete from ni.night_followed where relation = 'ledger'",
    "kept_row_more": "insert into ni.night_followed values ('ledger', 1, 'core.gone', '')",
    "kept_row_other": "update ni.night_followed set seen = '' where relation = 'block'",
    "source_elsewhere": "update ni.night_source set source = 'core.other' where relation = 'block'",
    "lookup_more": "update ni.night_source set lookups = '{core.block}' where relation = 'account'",
    "source_gone": "delete from ni.night_source where relation = 'ledger'",
    "function_gone": "drop function night.follow_ledger() cascade",
    "function_of_another": "alter function ni.note_everything() security invoker",
    "view_behind": "create view core.between as select account, side, legal_reference, valid_from,"
    " valid_to from core.block; create or replace view day_alias.block as select account, side,"
    " legal_reference, valid_from, valid_to from core.between",
}
"""What the copy is judged by, changed itself."""
PUT_BACK: Final = {
    "renamed": "alter table core.ledger rename to other; alter table core.other rename to ledger",
    "trigger": "alter table core.account disable trigger night_copy_account_update;"
    " alter table core.account enable always trigger night_copy_account_update",
    "function": "alter function night.follow_account() security invoker;"
    " alter function night.follow_account() security definer",
}
STAYS: Final = {
    "bookings": "update core.account set balance = balance + 1; delete from core.block",
    "analyzed": "analyze core.account, core.block, core.ledger, pg_catalog.pg_trigger",
    "vacuumed": "vacuum core.account, core.block",
    "indexed": "create index on core.account (balance)",
    "not_committed": "begin; alter table core.account disable trigger user; rollback",
}


async def changed(scene: Scene, statements: str) -> None:
    """From an exact copy to another mark and no exact one."""
    before = await scene.owner.fetchval(EXACT_MARK)
    assert before is not None
    assert before == await scene.owner.fetchval(MARK)
    await act(scene, statements)
    assert await scene.owner.fetchval(EXACT_MARK) is None
    assert before != await scene.owner.fetchval(MARK)


@pytest.mark.parametrize("change", [*HEALED, *FAULTS, *KEPT])
async def test_what_makes_the_copy_inexact_is_another_mark(scene: Scene, change: str) -> None:
    await partitioned(scene)
    await changed(scene, (HEALED | FAULTS | KEPT)[change])


@pytest.mark.parametrize("fault", BREAKS)
async def test_a_broken_trigger_is_another_mark(scene: Scene, fault: str) -> None:
    await scene.open()
    await changed(scene, BREAKS[fault])


async def test_a_subscription_is_another_mark(scene: Scene) -> None:
    await scene.open()
    try:
        await changed(scene, SUBSCRIBED)
    finally:
        await act(scene, UNSUBSCRIBED)


@pytest.mark.parametrize("change", PUT_BACK)
async def test_what_was_put_back_is_another_mark(scene: Scene, change: str) -> None:
    """Something may have been missed meanwhile."""
    await partitioned(scene)
    before = await scene.owner.fetchval(MARK)
    await act(scene, PUT_BACK[change])
    assert before != await scene.owner.fetchval(MARK)


@pytest.mark.parametrize("change", STAYS)
async def test_what_a_core_does_all_day_leaves_the_mark(scene: Scene, change: str) -> None:
    """Or a close would not find a moment."""
    await partitioned(scene)
    before = await scene.owner.fetchval(EXACT_MARK)
    for statement in STAYS[change].split(";"):
        await scene.owner.execute(statement)
    assert before == await scene.owner.fetchval(EXACT_MARK) is not None
