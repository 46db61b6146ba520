"""Accounts that the core deletes, makes anew or makes its own, under postings and holds of NI.

What a posting moved is moved back, by what the account was when the posting was made: money comes
from nowhere and goes nowhere, whatever the account has become.
"""

from __future__ import annotations

import asyncio
from datetime import timedelta

import pytest

from ni import packets
from ni.commands import AdjustHold, Check
from ni.decisions import Decision
from tests.engine.world import (
    CASH,
    CLIENT,
    FEES,
    PRINT,
    cancel,
    capture,
    debit,
    fresh_key,
    hold,
    id_of,
    made,
    release,
)
from tests.packets.desk import Desk
from tests.support.bank import CoreAccount

both = pytest.mark.parametrize("buckets", [1, 8])


async def _delete(desk: Desk, account: str) -> None:
    await desk.world.owner.execute("delete from core.account where account = $1", account)


async def _make(desk: Desk, account: str, kind: str) -> None:
    await desk.world.owner.execute(
        "update core.account set kind = $2 where account = $1", account, kind
    )


@both
@pytest.mark.parametrize("action", ["cancel", "redirect", "posting_cancel"])
async def test_a_payer_that_the_core_lost_for_a_while(desk: Desk, action: str) -> None:
    [payer, other] = await desk.world.open(2, balance=100_00)
    posting = await desk.post(payer, 40_00)
    await _delete(desk, payer)
    run = await desk.unload()
    assert run["problems"][0]["code"] == "account_not_found"
    if action == "cancel":
        made(await desk.settle(posting, "cancel"))
    elif action == "redirect":
        made(await desk.settle(posting, "redirect", debit_account=other))
    else:
        made(await desk.world.engine.submit(cancel(posting)))
    await desk.world.bank.open_accounts([CoreAccount(payer, balance=100_00)])
    assert await desk.pending(payer) == "0.00"
    assert await desk.world.available(payer) == 100_00
    assert await desk.world.available(other) == (60_00 if action == "redirect" else 100_00)
    assert await desk.world.bank.faults() == []


@both
@pytest.mark.parametrize("action", ["cancel", "redirect"])
async def test_a_credit_of_an_account_that_was_away_is_not_doubled(desk: Desk, action: str) -> None:
    [payer, payee, right] = await desk.world.open(3, balance=100_00)
    posting = await desk.post(payer, 40_00, payee)
    await _delete(desk, payee)
    await desk.unload()
    more = {"credit_account": right} if action == "redirect" else {}
    made(await desk.settle(posting, action, **more))
    await desk.world.bank.open_accounts([CoreAccount(payee, balance=100_00)])
    assert await desk.world.available(payee) == 100_00
    assert await desk.world.available(payer) == (60_00 if more else 100_00)
    assert await desk.world.available(right) == (140_00 if more else 100_00)
    assert await desk.world.bank.faults() == []


@pytest.mark.parametrize("action", ["cancel", "redirect"])
async def test_a_credit_that_was_spent_is_not_taken_from_an_account_that_is_gone(
    desk: Desk, action: str
) -> None:
    """The core has no money of it any more; what NI has of it is not enough."""
    [payer, payee, right] = await desk.world.open(3, balance=100_00)
    posting = await desk.post(payer, 40_00, payee)
    await desk.post(payee, 30_00, packet="q")
    await _delete(desk, payee)
    await desk.unload()
    more = {"credit_account": right} if action == "redirect" else {}
    refused = await desk.settle(posting, action, **more)
    assert refused.decision is Decision.insufficient_funds
    made(await desk.settle(posting, action, check="none", **more))
    await desk.world.bank.open_accounts([CoreAccount(payee, balance=100_00)])
    assert await desk.world.available(payee) == 70_00


@both
@pytest.mark.parametrize("action", ["cancel", "redirect"])
async def test_an_internal_account_that_became_a_customers_gets_no_money(
    desk: Desk, action: str
) -> None:
    await desk.world.bank.open_accounts([CoreAccount("WAS-INTERNAL", kind="internal")])
    posting = await desk.post("WAS-INTERNAL", 40_00, FEES)
    await _make(desk, "WAS-INTERNAL", "customer")
    run = await desk.unload()
    assert run["problems"][0]["code"] == "account_kind_mismatch"
    more = {"debit_account": CASH} if action == "redirect" else {}
    made(await desk.settle(posting, action, **more))
    assert await desk.world.available("WAS-INTERNAL") == 0
    assert await desk.world.bank.faults() == []


@both
@pytest.mark.parametrize("action", ["cancel", "redirect"])
async def test_a_customers_account_that_became_internal_owes_nothing(
    desk: Desk, action: str
) -> None:
    [payer, payee, right] = await desk.world.open(3, balance=100_00)
    posting = await desk.post(payer, 40_00, payee)
    await _make(desk, payee, "internal")
    await desk.unload()
    more = {"credit_account": right} if action == "redirect" else {}
    made(await desk.settle(posting, action, **more))
    await _make(desk, payee, "customer")
    assert await desk.world.available(payee) == 100_00
    assert await desk.world.bank.faults() == []


@both
async def test_holds_on_an_account_that_is_gone_are_lowered_and_not_raised(desk: Desk) -> None:
    [account] = await desk.world.open(balance=100_00)
    submit = desk.world.engine.submit
    kept = id_of(await submit(hold(account, 50_00)))
    await _delete(desk, account)
    checks: tuple[tuple[str, Check, Decision], ...] = (
        ("60.00", "available", Decision.account_not_found),
        ("60.00", "none", Decision.account_not_found),
        ("40.00", "available", Decision.approved),
    )
    for amount, check, decision in checks:
        change = AdjustHold(
            client=CLIENT, key=fresh_key(), fingerprint=PRINT, hold_id=kept, amount=amount,
            check=check,
        )  # fmt: skip
        assert (await submit(change)).decision is decision
    assert (await submit(capture(kept))).decision is Decision.account_not_found
    made(await submit(release(kept)))
    await desk.world.bank.open_accounts([CoreAccount(account, balance=100_00)])
    assert await desk.world.available(account) == 100_00
    assert await desk.world.bank.faults() == []


async def test_holds_on_an_account_that_became_internal_are_not_captured(desk: Desk) -> None:
    [account] = await desk.world.open(balance=100_00)
    kept = id_of(await desk.world.engine.submit(hold(account, 50_00)))
    await _make(desk, account, "internal")
    refused = await desk.world.engine.submit(capture(kept))
    assert refused.decision is Decision.account_kind_mismatch
    made(await desk.world.engine.submit(release(kept)))
    await _make(desk, account, "customer")
    assert await desk.world.available(account) == 100_00


async def test_a_hold_of_an_account_that_is_gone_expires(desk: Desk) -> None:
    """Its batch does not fail, and neither do its neighbours."""
    [gone, other] = await desk.world.open(2, balance=100_00)
    soon = await desk.world.owner.fetchval("select ni.clock()") + timedelta(milliseconds=150)
    made(await desk.world.engine.submit(hold(gone, 50_00, expires_at=soon)))
    await desk.post(other, 10_00, gone)
    await _delete(desk, gone)
    await desk.world.owner.execute("select pg_sleep(0.2)")
    answer = await desk.world.engine.submit(debit(other, 5_00, gone))
    assert answer.decision is Decision.account_not_found
    held = await desk.world.owner.fetchval("select held from ni.state where account = $1", gone)
    assert held == 0


async def test_an_account_that_comes_back_after_the_locks_is_locked_too(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The run is done again: nothing is booked on a row that it does not hold."""
    tries: list[str] = []
    monkeypatch.setattr(packets, "checkpoint", tries.append)
    [held, gone] = await desk.world.open(2, balance=100_00)
    for name in (held, gone):
        await desk.post(name, 10_00)
    await _delete(desk, gone)
    async with desk.world.stranger() as core, core.transaction():
        await core.execute("select from core.account where account = $1 for update", held)
        unloading = asyncio.create_task(desk.unload())
        async with asyncio.timeout(10):
            while not tries:
                await asyncio.sleep(0.01)
        await asyncio.sleep(0.2)
        await desk.world.bank.open_accounts([CoreAccount(gone, balance=100_00)])
    run = await unloading
    assert (run["booked"], run["problems_total"]) == (2, 0)
    assert tries.count("entered") == 2
    assert await desk.core_balance(gone) == await desk.world.available(gone) == 90_00
