"""Cancels and resolves of postings that are being unloaded, wait for a person, or were just booked.

Money: a posting is booked or given back, never both, and nothing stays in pending. Service: none
of them lets a decision wait for the packet.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Awaitable
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any, Final, TypeVar
from uuid import UUID

import pytest

from ni.batch_state import Answer
from ni.decisions import Decision
from tests.engine.world import CASH, cancel, debit, decisions, made
from tests.packets.desk import Desk, open_desk, order, resolve
from tests.races.arena import rounds
from tests.support.databases import Database
from tests.support.lock_watch import no_decision_waits, until_unload_held
from tests.support.observer import Observer

both = pytest.mark.parametrize("buckets", [1, 8])
APPROVED: Final = Decision.approved
GIVEN_BACK: Final = {"booked": False, "cancelled": True}
CANCELS_TOO_LATE: Final = {
    Decision.posting_booked,
    Decision.posting_cancelled,
    Decision.posting_being_unloaded,
    Decision.posting_awaiting_acceptance,
}
SETTLED_BEFORE: Final = {Decision.problem_resolved, Decision.posting_being_unloaded}
_Result = TypeVar("_Result")


async def soon(work: Awaitable[_Result], within_s: float = 0.03) -> _Result:
    """`work`, begun at any moment within this time."""
    await asyncio.sleep(random.uniform(0, within_s))
    return await work


@asynccontextmanager
async def watched(database: Database, names: int, **limits: Any) -> AsyncIterator[tuple[Desk, Any]]:
    """A desk with `names` accounts, where nobody waits for an unload and all snapshots add up."""
    async with AsyncExitStack() as stack:
        desk = await stack.enter_async_context(open_desk(database, **limits))
        accounts = await desk.world.open(names, balance=100_00)
        observer = await Observer.of(database.owner_dsn)
        await stack.enter_async_context(no_decision_waits(database.superuser_dsn))
        await stack.enter_async_context(observer.watching())
        yield desk, accounts
        assert await desk.world.bank.faults() == []
        assert await observer.packet_faults(desk.world.owner) == []


@asynccontextmanager
async def cash_held(desk: Desk) -> AsyncIterator[None]:
    """The core works on the bank's cash account, so that an unload stops at its last step."""
    async with desk.packets.pool.acquire() as session:
        await session.execute("set lock_timeout = '30s'")
    async with desk.world.stranger() as core, core.transaction():
        await core.execute("select from core.account where account = $1 for update", CASH)
        yield


@both
async def test_nothing_waits_for_a_packet_that_waits(database: Database) -> None:
    """Cancels and resolves hear that it is being unloaded; debits beside them are decided."""
    limits = {"decision_timeout_ms": 400, "unload_connections": 1}
    async with watched(database, 12, **limits) as (desk, names):
        engine = desk.world.engine
        postings = [await desk.post(name, 10_00) for name in names]
        async with cash_held(desk):
            unload = asyncio.create_task(desk.unload())
            await until_unload_held(database.superuser_dsn)
            named = [cancel(posting) for posting in postings[:8]]
            settled = [resolve(posting, "retry") for posting in postings[8:]]
            late = asyncio.gather(*map(engine.submit, [*named, *settled]))
            for _ in range(5):
                beside = (engine.submit(debit(name, 1_00, packet="q")) for name in names)
                assert set(decisions(await asyncio.gather(*beside))) == {"approved"}
            assert set(decisions(await late)) == {"posting_being_unloaded"}
            assert not unload.done()
        assert (await unload)["booked"] == len(postings)
        answers = [await engine.submit(cancel(posting)) for posting in postings]
        assert set(decisions(answers)) == {"posting_booked"}
        assert [await desk.core_balance(name) for name in names] == [90_00] * len(names)
        assert [await desk.world.available(name) for name in names] == [85_00] * len(names)


@both
async def test_nothing_waits_for_an_acceptance_that_waits(database: Database) -> None:
    """The same while a person's yes is being carried out."""
    limits = {"decision_timeout_ms": 400, "unload_connections": 1}
    async with watched(database, 6, **limits) as (desk, names):
        engine = desk.world.engine
        postings = [await desk.post(name, 10_00) for name in names]
        assert (await desk.unload(accepted=False))["status"] == "awaiting_acceptance"
        async with cash_held(desk):
            accepting = asyncio.create_task(desk.accept())
            await until_unload_held(database.superuser_dsn)
            late = asyncio.gather(*(engine.submit(cancel(posting)) for posting in postings))
            beside = (engine.submit(debit(name, 1_00, packet="q")) for name in names)
            assert set(decisions(await asyncio.gather(*beside))) == {"approved"}
            assert set(decisions(await late)) == {"posting_being_unloaded"}
            assert not accepting.done()
        assert made(await accepting)["booked"] == len(postings)
        assert [await desk.pending(name) for name in names] == ["-1.00"] * len(names)


@both
async def test_unloads_against_cancels(database: Database) -> None:
    """Each posting is booked or cancelled, and the cancel's answer says which."""
    count, many = rounds(6, full=200), 10
    async with watched(database, count * many) as (desk, names):
        for number in range(count):
            accounts = names[number * many : (number + 1) * many]
            postings = [await desk.post(name, 10_00) for name in accounts]
            cancels = [soon(desk.world.engine.submit(cancel(one))) for one in postings * 2]
            resolves = [soon(desk.settle(one, "cancel")) for one in postings]
            _, *answers = await asyncio.gather(soon(desk.unload(), 0.02), *cancels, *resolves)
            told = [answers[turn::many] for turn in range(many)]
            for name, posting, heard in zip(accounts, postings, told, strict=True):
                await assert_booked_or_given_back(desk, name, posting, heard)


async def assert_booked_or_given_back(
    desk: Desk, name: str, posting: UUID, heard: list[Answer]
) -> None:
    """Two cancels and a resolve were heard: one at most gave the money back."""
    [status] = await desk.statuses(posting)
    approved = [answer.decision for answer in heard].count(APPROVED)
    assert approved == GIVEN_BACK[status]
    assert {answer.decision for answer in heard[:2]} <= CANCELS_TOO_LATE | {APPROVED}
    assert heard[2].decision in SETTLED_BEFORE
    assert await desk.pending(name) == "0.00"
    expected = 100_00 if GIVEN_BACK[status] else 90_00
    assert await desk.core_balance(name) == await desk.world.available(name) == expected


@both
async def test_a_waiting_run_against_everybody(database: Database) -> None:
    """One yes or one no; what waits cannot be taken back, what was rejected can."""
    count, many = rounds(6, full=200), 4
    async with watched(database, count * many) as (desk, names):
        for number in range(count):
            accounts = names[number * many : (number + 1) * many]
            packet = f"w{number}"
            postings = [await desk.post(name, 10_00, packet=packet) for name in accounts]
            run = await desk.unload(packet, accepted=False)
            assert run["status"] == "awaiting_acceptance"
            verdicts = (desk.accept(packet), desk.reject(packet), desk.accept(packet))
            cancels = (desk.world.engine.submit(cancel(one)) for one in postings)
            answers = await asyncio.gather(*map(soon, verdicts), *map(soon, cancels))
            heard = decisions(answers[:3])
            assert sorted(heard) == ["approved"] + ["packet_not_waiting"] * 2
            rejected = heard[1] == "approved"
            for posting, answer in zip(postings, answers[3:], strict=True):
                [status] = await desk.statuses(posting)
                if answer.decision is APPROVED:
                    assert rejected
                    assert status == "cancelled"
                else:
                    assert answer.decision in CANCELS_TOO_LATE
                    assert status == ("pending" if rejected else "booked")


@both
async def test_problems_against_everybody(database: Database) -> None:
    """Retry, cancel, redirect and a plain cancel at once, while the packet is unloaded again."""
    count = rounds(8, full=200)
    async with watched(database, count * 2) as (desk, names):
        for number in range(count):
            one, other = names[2 * number], names[2 * number + 1]
            packet = f"b{number}"
            posting = await desk.post(one, 10_00, packet=packet)
            await desk.world.bank.block(one, "debit")
            assert (await desk.unload(packet))["problems_total"] == 1
            await desk.world.bank.unblock(one)
            settled = await asyncio.gather(
                soon(desk.settle(posting, "retry")),
                soon(desk.settle(posting, "cancel")),
                soon(desk.settle(posting, "redirect", debit_account=other)),
                soon(desk.world.engine.submit(cancel(posting))),
                soon(desk.packets.unload(order(packet), accepted=True)),
                soon(desk.packets.unload(order(packet), accepted=True)),
            )
            await assert_settled_once(desk, posting, (one, other), list(settled[:4]))


async def assert_settled_once(
    desk: Desk, posting: UUID, accounts: tuple[str, str], heard: list[Answer]
) -> None:
    """The problem was settled once at most; the money is where the last word left it."""
    retry, given_back, moved, plain = (answer.decision for answer in heard)
    assert [retry, given_back, moved].count(APPROVED) <= 1
    assert {retry, given_back, moved} <= SETTLED_BEFORE | {APPROVED}
    assert plain in CANCELS_TOO_LATE | {APPROVED}
    [status] = await desk.statuses(posting)
    assert (status == "cancelled") == (APPROVED in (given_back, plain))
    owes = dict.fromkeys(accounts, 0)
    if status != "cancelled":
        owes[accounts[1] if moved is APPROVED else accounts[0]] = 10_00
    for name, amount in owes.items():
        assert await desk.world.available(name) == 100_00 - amount
        assert await desk.core_balance(name) == 100_00 - (amount if status == "booked" else 0)


async def test_a_cancelled_problem_is_no_open_problem(desk: Desk) -> None:
    """What has been taken back waits for nobody: open problems are what is to be done."""
    [account] = await desk.world.open(balance=100_00)
    posting = await desk.post(account, 10_00)
    await desk.world.bank.block(account, "debit")
    await desk.unload()
    made(await desk.world.engine.submit(cancel(posting)))
    assert await desk.problems() == []


@pytest.mark.parametrize("buckets", [8])
async def test_a_redirected_posting_is_booked_in_every_bucket(desk: Desk) -> None:
    """The new account's movements say what the posting itself says."""
    world = desk.world
    old, new = await world.open_in(1, 100_00), await world.open_in(2, 100_00)
    posting = await desk.post(old, 10_00)
    await world.bank.block(old, "debit")
    await desk.unload()
    made(await desk.settle(posting, "redirect", debit_account=new))
    assert (await desk.unload())["booked"] == 1
    rows = await world.owner.fetch("select bucket, status from ni.posting order by bucket")
    assert [tuple(row) for row in rows] == [(1, "booked"), (2, "booked")]


@pytest.mark.parametrize("buckets", [8])
async def test_redirected_and_cancelled_in_one_batch(desk: Desk) -> None:
    """Every row of the posting says what its last change made of it."""
    world = desk.world
    old, new = await world.open_in(1, 100_00), await world.open_in(2, 100_00)
    posting = await desk.post(old, 10_00)
    await world.bank.block(old, "debit")
    await desk.unload()
    both_at_once = [resolve(posting, "redirect", debit_account=new), cancel(posting)]
    answers = await world.engine.submit_batch(both_at_once, atomic=True)
    assert decisions(answers) == ["approved", "approved"]
    rows = await world.owner.fetch("select distinct status from ni.posting")
    assert [row["status"] for row in rows] == ["cancelled"]
    assert [await world.available(name) for name in (old, new)] == [100_00, 100_00]
