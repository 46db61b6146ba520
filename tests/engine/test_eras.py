"""Eras of 128 changes, and the housekeeper that deletes old ones and old request keys."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta

import pytest

from tests.engine.world import CASH, World, debit, hold, made
from tests.support.clock import install_clock, set_clock
from workers.housekeeping import Housekeeper

BUCKETS = pytest.mark.parametrize("buckets", [1, 8])
T0 = datetime(2031, 3, 3, 8, 0, tzinfo=UTC)
KEEP = timedelta(days=30)

_ERAS = "select era, sequence, created from ni.state where account = $1 order by era"


@BUCKETS
@pytest.mark.parametrize("limits", [{"batch_slice": 20}])
async def test_every_128th_change_begins_an_era(world: World) -> None:
    """A thousand changes are eight rows, each updated in place while its era lasts."""
    (name,) = await world.open()
    await world.engine.submit_batch([debit(name, 1) for _ in range(1000)], atomic=False)
    rows = await world.owner.fetch(_ERAS, name)
    assert [row["era"] for row in rows] == [0, 1, 2, 3, 4, 5, 6, 7]
    for row in rows:
        assert row["sequence"] >> 7 == row["era"]
        assert row["created"] == -row["sequence"]
    assert all(128 * (row["era"] + 1) - row["sequence"] <= 20 for row in rows[:-1])
    assert await world.available(name) == 1000_00 - 1000


@BUCKETS
async def test_only_the_newest_era_is_read(world: World) -> None:
    """Whatever stands in older rows: decisions and reads look at the newest alone."""
    (name,) = await world.open()
    for _ in range(3):
        await world.engine.submit_batch([debit(name, 1) for _ in range(100)], atomic=False)
    await world.owner.execute("update ni.state set created = 10^12, held = 7 where era < 2")
    assert await world.available(name) == 1000_00 - 300
    body = made(await world.engine.submit(debit(name, 1)))
    assert body["debit"] == {"available_after": "996.99", "sequence": 301}
    assert (await world.balance(name))["held"] == "0.00"


@BUCKETS
@pytest.mark.parametrize("limits", [{"batch_slice": 50, "housekeeping_step": 7}])
async def test_the_housekeeper_deletes_old_eras_alone(world: World) -> None:
    """Also while deciders run: no figure is lost, and in the end one row an account is left."""
    names = await world.open(5)
    housekeeper = Housekeeper(world.settings, world.engine)
    deciding = asyncio.create_task(_decide(world, names))
    deleted = known = 0
    while not deciding.done():
        deleted += (await housekeeper.step()).eras
        before = known
        known = await world.owner.fetchval("select count(distinct account) from ni.state")
        assert known >= before, "an account has lost its newest era"
    await deciding
    for _ in range(20):
        deleted += (await housekeeper.step()).eras
    rows = await world.owner.fetch("select account, era, sequence from ni.state")
    assert sorted(row["account"] for row in rows) == sorted(names)
    assert {(row["era"], row["sequence"]) for row in rows} == {(600 >> 7, 600)}
    assert deleted == 5 * (600 >> 7)
    assert [await world.available(name) for name in names] == [1000_00 - 600] * 5
    assert await world.bank.faults() == []


async def _decide(world: World, names: list[str]) -> None:
    for _ in range(12):
        await asyncio.gather(
            *(
                world.engine.submit_batch([debit(name, 1) for _ in range(50)], atomic=False)
                for name in names
            )
        )


@BUCKETS
async def test_an_account_that_is_not_touched_keeps_its_row(world: World) -> None:
    (name,) = await world.open()
    made(await world.engine.submit(hold(name, 1)))
    assert (await Housekeeper(world.settings, world.engine).step()).eras == 0
    assert await world.available(name) == 1000_00 - 1


@BUCKETS
async def test_keys_are_kept_thirty_days(world: World) -> None:
    """To the microsecond by the database's clock; afterwards a key is free again."""
    await install_clock(world.owner)
    await set_clock(world.owner, T0)
    (name,) = await world.open()
    housekeeper = Housekeeper(world.settings, world.engine)
    await world.engine.submit(debit(name, 1, key="old"))
    await set_clock(world.owner, T0 + timedelta(days=1))
    await world.engine.submit(debit(CASH, 1, key="young"))
    await set_clock(world.owner, T0 + KEEP)
    assert (await housekeeper.step()).requests == 0
    assert (await world.engine.submit(debit(name, 1, key="old"))).replayed
    await set_clock(world.owner, T0 + KEEP + timedelta(microseconds=1))
    assert (await housekeeper.step()).requests == 1
    assert await world.owner.fetchval("select string_agg(key, ' ') from ni.request") == "young"
    assert not (await world.engine.submit(debit(name, 1, key="old"))).replayed


@BUCKETS
@pytest.mark.parametrize("limits", [{"housekeeping_step": 10}])
async def test_a_step_deletes_a_few_keys_at_a_time(world: World) -> None:
    await install_clock(world.owner)
    await set_clock(world.owner, T0)
    name = await world.open_in(0)
    await world.engine.submit_batch([debit(name, 1) for _ in range(25)], atomic=False)
    await set_clock(world.owner, T0 + 2 * KEEP)
    housekeeper = Housekeeper(world.settings, world.engine)
    assert [(await housekeeper.step()).requests for _ in range(4)] == [10, 10, 5, 0]
