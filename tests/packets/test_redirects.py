"""Redirects: each side to its own account, in order, and back again."""

from __future__ import annotations

import json

import pytest

from ni.decisions import Decision
from tests.engine.world import made
from tests.packets.desk import Desk
from tests.support.observer import FAULTS

both = pytest.mark.parametrize("buckets", [1, 8])


@both
async def test_two_accounts_change_places(desk: Desk) -> None:
    """Sequence, instant and id of an account's events rise together."""
    [payer, payee] = await desk.world.open(2, balance=100_00)
    posting = await desk.post(payer, 10_00, payee)
    await desk.world.bank.block(payer, "debit")
    await desk.unload()
    made(await desk.settle(posting, "redirect", debit_account=payee, credit_account=payer))
    for name in (payer, payee):
        rows = await desk.world.owner.fetch(
            "select sequence from ni.outbox where account = $1 order by event_id", name
        )
        assert [row["sequence"] for row in rows] == [1, 2, 3], name
    assert [await desk.world.available(name) for name in (payer, payee)] == [110_00, 90_00]
    assert await desk.world.bank.faults() == []


@pytest.mark.parametrize("action", ["redirect", "redirect_and_force"])
async def test_a_court_order_stays_with_the_account_that_it_was_against(
    desk: Desk, action: str
) -> None:
    """Not at the redirect, and not when the posting is unloaded."""
    [payer, other] = await desk.world.open(2, balance=100_00)
    await desk.world.bank.block(payer, "debit")
    posting = await desk.post(payer, 10_00, legal_reference="order 7 against the payer")
    await desk.world.bank.close_account(payer)
    await desk.unload()
    await desk.world.bank.block(other, "debit")
    refused = await desk.settle(posting, "redirect", debit_account=other)
    assert refused.decision is Decision.account_blocked
    if action == "redirect":
        return
    made(await desk.settle(posting, "redirect", debit_account=other, check="none"))
    run = await desk.unload()
    assert run["problems"][0]["code"] == "account_blocked"
    again = await desk.settle(posting, "redirect", credit_account="ENGINE-FEES")
    assert again.decision is Decision.account_blocked


async def test_a_court_order_still_speaks_for_the_side_that_stays(desk: Desk) -> None:
    [payer, wrong, right] = await desk.world.open(3, balance=100_00)
    await desk.world.bank.block(payer, "debit")
    posting = await desk.post(payer, 10_00, wrong, legal_reference="order 7 against the payer")
    await desk.world.bank.close_account(wrong)
    await desk.unload()
    made(await desk.settle(posting, "redirect", credit_account=right))
    assert (await desk.unload())["booked"] == 1
    rows = await desk.world.owner.fetch("select account, legal_reference from core.entry")
    told = {row["account"]: row["legal_reference"] for row in rows}
    assert told == {payer: "order 7 against the payer", right: None}


@both
async def test_redirected_there_and_back(desk: Desk) -> None:
    """The first payee is blocked, then the second one; the first one is free again."""
    payer = await desk.world.open_in(0)
    first = await desk.world.open_in(1 % desk.world.buckets)
    second = await desk.world.open_in(2 % desk.world.buckets)
    posting = await desk.post(payer, 10_00, first)
    await desk.world.bank.block(first, "credit")
    await desk.unload()
    answer = await desk.settle(posting, "redirect", credit_account=second)
    assert answer.decision is Decision.approved
    await desk.world.bank.unblock(first)
    await desk.world.bank.block(second, "credit")
    await desk.unload()
    assert await desk.statuses(posting) == ["problem"]
    answer = await desk.settle(posting, "redirect", credit_account=first)
    assert answer.decision is Decision.approved
    assert (await desk.unload())["booked"] == 1
    assert await desk.core_balance(first) == 1010_00
    assert await desk.world.bank.faults() == []
    accounts = [payer, first, second]
    assert await desk.world.owner.fetch(FAULTS, accounts, [1000_00] * 3) == []
    for name, statuses in ((first, ["booked"]), (second, [])):
        page = await desk.world.reads.movements(name, None, None, 10)
        assert page is not None
        assert [json.loads(one)["status"] for one in page.documents] == statuses
