"""While NI looks for what the core refuses, passing troubles stay passing troubles."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest

from ni.decisions import Decision
from ni.errors import Unavailable
from ni.packets import Packets
from tests.engine.world import CASH, made
from tests.packets.desk import Desk, open_desk, order
from tests.support.databases import Database


@pytest.fixture
async def desk(database: Database) -> AsyncIterator[Desk]:
    """A desk whose unloads wait for locks shortly and give up after two seconds."""
    async with open_desk(database, unload_lock_timeout_ms=50, unload_timeout_s=2) as desk:
        yield desk


@pytest.fixture
async def refused(desk: Desk) -> str:
    """A packet of four, one of which the core refuses with an error; the account of that one."""
    names: list[str] = await desk.world.open(4)
    for name in names:
        await desk.post(name, 1_00, narrative=name)
    await desk.world.owner.execute(
        f"alter table core.entry add constraint odd check (narrative <> '{names[2]}')"
    )
    return names[2]


def when_it_looks(monkeypatch: pytest.MonkeyPatch, happens: Any) -> None:
    """Let something happen after the first try, before the trial runs."""
    candidates = Packets._candidates

    async def then(packets: Packets, *asked: Any) -> Any:
        await happens()
        return await candidates(packets, *asked)

    monkeypatch.setattr(Packets, "_candidates", then)


async def test_a_row_that_the_core_holds_for_a_while(
    desk: Desk, refused: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    release = asyncio.Event()
    holders: list[asyncio.Task[None]] = []

    async def hold(held: asyncio.Event) -> None:
        async with desk.world.stranger() as core, core.transaction():
            await core.execute("select from core.account for update")
            held.set()
            await release.wait()

    async def happens() -> None:
        held = asyncio.Event()
        holders.append(asyncio.create_task(hold(held)))
        await held.wait()
        asyncio.get_running_loop().call_later(0.3, release.set)

    when_it_looks(monkeypatch, happens)
    run = await desk.unload()
    await asyncio.gather(*holders)
    assert (run["booked"], run["problems_total"]) == (3, 1)
    assert run["problems"][0]["code"] == "core_error"


async def test_a_row_that_the_core_holds_for_too_long(
    desk: Desk, refused: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with desk.world.stranger() as core:

        async def happens() -> None:
            await core.execute("begin; select from core.account for update")

        when_it_looks(monkeypatch, happens)
        with pytest.raises(Unavailable, match="in time"):
            await desk.packets.unload(order(), accepted=True)
        await core.execute("rollback")
    assert (await desk.packet())["counts"]["pending"] == 4
    monkeypatch.undo()
    assert (await desk.unload())["booked"] == 3


async def test_the_core_closes_meanwhile(
    desk: Desk, refused: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def happens() -> None:
        await desk.world.owner.execute("update ni.mode set mode = 'night'")

    when_it_looks(monkeypatch, happens)
    answer = await desk.packets.unload(order(), accepted=True)
    assert answer.decision is Decision.core_closed


async def test_an_internal_account_that_changes_under_a_trial_is_no_error_of_a_posting(
    desk: Desk, refused: str
) -> None:
    """What a trial meets and a new try mends (NI003) is not told as a problem."""
    await desk.world.owner.execute("create sequence public.trials")
    await desk.world.owner.execute("grant usage on public.trials to public")
    await desk.world.owner.execute(
        "create function public.meet() returns trigger language plpgsql as $$ begin"
        " if nextval('public.trials') = 6 then raise 'changed' using errcode = 'NI003'; end if;"
        " return new; end $$"
    )
    await desk.world.owner.execute(
        "create trigger meet after insert on core.packet for each row"
        " execute function public.meet()"
    )
    run = await desk.unload()
    assert (run["booked"], run["problems_total"]) == (3, 1)


async def test_an_internal_account_that_is_gone_at_the_last_step_undoes_the_run(desk: Desk) -> None:
    """Else its entry would be there and its balance nowhere."""
    [account] = await desk.world.open()
    await desk.post(account, 1_00)
    for line in (
        "create function public.lose() returns trigger language plpgsql as $$ begin"
        f" delete from core.account where account = '{CASH}'; return null; end $$",
        "create trigger lose after insert on core.entry execute function public.lose()",
    ):
        await desk.world.owner.execute(line)
    with pytest.raises(Unavailable, match="in time"):
        await desk.packets.unload(order(), accepted=True)
    assert await desk.entries() == []
    assert await desk.core_balance(account) == 1000_00


async def test_what_the_core_refuses_on_acceptance_is_that_posting_s_problem(desk: Desk) -> None:
    names = await desk.world.open(5)
    postings = [await desk.post(name, 1_00) for name in names]
    await desk.unload(accepted=False)
    for odd in names[1:4:2]:
        await desk.world.owner.execute(
            f"alter table core.account add check (balance <> 99900 or account <> '{odd}')"
        )
    run = made(await desk.accept())
    assert (run["status"], run["booked"], run["problems_total"]) == ("partly_booked", 3, 2)
    assert [one["code"] for one in run["problems"]] == ["core_error"] * 2
    expected = ["booked", "problem", "booked", "problem", "booked"]
    assert await desk.statuses(*postings) == expected
    assert [await desk.core_balance(name) for name in names] == [
        999_00 if status == "booked" else 1000_00 for status in expected
    ]
    assert len(await desk.entries()) == 6
    assert await desk.world.bank.faults() == []


async def test_an_acceptance_whose_every_posting_the_core_refuses_leaves_none(desk: Desk) -> None:
    [account, other] = await desk.world.open(2)
    for name in (account, other):
        await desk.post(name, 1_00)
    await desk.unload(accepted=False)
    await desk.world.owner.execute("alter table core.account add check (balance <> 99900)")
    run = made(await desk.accept())
    assert (run["status"], run["booked"], run["problems_total"]) == ("none_booked", 0, 2)
    assert await desk.entries() == []
    assert (await desk.packet())["status"] == "problems"


async def test_what_is_refused_only_together_is_booked_as_far_as_it_goes(desk: Desk) -> None:
    """Each alone would pass: the last one that does not fit beside the others is the problem."""
    names = await desk.world.open(4)
    postings = [await desk.post(name, 1_00) for name in names]
    await desk.world.owner.execute(
        f"alter table core.account add constraint odd check (account <> '{CASH}' or balance < 400)"
    )
    run = await desk.unload()
    assert (run["booked"], run["problems_total"]) == (3, 1)
    assert await desk.statuses(*postings) == ["booked", "booked", "booked", "problem"]
    assert await desk.core_balance(CASH) == 3_00


async def test_an_acceptance_that_is_refused_only_together_leaves_the_last(desk: Desk) -> None:
    names = await desk.world.open(2)
    postings = [await desk.post(name, 1_00) for name in names]
    await desk.unload(accepted=False)
    await desk.world.owner.execute(
        f"alter table core.account add constraint odd check (account <> '{CASH}' or balance < 200)"
    )
    run = made(await desk.accept())
    assert (run["status"], run["booked"], run["problems_total"]) == ("partly_booked", 1, 1)
    assert await desk.statuses(*postings) == ["booked", "problem"]
    assert [await desk.core_balance(name) for name in names] == [999_00, 1000_00]
    assert await desk.world.bank.faults() == []


async def test_what_the_core_tests_at_the_commit_is_found_too(desk: Desk) -> None:
    names = await desk.world.open(4)
    for name in names:
        await desk.post(name, 1_00, narrative=name)
    await desk.world.owner.execute(
        "create function public.odd() returns trigger language plpgsql as $$ begin"
        f" if new.narrative = '{names[2]}' then raise 'the core does not like it'; end if;"
        " return null; end $$;"
        "create constraint trigger odd after insert on core.entry"
        " deferrable initially deferred for each row execute function public.odd()"
    )
    run = await desk.unload()
    assert (run["booked"], run["problems_total"]) == (3, 1)
    assert run["problems"][0]["code"] == "core_error"
