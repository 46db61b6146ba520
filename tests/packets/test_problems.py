"""Problems: settled once, checked for whoever loses, and never a residue in pending."""

from __future__ import annotations

from uuid import UUID, uuid4

import pytest

from ni.decisions import Decision
from tests.engine.world import CASH, FEES, debit, made
from tests.packets.desk import Desk

both = pytest.mark.parametrize("buckets", [1, 8])


async def _problem(desk: Desk, account: str, amount: int, credit: str = CASH) -> UUID:
    """A posting out of `account`, which was arrested before the packet was unloaded."""
    posting = await desk.post(account, amount, credit)
    await desk.world.bank.block(account, "all")
    run = await desk.unload()
    assert run["problems_total"] == 1
    return posting


@both
async def test_retry_after_the_arrest_is_lifted(desk: Desk) -> None:
    [account] = await desk.world.open(balance=100_00)
    posting = await _problem(desk, account, 30_00)
    [problem] = await desk.problems()
    assert (problem["code"], problem["status"]) == ("account_blocked", "open")
    await desk.world.bank.unblock(account)
    settled = made(await desk.settle(posting, "retry", actor="chief"))
    assert settled["posting"]["status"] == "pending"
    assert settled["problem"]["resolved_by"] == "supervisor"
    assert await desk.problems() == []
    assert (await desk.unload())["booked"] == 1
    assert await desk.core_balance(account) == 70_00
    [resolved] = await desk.problems("resolved")
    assert (resolved["action"], resolved["actor"]) == ("retry", "chief")


@both
async def test_cancel_gives_the_money_back(desk: Desk) -> None:
    [account] = await desk.world.open(balance=100_00)
    posting = await _problem(desk, account, 30_00)
    assert await desk.world.available(account) == 70_00
    assert made(await desk.settle(posting, "cancel"))["posting"]["status"] == "cancelled"
    assert await desk.world.available(account) == 100_00
    assert await desk.pending(account) == "0.00"
    assert (await desk.settle(posting, "cancel")).decision is Decision.problem_resolved


@both
async def test_cancel_of_a_credit_that_was_spent_is_refused(desk: Desk) -> None:
    [payer, payee] = await desk.world.open(2, balance=0, credit_limit=50_00)
    posting = await _problem(desk, payer, 50_00, payee)
    spent = await desk.world.engine.submit(debit(payee, 80_00, packet="q"))
    assert spent.decision is Decision.approved
    refused = await desk.settle(posting, "cancel")
    assert refused.decision is Decision.insufficient_funds
    assert payee in refused.document
    assert await desk.statuses(posting) == ["problem"]
    assert len(await desk.problems()) == 1


@both
async def test_redirect_moves_the_debit(desk: Desk) -> None:
    accounts = await desk.world.open(6, balance=100_00)
    arrested = accounts[0]
    for other in accounts[1:]:
        posting = await _problem(desk, arrested, 10_00)
        await desk.settle(posting, "redirect", debit_account=other)
        await desk.world.bank.unblock(arrested)
        assert await desk.world.available(arrested) == 100_00
        assert await desk.world.available(other) == 90_00
        assert (await desk.unload())["booked"] == 1
        assert await desk.core_balance(other) == 90_00
        assert await desk.pending(arrested) == await desk.pending(other) == "0.00"
    assert not await desk.world.bank.faults()


@both
async def test_redirect_of_the_credit_asks_who_loses(desk: Desk) -> None:
    [payer, wrong, right] = await desk.world.open(3, balance=100_00)
    posting = await desk.post(payer, 40_00, wrong)
    await desk.world.bank.block(wrong, "credit")
    await desk.unload()
    await desk.world.engine.submit(debit(wrong, 120_00, packet="q"))
    refused = await desk.settle(posting, "redirect", credit_account=right)
    assert refused.decision is Decision.insufficient_funds
    forced = made(await desk.settle(posting, "redirect", credit_account=right, check="none"))
    assert forced["posting"]["credit_account"] == right
    assert [await desk.world.available(name) for name in (payer, wrong, right)] == [
        60_00, -20_00, 140_00,
    ]  # fmt: skip
    movements = await desk.world.reads.movements(right, None, None, 10)
    assert movements is not None
    assert len(movements.documents) == 1


async def test_redirect_is_tested_like_a_new_posting(desk: Desk) -> None:
    [account, poor, closed] = await desk.world.open(3, balance=100_00)
    await desk.world.bank.set_money(poor, 5_00, 0)
    await desk.world.bank.close_account(closed)
    posting = await _problem(desk, account, 10_00)
    expected = {
        poor: Decision.insufficient_funds,
        closed: Decision.account_closed,
        "NOBODY": Decision.account_not_found,
        CASH: Decision.same_account,
    }
    for name, decision in expected.items():
        answer = await desk.settle(posting, "redirect", debit_account=name)
        assert answer.decision is decision
    made(await desk.settle(posting, "redirect", debit_account=FEES))


async def test_only_problems_are_settled(desk: Desk) -> None:
    [account] = await desk.world.open()
    posting = await desk.post(account, 1_00)
    assert (await desk.settle(posting, "retry")).decision is Decision.problem_resolved
    assert (await desk.settle(uuid4(), "retry")).decision is Decision.posting_not_found


async def test_a_problem_still_counts(desk: Desk) -> None:
    [account] = await desk.world.open(balance=100_00)
    await _problem(desk, account, 30_00)
    await desk.world.bank.unblock(account)
    refused = await desk.world.engine.submit(debit(account, 80_00))
    assert refused.decision is Decision.insufficient_funds
    assert await desk.pending(CASH) == "30.00"
