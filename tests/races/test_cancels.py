"""Cancels against each other, against captures, and against the spending of a credit."""

from __future__ import annotations

import asyncio

import pytest

from tests.races.arena import (
    CASH,
    Arena,
    approved,
    assert_true_refusal,
    capture,
    debit,
    hold,
    made,
    refused,
    rounds,
)

pytestmark = pytest.mark.asyncio(loop_scope="session")

REASON = {"reason": "entered twice"}


async def test_two_cancels(arena: Arena) -> None:
    """Money goes back once."""
    count = rounds(20)
    names = await arena.open_accounts(2 * count, balance=100_00)

    async def race(number: int) -> None:
        one, other = names[2 * number], names[2 * number + 1]
        body = debit(one, "60.00", credit=other)
        posting = made(await arena.callers[0].post("/v1/postings", body))
        path = f"/v1/postings/{posting['posting_id']}/cancel"
        answers = await asyncio.gather(
            *(arena.callers[turn % 2].post(path, REASON) for turn in range(4))
        )
        assert len(approved(answers)) == 1
        assert len(refused(answers, "posting_cancelled")) == 3
        assert (await arena.available(one), await arena.available(other)) == (100_00, 100_00)

    await arena.repeat(count, race)
    await arena.assert_sound()


async def test_cancel_against_capture(arena: Arena) -> None:
    """A credit of 50 can go back or pay for a capture's excess, not both."""
    count = rounds(20)
    names = await arena.open_accounts(count, balance=100_00)

    async def race(number: int) -> None:
        account = names[number]
        body = debit(CASH, "50.00", credit=account)
        posting = made(await arena.callers[0].post("/v1/postings", body))
        held = made(await arena.callers[0].post("/v1/holds", hold(account, "100.00")))
        more = capture(amount="150.00", over_capture="check")
        taken, back = await asyncio.gather(
            arena.callers[number % 2].post(f"/v1/holds/{held['hold_id']}/capture", more),
            arena.callers[1].post(f"/v1/postings/{posting['posting_id']}/cancel", REASON),
        )
        assert len(approved([taken, back])) == 1, (taken.content, back.content)
        (short,) = refused([taken, back], "insufficient_funds")
        assert_true_refusal(short)
        assert await arena.available(account) == 0

    await arena.repeat(count, race)
    await arena.assert_sound()


async def test_cancel_against_a_final_capture_that_frees_money(arena: Arena) -> None:
    """The cancel succeeds exactly when it comes after the capture that frees what it needs."""
    count = rounds(16)
    names = await arena.open_accounts(count, balance=100_00)

    async def race(number: int) -> None:
        account = names[number]
        body = debit(CASH, "50.00", credit=account)
        posting = made(await arena.callers[0].post("/v1/postings", body))
        held = made(await arena.callers[0].post("/v1/holds", hold(account, "150.00")))
        taken, back = await asyncio.gather(
            arena.callers[0].post(f"/v1/holds/{held['hold_id']}/capture", capture(amount="100.00")),
            arena.callers[1].post(f"/v1/postings/{posting['posting_id']}/cancel", REASON),
        )
        sequence = made(taken)["debit"]["sequence"]
        if back.status == 200:
            assert back.body["credit"]["sequence"] == sequence + 1
        else:
            assert_true_refusal(back)
        assert await arena.available(account) == (0 if back.status == 200 else 50_00)

    await arena.repeat(count, race)
    await arena.assert_sound()


async def test_cancel_of_a_credit_that_is_being_spent(arena: Arena) -> None:
    """A pays B, B spends, A cancels: the money is there once, and the refusal names B."""
    count = rounds(20)
    names = await arena.open_accounts(count, balance=100_00)
    receivers = await arena.open_accounts(count, balance=0)

    async def race(number: int) -> None:
        payer, payee = names[number], receivers[number]
        body = debit(payer, "100.00", credit=payee)
        posting = made(await arena.callers[0].post("/v1/postings", body))
        path = f"/v1/postings/{posting['posting_id']}/cancel"
        spent, back = await asyncio.gather(
            arena.callers[number % 2].post("/v1/postings", debit(payee, "100.00")),
            arena.callers[1].post(path, REASON),
        )
        assert len(approved([spent, back])) == 1, (spent.content, back.content)
        (short,) = refused([spent, back], "insufficient_funds")
        assert (short.body["account"], short.body["available"]) == (payee, "0.00")
        assert_true_refusal(short)
        assert await arena.available(payee) == 0
        assert await arena.available(payer) == (100_00 if back.status == 200 else 0)

    await arena.repeat(count, race)
    await arena.assert_sound()


async def test_a_forced_cancel_of_a_spent_credit(arena: Arena) -> None:
    """`check: none` says that it has already happened: the debt stays with whoever spent."""
    (payer,) = await arena.open_accounts(1, balance=100_00)
    (payee,) = await arena.open_accounts(1, balance=0)
    caller = arena.callers[0]
    posting = made(await caller.post("/v1/postings", debit(payer, "100.00", credit=payee)))
    made(await caller.post("/v1/postings", debit(payee, "100.00")))
    path = f"/v1/postings/{posting['posting_id']}/cancel"
    short = await caller.post(path, REASON)
    assert (short.status, short.code, short.body["account"]) == (409, "insufficient_funds", payee)
    made(await caller.post(path, REASON | {"check": "none"}))
    assert (await arena.available(payer), await arena.available(payee)) == (100_00, -100_00)
    made(await caller.post("/v1/postings", debit(CASH, "100.00", credit=payee)))
    await arena.assert_sound()
