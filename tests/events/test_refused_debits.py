"""Refused debits as events: told where the setting is on, once, and nothing else is changed."""

from __future__ import annotations

from typing import Any
from uuid import UUID

import pytest

from ni.commands import AdjustHold
from ni.decisions import Decision
from tests.engine.world import (
    CASH,
    CLIENT,
    PRINT,
    World,
    capture,
    debit,
    fresh_key,
    hold,
    id_of,
    open_world,
)
from tests.support.databases import Database

BUCKETS = pytest.mark.parametrize("buckets", [1, 8])
TOLD = (
    "select type, account, sequence, amount, direction, available_after, reference, movement_id,"
    " detail from ni.outbox where type = 'ni.debit.refused' order by event_id"
)


async def told(world: World) -> list[dict[str, Any]]:
    return [dict(row) for row in await world.owner.fetch(TOLD)]


@BUCKETS
async def test_a_refused_debit_is_told_once(database: Database) -> None:
    async with open_world(database, refused_events=True) as world:
        (name,) = await world.open(balance=50_00)
        asked = debit(name, 60_00, reference="shop")
        for _ in range(2):
            answer = await world.engine.submit(asked)
            assert answer.decision is Decision.insufficient_funds
        assert await told(world) == [
            {
                "type": "ni.debit.refused", "account": name, "sequence": None, "amount": 60_00,
                "direction": -1, "available_after": 50_00, "reference": "shop",
                "movement_id": None, "detail": "insufficient_funds",
            }
        ]  # fmt: skip
        assert (await world.balance(name))["sequence"] == 0
        assert await world.bank.faults() == []


@BUCKETS
async def test_holds_and_captures_too_and_each_in_its_accounts_order(database: Database) -> None:
    async with open_world(database, refused_events=True) as world:
        (name,) = await world.open(balance=50_00)
        await world.engine.submit(hold(name, 51_00))
        held = id_of(await world.engine.submit(hold(name, 50_00)))
        await world.engine.submit(capture(held, "70", over_capture="check"))
        await world.bank.block(name, "debit")
        await world.engine.submit(debit(name, 1))
        rows = await world.owner.fetch(
            "select type, amount, detail, movement_id from ni.outbox order by event_id"
        )
        assert [tuple(row)[:3] for row in rows] == [
            ("ni.debit.refused", 51_00, "insufficient_funds"),
            ("ni.hold.placed", 50_00, None),
            ("ni.debit.refused", 70_00, "insufficient_funds"),
            ("ni.debit.refused", 1, "account_blocked"),
        ]
        assert rows[2]["movement_id"] == held


def adjust(hold_id: UUID, amount: str) -> AdjustHold:
    """A new total of a hold."""
    return AdjustHold(
        client=CLIENT, key=fresh_key(), fingerprint=PRINT, hold_id=hold_id, amount=amount
    )


async def test_a_hold_that_is_not_raised_is_told_with_what_was_to_come_on_top(
    database: Database,
) -> None:
    async with open_world(database, refused_events=True) as world:
        (name,) = await world.open(balance=50_00)
        held = id_of(await world.engine.submit(hold(name, 30_00, reference="hotel")))
        answer = await world.engine.submit(adjust(held, "50.01"))
        assert answer.decision is Decision.insufficient_funds
        await world.engine.submit(adjust(held, "35"))
        await world.bank.block(name, "debit")
        await world.engine.submit(adjust(held, "40"))
        await world.engine.submit(adjust(held, "34"))
        known = {
            "type": "ni.debit.refused", "account": name, "sequence": None, "direction": -1,
            "reference": "hotel", "movement_id": held,
        }  # fmt: skip
        assert await told(world) == [
            known | {"amount": 20_01, "available_after": 20_00, "detail": "insufficient_funds"},
            known | {"amount": 5_00, "available_after": 15_00, "detail": "account_blocked"},
        ]
        assert await world.bank.faults() == []


async def test_what_is_no_refused_debit_is_not_told(database: Database) -> None:
    async with open_world(database, refused_events=True) as world:
        a, b = await world.open(2, balance=50_00)
        await world.engine.submit(debit("NOBODY", 1))
        await world.engine.submit(debit(a, 1, currency="EUR"))
        await world.bank.block(b, "credit")
        answer = await world.engine.submit(debit(a, 1, b))
        assert answer.decision is Decision.account_blocked
        answers = await world.engine.submit_batch([debit(a, 1), debit(a, 99_00)], atomic=True)
        assert answers[1].decision is Decision.insufficient_funds
        assert await told(world) == []
        answers = await world.engine.submit_batch([debit(a, 1), debit(a, 99_00)], atomic=False)
        assert len(await told(world)) == 1


async def test_by_default_nothing_is_told(database: Database) -> None:
    async with open_world(database) as world:
        (name,) = await world.open(balance=50_00)
        await world.engine.submit(debit(name, 60_00, CASH))
        assert await told(world) == []
