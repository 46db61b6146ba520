"""The core's side as a statement: entries, running balance, what waits, when it was booked."""

from __future__ import annotations

from datetime import date
from typing import Any

import pytest

from ni.core_ledger import core_session
from ni.core_statement import Statement, read_statement
from ni.errors import NiError
from ni.sql import query
from tests.engine.world import CASH, made
from tests.packets.desk import Desk


async def _read(desk: Desk, account: str, limit: int = 100, **period: date) -> Statement:
    bounds: dict[str, Any] = {"begin": None, "end": None} | period
    async with core_session(desk.world.database.core_dsn) as core:
        return await read_statement(core, account, limit=limit, **bounds)


async def _book(desk: Desk, account: str, amount: int, day: date) -> None:
    """The core's own entry."""
    await desk.world.owner.execute(
        "insert into core.entry (account, amount, currency, value_date, business_date, booked_at,"
        " narrative) values ($1, $2, 'CZK', $3, $3, $3::date::timestamp at time zone 'UTC', 'own')",
        account,
        amount,
        day,
    )
    await desk.world.owner.execute(
        "update core.account set balance = balance + $2 where account = $1", account, amount
    )


async def test_the_balance_runs_from_opening_to_closing(desk: Desk) -> None:
    [account] = await desk.world.open(balance=100_00)
    for packet, amount in (("a", 10_00), ("b", 20_00)):
        await desk.post(account, amount, packet=packet, reference="R", narrative="rent")
        await desk.unload(packet)
    statement = await _read(desk, account)
    assert (statement.currency, statement.opening, statement.closing) == ("CZK", 100_00, 70_00)
    first, second = statement.entries
    assert (first.amount, first.balance_after, first.waits) == (-10_00, 90_00, False)
    assert (second.amount, second.balance_after) == (-20_00, 70_00)
    assert (second.client, second.packet, second.number) == ("tester", "b", 1)
    assert (first.reference, first.narrative) == ("R", "rent")
    cash = await _read(desk, CASH)
    assert [entry.balance_after for entry in cash.entries] == [10_00, 30_00]


async def test_what_waits_is_shown_and_does_not_count(desk: Desk) -> None:
    [account] = await desk.world.open(balance=100_00)
    await desk.post(account, 10_00, packet="a")
    await desk.unload("a", accepted=False)
    await desk.post(account, 20_00, packet="b")
    await desk.unload("b")
    statement = await _read(desk, account)
    assert [(entry.amount, entry.waits) for entry in statement.entries] == [
        (-10_00, True), (-20_00, False),
    ]  # fmt: skip
    assert [entry.balance_after for entry in statement.entries] == [100_00, 80_00]
    assert (statement.opening, statement.closing) == (100_00, 80_00)
    made(await desk.accept("a"))
    statement = await _read(desk, account)
    assert [(entry.amount, entry.balance_after) for entry in statement.entries] == [
        (-20_00, 80_00), (-10_00, 70_00),
    ]  # fmt: skip
    await desk.post(account, 5_00, packet="c")
    await desk.unload("c", accepted=False)
    made(await desk.reject("c"))
    assert len((await _read(desk, account)).entries) == 2


async def test_what_is_accepted_later_is_booked_then(desk: Desk) -> None:
    [account] = await desk.world.open(balance=100_00)
    await desk.post(account, 10_00)
    await desk.unload(accepted=False)
    [unloaded] = (await _read(desk, account)).entries
    following = await desk.world.owner.fetchval("select next_business_date from core.ledger")
    await desk.world.owner.execute(
        "update core.ledger set business_date = next_business_date,"
        " next_business_date = next_business_date + 1"
    )
    made(await desk.accept())
    [accepted] = (await _read(desk, account)).entries
    assert (accepted.business_date, accepted.value_date) == (following, unloaded.value_date)
    assert accepted.booked_at > unloaded.booked_at
    before = await _read(desk, account, end=following)
    assert (before.entries, before.opening, before.closing) == ((), 100_00, 100_00)


async def test_periods_are_half_open(desk: Desk) -> None:
    [account] = await desk.world.open(balance=100_00)
    for day in (4, 5, 6):
        await _book(desk, account, day, date(1993, 1, day))
    whole = await _read(desk, account)
    assert (whole.opening, whole.closing, len(whole.entries)) == (100_00, 100_15, 3)
    middle = await _read(desk, account, begin=date(1993, 1, 5), end=date(1993, 1, 6))
    assert (middle.opening, middle.closing) == (100_04, 100_09)
    assert [entry.amount for entry in middle.entries] == [5]
    until = await _read(desk, account, end=date(1993, 1, 6))
    assert (until.opening, until.closing, len(until.entries)) == (100_00, 100_09, 2)
    after = await _read(desk, account, begin=date(1993, 1, 7))
    assert (after.opening, after.closing, after.entries) == (100_15, 100_15, ())
    newest = await _read(desk, account, limit=1)
    assert (newest.opening, newest.closing, len(newest.entries)) == (100_09, 100_15, 1)


async def test_the_newest_entries_are_found_without_sorting_all(desk: Desk) -> None:
    [account] = await desk.world.open(balance=0)
    for day in range(1, 29):
        await _book(desk, account, day, date(1993, 1, day))
    statement = await _read(desk, account, limit=3)
    assert [entry.amount for entry in statement.entries] == [26, 27, 28]
    assert (statement.opening, statement.closing) == (325, 406)
    plan = await desk.world.owner.fetch(
        "explain (analyze, timing off, costs off) " + query("core_statement"),
        account, None, None, 3,
    )  # fmt: skip
    told = "\n".join(row[0] for row in plan)
    assert "top-N heapsort" in told, told
    assert "rows=28.00" not in told.partition("WindowAgg")[2].partition("top-N")[0], told


async def test_accounts_without_entries_and_no_accounts(desk: Desk) -> None:
    [account] = await desk.world.open(balance=7_00)
    statement = await _read(desk, account)
    assert (statement.opening, statement.closing, statement.entries) == (7_00, 7_00, ())
    with pytest.raises(NiError, match="the core has no account NOBODY"):
        await _read(desk, "NOBODY")
