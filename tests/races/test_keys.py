"""One idempotency key at once: in two processes, in one batch, in a batch and outside."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence

import pytest

from tests.races.arena import CASH, FEES, Arena, debit, made, minor, rounds
from tests.support.caller import Answer, fresh_key

pytestmark = pytest.mark.asyncio(loop_scope="session")


def assert_one_answer(answers: Sequence[Answer]) -> None:
    """The same bytes to all; at most one of them is the first."""
    assert len({(answer.status, answer.content) for answer in answers}) == 1, [
        answer.content for answer in answers
    ]
    assert sum(not answer.replayed for answer in answers) <= 1


async def test_the_same_key_from_two_processes(arena: Arena) -> None:
    """One effect, the same answer to both; a refusal too."""
    count = rounds(12)
    names = await arena.open_accounts(count, balance=50_00)

    async def race(number: int) -> None:
        body = debit(names[number], "30.00" if number % 3 else "70.00")
        key = fresh_key()
        answers = await asyncio.gather(
            *(arena.callers[turn % 2].post("/v1/postings", body, key) for turn in range(6))
        )
        assert_one_answer(answers)
        left = 20_00 if number % 3 else 50_00
        assert await arena.available(names[number]) == left

    await arena.repeat(count, race)
    await arena.assert_sound()


async def test_the_same_key_where_no_account_is_locked(arena: Arena) -> None:
    """Unknown and internal accounts have no lock: the key alone makes it one."""
    count = rounds(12)

    async def race(number: int) -> None:
        unknown = number % 2
        body = debit(f"NOBODY-{number}" if unknown else CASH, "1.00", credit=FEES)
        key = fresh_key()
        answers = await asyncio.gather(
            *(arena.callers[turn % 2].post("/v1/postings", body, key) for turn in range(6))
        )
        assert_one_answer(answers)
        assert answers[0].status == (404 if unknown else 201), answers[0].content

    await arena.repeat(count, race)
    await arena.assert_sound()


async def test_one_key_for_different_requests(arena: Arena) -> None:
    """One of them is the request; the others are told that the key is used."""
    count = rounds(12)
    names = await arena.open_accounts(count, balance=50_00)

    async def race(number: int) -> None:
        key = fresh_key()
        answers = await asyncio.gather(
            *(
                arena.callers[turn % 2].post(
                    "/v1/postings", debit(names[number], f"{turn}.00"), key
                )
                for turn in range(1, 5)
            )
        )
        (one,) = [answer for answer in answers if answer.status == 201]
        others = [answer.code for answer in answers if answer is not one]
        assert others == ["idempotency_key_reused"] * 3
        taken = minor(one.body["amount"])
        assert await arena.available(names[number]) == 50_00 - taken

    await arena.repeat(count, race)
    await arena.assert_sound()


async def test_the_same_key_twice_in_one_batch_and_beside_it(arena: Arena) -> None:
    """Inside a batch the second is a replay; whoever else brings the key gets the same answer."""
    count = rounds(12)
    names = await arena.open_accounts(count, balance=50_00)

    async def race(number: int) -> None:
        key, other = fresh_key(), fresh_key()
        body = debit(names[number], "20.00")
        item = {"operation": "posting", "idempotency_key": key} | body
        more = {"operation": "posting", "idempotency_key": other} | debit(names[number], "5.00")
        batch = {"mode": "independent", "items": [item, more, item]}
        both, alone, again = await asyncio.gather(
            arena.callers[0].post("/v1/batches", batch),
            arena.callers[1].post("/v1/postings", body, key),
            arena.callers[0].post("/v1/postings", body, key),
        )
        results = made(both)["results"]
        assert [result["status"] for result in results] == [201, 201, 201]
        assert results[0]["body"] == results[2]["body"] == alone.body == again.body
        assert results[2]["replayed"] is True
        firsts = [results[0]["replayed"], alone.replayed, again.replayed].count(False)
        assert firsts == 1
        assert await arena.available(names[number]) == 25_00

    await arena.repeat(count, race)
    await arena.assert_sound()


async def test_the_same_key_with_another_request_in_one_batch(arena: Arena) -> None:
    """The second item hears that its key is used; the rest of the batch is decided."""
    (account,) = await arena.open_accounts(1, balance=50_00)
    key = fresh_key()
    items = [
        {"operation": "posting", "idempotency_key": one} | debit(account, amount)
        for one, amount in [(key, "1.00"), (key, "2.00"), (fresh_key(), "4.00")]
    ]
    answer = await arena.callers[0].post("/v1/batches", {"mode": "independent", "items": items})
    results = made(answer)["results"]
    assert [result["status"] for result in results] == [201, 422, 201]
    assert results[1]["body"]["code"] == "idempotency_key_reused"
    assert await arena.available(account) == 45_00


async def test_batches_with_the_same_keys_in_opposite_order(arena: Arena) -> None:
    """Neither deadlock nor a second effect; both batches hear the same about every key."""
    count = rounds(5, 200)
    names = await arena.open_accounts(count, balance=500_00)

    async def race(number: int) -> None:
        items = [
            {"operation": "posting", "idempotency_key": fresh_key()}
            | debit(CASH if turn % 2 else names[number], "1.00", credit=FEES)
            for turn in range(20)
        ]
        both = await asyncio.gather(
            *(
                arena.callers[turn].post("/v1/batches", {"mode": "independent", "items": order})
                for turn, order in enumerate([items, items[::-1]])
            )
        )
        one, other = (made(answer)["results"] for answer in both)
        bodies = [json.dumps(result["body"], sort_keys=True) for result in one]
        assert bodies == [json.dumps(result["body"], sort_keys=True) for result in other[::-1]]
        assert all(result["status"] == 201 for result in one)
        assert await arena.available(names[number]) == 490_00

    await arena.repeat(count, race)
    await arena.assert_sound()
