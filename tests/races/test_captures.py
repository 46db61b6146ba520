"""Captures of one hold at once, and captures against the hold's expiry."""

from __future__ import annotations

import asyncio
import random
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
    count = rounds(4, 250)
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


async def test_capture_against_expiry(arena: Arena) -> None:
    """At the instant of expiry the money passes from the hold to the account, once.

    A capture asks one process, a debit of the same money the other, whose clock is 200 ms ahead.
    """
    count = rounds(24)
    names = await arena.open_accounts(count, balance=100_00)
    outcomes: set[tuple[int, int]] = set()

    async def race(number: int) -> None:
        account = names[number]
        expires_at = datetime.now(UTC) + timedelta(milliseconds=150)
        body = hold(account, "100.00", expires_at=expires_at.isoformat())
        held = made(await arena.callers[0].post("/v1/holds", body))
        first, second = (0, 1) if number % 2 else (1, 0)

        async def at(offset_ms: float, path: str, body: dict[str, Any], process: int) -> Answer:
            when = expires_at + timedelta(milliseconds=offset_ms)
            await asyncio.sleep((when - datetime.now(UTC)).total_seconds())
            return await arena.callers[process].post(path, body)

        spread = random.uniform(-6, 2)
        path = f"/v1/holds/{held['hold_id']}/capture"
        taken, spent = await asyncio.gather(
            at(spread, path, capture(), first),
            at(spread + random.uniform(-2, 4), "/v1/postings", debit(account, "100.00"), second),
        )
        outcomes.add(assert_one_owner(taken, spent, expires_at))
        assert await arena.available(account) in (0, 100_00)

    await arena.repeat(count, race)
    await arena.assert_sound()
    assert (201, 201) not in outcomes


def assert_one_owner(taken: Answer, spent: Answer, expires_at: datetime) -> tuple[int, int]:
    """A capture before the instant, a debit from it on; never both."""
    if taken.status == 201:
        assert datetime.fromisoformat(taken.body["created_at"]) < expires_at
        assert spent.code == "insufficient_funds"
    else:
        assert taken.code == "hold_expired", taken.content
    if spent.status == 201:
        assert datetime.fromisoformat(spent.body["created_at"]) >= expires_at
    return taken.status, spent.status
