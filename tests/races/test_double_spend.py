"""Double spend: many debits at once where the funds cover exactly k of them."""

from __future__ import annotations

import asyncio
import random

import pytest

from tests.races.arena import (
    CASH,
    Arena,
    approved,
    assert_true_refusal,
    debit,
    made,
    minor,
    refused,
    rounds,
)
from tests.support.caller import Answer

pytestmark = pytest.mark.asyncio(loop_scope="session")

AT_ONCE = 50
REST = 3


async def test_exactly_k_of_fifty_debits_are_approved(arena: Arena) -> None:
    """Half of the accounts NI has never seen; their first decision is the race itself."""
    count = rounds(8)
    draw = random.Random(7)
    plans = [(draw.randrange(AT_ONCE + 1), draw.randrange(10, 500)) for _ in range(count)]
    opening = [k * price + REST for k, price in plans]
    names = await arena.open_accounts_with(opening)

    async def race(number: int) -> None:
        account, (k, price) = names[number], plans[number]
        seen = number % 2
        if seen:
            made(await arena.callers[0].post("/v1/postings", debit(CASH, "1.00", credit=account)))
            made(await arena.callers[1].post("/v1/postings", debit(account, "1.00")))
        body = debit(account, f"{price // 100}.{price % 100:02d}")
        answers = await asyncio.gather(
            *(arena.callers[turn % 2].post("/v1/postings", body) for turn in range(AT_ONCE))
        )
        paid, short = approved(answers), refused(answers, "insufficient_funds")
        assert (len(paid), len(short)) == (k, AT_ONCE - k), [a.content for a in answers]
        assert_one_after_the_other(paid, opening[number], price, before=2 * seen)
        for answer in short:
            assert_true_refusal(answer)
            assert minor(answer.body["available"]) == REST
        assert await arena.available(account) == REST

    await arena.repeat(count, race)
    await arena.assert_sound()


def assert_one_after_the_other(paid: list[Answer], funds: int, price: int, before: int) -> None:
    """The approved debits lie on the account's line without a gap, each taking its price."""
    legs = sorted(
        (answer.body["debit"]["sequence"], minor(answer.body["debit"]["available_after"]))
        for answer in paid
    )
    assert legs == [(before + i, funds - i * price) for i in range(1, len(paid) + 1)]


async def test_holds_and_debits_share_the_same_money(arena: Arena) -> None:
    """Holds, debits and captures of the same account at once never take more than there is."""
    count = rounds(6)
    names = await arena.open_accounts(count, balance=100_00)

    async def race(number: int) -> None:
        account = names[number]
        hold_body = {"account": account, "amount": "15.00", "currency": "CZK"}
        calls = [
            arena.callers[turn % 2].post("/v1/holds", hold_body)
            if turn % 3
            else arena.callers[turn % 2].post("/v1/postings", debit(account, "25.00"))
            for turn in range(24)
        ]
        answers = await asyncio.gather(*calls)
        for answer in refused(answers, "insufficient_funds"):
            assert_true_refusal(answer)
        taken = sum(minor(answer.body["amount"]) for answer in approved(answers))
        left = await arena.available(account)
        assert left == 100_00 - taken
        assert 0 <= left < 15_00
        assert len(approved(answers)) + len(refused(answers, "insufficient_funds")) == 24

    await arena.repeat(count, race)
    await arena.assert_sound()


async def test_transfers_of_opposite_directions(arena: Arena) -> None:
    """Neither deadlock nor loss: A pays B while B pays A, many times at once."""
    count = rounds(6)
    names = await arena.open_accounts(2 * count, balance=50_00)

    async def race(number: int) -> None:
        one, other = names[2 * number], names[2 * number + 1]
        calls = []
        for turn in range(20):
            payer, payee = (one, other) if turn % 2 else (other, one)
            body = debit(payer, "20.00", credit=payee)
            calls.append(arena.callers[turn // 2 % 2].post("/v1/postings", body))
        answers = await asyncio.gather(*calls)
        assert len(approved(answers)) + len(refused(answers, "insufficient_funds")) == 20
        for answer in refused(answers, "insufficient_funds"):
            assert_true_refusal(answer)
        left = [await arena.available(one), await arena.available(other)]
        assert sum(left) == 100_00
        assert min(left) >= 0

    await arena.repeat(count, race)
    await arena.assert_sound()
