"""A bank's own core behind the views: the same triggers, made from its own list."""

from __future__ import annotations

from pathlib import Path
from typing import Final

import pytest

from ni.night_copy import Checker, status
from tests.night_copy.scene import Scene

_HERE: Final = Path(__file__).parent
CORE: Final = (_HERE / "own_core.sql").read_text()
SOURCE: Final = (_HERE / "own_core_source.sql").read_text()
VIEWS_DIFFER: Final = (_HERE / "views_differ.sql").read_text()
CHANGES: Final = (
    "update abs.account set credit = credit + 1 where number < 'ABS-15'",
    "update abs.account set hidden = true where number = 'ABS-2'",
    "update abs.account set hidden = false, overdraft = 9 where number = 'ABS-2'",
    "delete from abs.account where number = 'ABS-4'",
    "update abs.account set number = 'ABS-44' where number = 'ABS-5'",
    "insert into abs.account values ('2030-01-01', 'ABS-90', 2, 'CZK', 1, 2, 0, false)",
    "insert into abs.account values (null, 'ABS-91', 2, 'CZK', 1, 2, 0, true)",
    "insert into abs.arrest (account, order_number, since) values ('ABS-6', 'o', now())",
    "update abs.arrest set until = now() + interval '1 day' where account = 'ABS-3'",
    "update abs.arrest set account = 'ABS-7' where account = 'ABS-3'",
    "delete from abs.arrest where account = 'ABS-6'",
    "update abs.calendar set current_day = next_day, next_day = next_day + 1",
    "update abs.product set is_own = not is_own",
    "truncate abs.arrest",
    "delete from abs.account where number in ('ABS-90', 'ABS-91')",
)


@pytest.mark.parametrize("buckets", [1, 8])
async def test_a_bank_s_own_core_is_followed(scene: Scene) -> None:
    await scene.open(3)
    await scene.owner.execute(CORE)
    faults = (await status(scene.pool)).faults
    assert "day_alias.account reads abs.account, which the night copy does not follow" in faults
    await scene.owner.execute(SOURCE)
    await scene.owner.execute("select ni.install_night_copy_v1()")
    assert (await status(scene.pool)).faults == ()
    await scene.core.execute("update core.account set balance = 1")  # nobody follows it any more
    assert not await scene.is_exact()
    assert (await scene.bring_back()).exact
    assert await scene.owner.fetch(VIEWS_DIFFER) == []
    for mode in ("day", "night"):
        for change in CHANGES:
            await scene.turn(mode)
            await scene.owner.execute("begin")
            await scene.owner.execute(change)
            await scene.owner.execute("commit")
            differ = await scene.owner.fetch(VIEWS_DIFFER)
            assert not differ or await scene.notes(), change
            if mode == "day" and "product" not in change and "truncate" not in change:
                assert differ == [], change
            await scene.turn("day")
            assert (await scene.bring_back()).exact
            assert await scene.owner.fetch(VIEWS_DIFFER) == [], change
    checker = Checker(scene.pool, scene.settings)
    while not checker.walks:
        assert await checker.step(note=False) == ("day", None)
    assert await scene.is_exact()
