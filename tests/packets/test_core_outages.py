"""What is wrong with the core as a whole is no posting's problem, and a search has its end."""

from __future__ import annotations

import asyncio

import pytest

from ni import clock
from ni.culprits import ALIKE_MAX
from ni.errors import Unavailable
from ni.straight_through import StraightThrough
from tests.packets.desk import Desk, open_desk, order
from tests.support.databases import Database

ILL = (
    "create function public.ill() returns trigger language plpgsql as $$ begin"
    " {} return new; end $$;"
    "create trigger ill before insert on core.entry for each row execute function public.ill()"
)


@pytest.mark.parametrize(
    "code",
    ["53100", "53200", "57014", "58030", "XX000", "42501", "25006", "55000"],
    ids=["disk_full", "out_of_memory", "query_canceled", "io_error", "internal", "no_privilege",
         "read_only", "not_in_state"],
)  # fmt: skip
async def test_nobody_has_to_settle_a_full_disk(desk: Desk, code: str) -> None:
    names = await desk.world.open(8, balance=100_00)
    for name in names:
        await desk.post(name, 1_00, packet=None, straight_through=True)
    raised = f"raise 'could not extend file' using errcode = '{code}';"
    await desk.world.owner.execute(ILL.format(raised))
    worker = StraightThrough(desk.packets.pool, desk.world.settings)
    async with asyncio.timeout(10):
        assert (await worker.step()).failed == 1
    assert await desk.problems() == []
    await desk.world.owner.execute("drop trigger ill on core.entry")
    assert (await worker.step()).complete
    assert {await desk.core_balance(name) for name in names} == {99_00}


async def test_a_core_that_refuses_every_posting_alike_is_out_of_order(desk: Desk) -> None:
    for name in await desk.world.open(ALIKE_MAX + 5):
        await desk.post(name, 1_00)
    await desk.world.owner.execute(ILL.format("raise 'the core is ill';"))
    with pytest.raises(Unavailable, match="refuses every posting: the core is ill"):
        await desk.packets.unload(order(), accepted=True)
    assert await desk.problems() == []


async def test_many_that_are_refused_alike_are_problems_when_others_pass(desk: Desk) -> None:
    """The first ones all fail; one of the last does not."""
    names = await desk.world.open(ALIKE_MAX + 5)
    for name in names:
        await desk.post(name, 1_00, narrative="good" if name == names[-1] else "bad")
    raised = "if new.narrative = 'bad' then raise 'the core does not like it'; end if;"
    await desk.world.owner.execute(ILL.format(raised))
    run = await desk.unload()
    assert (run["booked"], run["problems_total"]) == (1, ALIKE_MAX + 4)


async def test_the_search_for_culprits_ends_with_the_unload_s_time(database: Database) -> None:
    async with open_desk(database, unload_timeout_s=2, unload_culprits_max=4) as desk:
        for name in await desk.world.open(40, balance=100_00):
            await desk.post(name, 1_00, narrative=name)
        await desk.world.owner.execute(
            ILL.format(
                "perform pg_sleep(0.05);"
                " if right(new.narrative, 1) in ('1', '2', '3') then raise 'ill'; end if;"
            )
        )
        begun = clock.monotonic()
        with pytest.raises(Unavailable, match="in time"):
            await desk.packets.unload(order(), accepted=True)
        assert clock.monotonic() - begun < 3
        assert await desk.problems() == []
