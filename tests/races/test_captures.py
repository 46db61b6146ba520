"""Captures of one hold at once, and captures against the hold's expiry."""

from __future__ import annotations

import asyncio
import random
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from tests.races.arena import Arena, approved, capture, debit, hold, made, refused, rounds
from tests.support.caller import Answer

pytestmark = pytest.mark.asyncio(loop_scope="session")

AT_ONCE = 40


@pytest.mark.parametrize(
    ("body", "winners", "losers"),
    [
        (capture(), 1, "hold_captured"),
        (capture(amount="10.00", final=False), 10, "hold_captured"),
        (capture(amount="30.00", final=False), 3, "exceeds_hold"),
        (capture(amount="30.00"), 1, "hold_captured"),
    ],
)
async def test_one_hold_captured_forty_times_at_once(
    arena: Arena, body: dict[str, Any], winners: int, losers: str
) -> None:
    """What is held is taken once, however often it is asked for."""
    count = rounds(2, 250)
    names = await arena.open_accounts(count, balance=100_00)

    async def race(number: int) -> None:
        account = names[number]
        held = made(await arena.callers[0].post("/v1/holds", hold(account, "100.00")))
        path = f"/v1/holds/{held['hold_id']}/capture"
        answers = await asyncio.gather(
            *(arena.callers[turn % 2].post(path, body) for turn in range(AT_ONCE))
        )
        assert len(approved(answers)) == winners, [a.content for a in answers]
        assert len(refused(answers, losers)) == AT_ONCE - winners
        taken = 100_00 if winners == 10 or "amount" not in body else winners * 30_00
        left = 100_00 - taken if body.get("final", True) else 0
        assert await arena.available(account) == left

    await arena.repeat(count, race)
    await arena.assert_sound()


@dataclass
class Timed:
    """An answer, and between which instants of this machine's clock it was made."""

    sent_at: datetime
    answer: Answer
    answered_at: datetime


async def test_capture_against_expiry(arena: Arena) -> None:
    """At the instant of expiry the money passes from the hold to the account, once.

    A capture asks one process, a debit of the same money the other, one of them with its clock
    200 ms ahead: the database's clock alone decides.
    """
    count = rounds(20)
    names = await arena.open_accounts(count, balance=100_00)

    async def race(number: int) -> None:
        account = names[number]
        expires_at = datetime.now(UTC) + timedelta(milliseconds=300)
        body = hold(account, "100.00", expires_at=expires_at.isoformat())
        held = made(await arena.callers[0].post("/v1/holds", body))
        first, second = (0, 1) if number % 2 else (1, 0)

        async def at(offset_ms: float, path: str, body: dict[str, Any], process: int) -> Timed:
            when = expires_at + timedelta(milliseconds=offset_ms)
            await asyncio.sleep((when - datetime.now(UTC)).total_seconds())
            sent_at = datetime.now(UTC)
            answer = await arena.callers[process].post(path, body)
            return Timed(sent_at, answer, datetime.now(UTC))

        near = random.uniform(-6, 2)
        offset_ms = [-100, near, 20, near][number // 2 % 4]
        path = f"/v1/holds/{held['hold_id']}/capture"
        taken, spent = await asyncio.gather(
            at(offset_ms, path, capture(), first),
            at(offset_ms + random.uniform(-2, 4), "/v1/postings", debit(account, "100.00"), second),
        )
        assert_one_owner(taken, spent, expires_at)
        moved = 201 in (taken.answer.status, spent.answer.status)
        await asyncio.sleep((expires_at - datetime.now(UTC)).total_seconds() + 0.001)
        assert await arena.available(account) == (0 if moved else 100_00)

    await arena.repeat(count, race)
    await arena.assert_sound()


def assert_one_owner(taken: Timed, spent: Timed, expires_at: datetime) -> None:
    """Before the instant a capture and no debit, from it on a debit and no capture."""
    if taken.answer.status == 201:
        assert datetime.fromisoformat(taken.answer.body["created_at"]) < expires_at
        assert spent.answer.code == "insufficient_funds"
    else:
        assert taken.answer.code == "hold_expired", taken.answer.content
    if spent.answer.status == 201:
        assert datetime.fromisoformat(spent.answer.body["created_at"]) >= expires_at
    if taken.answered_at < expires_at:
        assert taken.answer.status == 201, "refused before its time"
    if taken.sent_at >= expires_at:
        assert taken.answer.code == "hold_expired"
    if spent.answered_at < expires_at:
        assert spent.answer.code == "insufficient_funds"
    if spent.sent_at >= expires_at and taken.answer.status != 201:
        assert spent.answer.status == 201, "refused after the hold had gone"
