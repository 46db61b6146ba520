"""The reference core's commands: each locks the account's row first, and says what it did."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import UTC, date, datetime, timedelta

import asyncpg
import pytest

from ni import core_ledger
from ni.core_ledger import (
    block,
    business_dates,
    close_account,
    core_session,
    next_weekday,
    set_business_date,
    set_limit,
    show_account,
    unblock,
)
from ni.errors import NiError
from ni.money import SUM_LIMIT_MINOR
from ni.session import connected
from tests.support.databases import Database

NAME = "ACC-1"
LONG_AGO = datetime(1993, 1, 4, 10, tzinfo=UTC)
FAR_AWAY = datetime(2999, 1, 1, tzinfo=UTC)


@pytest.fixture
async def core(database: Database) -> AsyncIterator[asyncpg.Connection]:
    """The core's role, and one account."""
    async with core_session(database.core_dsn) as connection:
        await connection.execute(
            "INSERT INTO core.account (account, kind, currency, balance) "
            "VALUES ($1, 'customer', 'CZK', 10000)",
            NAME,
        )
        yield connection


async def test_blocks_begin_now_and_stay(core: asyncpg.Connection) -> None:
    before = await core.fetchval("SELECT ni.clock()")
    block_id = await block(core, NAME, "debit", "order 7/1993")
    (kept,) = (await show_account(core, NAME)).blocks
    assert (kept.block_id, kept.side, kept.legal_reference) == (block_id, "debit", "order 7/1993")
    assert before <= kept.valid_from <= await core.fetchval("SELECT ni.clock()")
    assert kept.valid_to is None


async def test_a_block_has_the_period_that_is_asked_for(core: asyncpg.Connection) -> None:
    until = LONG_AGO + timedelta(days=1)
    await block(core, NAME, "all", "order", valid_from=LONG_AGO, valid_to=until)
    (kept,) = (await show_account(core, NAME)).blocks
    assert (kept.valid_from, kept.valid_to) == (LONG_AGO, until)


async def test_unblocking_ends_what_runs_and_keeps_what_has_ended(
    core: asyncpg.Connection,
) -> None:
    ended = await block(
        core, NAME, "all", "past", valid_from=LONG_AGO, valid_to=LONG_AGO.replace(hour=11)
    )
    running = await block(core, NAME, "debit", "running", valid_from=LONG_AGO)
    dated = await block(core, NAME, "debit", "dated", valid_from=LONG_AGO, valid_to=FAR_AWAY)
    await block(core, NAME, "credit", "future", valid_from=FAR_AWAY)
    assert await unblock(core, NAME) == 3
    now = await core.fetchval("SELECT ni.clock()")
    kept = {one.block_id: one for one in (await show_account(core, NAME)).blocks}
    assert set(kept) == {ended, running, dated}
    assert all(one.valid_to is not None and one.valid_to <= now for one in kept.values())
    with pytest.raises(NiError, match="has no block"):
        await unblock(core, NAME)


async def test_unblocking_one_reference(core: asyncpg.Connection) -> None:
    await block(core, NAME, "debit", "one")
    await block(core, NAME, "debit", "two")
    assert await unblock(core, NAME, "one") == 1
    with pytest.raises(NiError, match="has no block with the reference 'one'"):
        await unblock(core, NAME, "one")
    open_ones = [b for b in (await show_account(core, NAME)).blocks if b.valid_to is None]
    assert [one.legal_reference for one in open_ones] == ["two"]


@pytest.mark.parametrize(
    ("side", "reference", "message"),
    [
        ("both", "x", "the side must be one of debit, credit, all"),
        ("all", "", "1 to 140 printable"),
        ("all", "x" * 141, "1 to 140 printable"),
        ("all", "a\nb", "1 to 140 printable"),
        ("all", "a\0", "1 to 140 printable"),
    ],
)
async def test_blocks_that_make_no_sense(
    core: asyncpg.Connection, side: str, reference: str, message: str
) -> None:
    with pytest.raises(NiError, match=message):
        await block(core, NAME, side, reference)


async def test_a_block_that_ends_before_it_begins(core: asyncpg.Connection) -> None:
    with pytest.raises(NiError, match="would end before it begins"):
        await block(core, NAME, "all", "x", valid_from=FAR_AWAY, valid_to=LONG_AGO)


async def test_closing(core: asyncpg.Connection) -> None:
    assert await close_account(core, NAME)
    assert not await close_account(core, NAME)
    assert (await show_account(core, NAME)).status == "closed"


async def test_limits(core: asyncpg.Connection) -> None:
    for limit in (5, 0, SUM_LIMIT_MINOR):
        await set_limit(core, NAME, limit)
        assert (await show_account(core, NAME)).credit_limit == limit
    for limit in (-1, SUM_LIMIT_MINOR + 1):
        with pytest.raises(NiError, match="a credit limit is zero or more"):
            await set_limit(core, NAME, limit)


Command = Callable[[asyncpg.Connection, str], Awaitable[object]]
COMMANDS: dict[str, Command] = {
    "block": lambda core, name: block(core, name, "all", "x"),
    "unblock": unblock,
    "close": close_account,
    "limit": lambda core, name: set_limit(core, name, 7),
}


@pytest.mark.parametrize("command", COMMANDS.values(), ids=COMMANDS.keys())
async def test_an_unknown_account(core: asyncpg.Connection, command: Command) -> None:
    with pytest.raises(NiError, match="the core has no account NOPE"):
        await command(core, "NOPE")


async def test_showing_an_unknown_account(core: asyncpg.Connection) -> None:
    with pytest.raises(NiError, match="the core has no account NOPE"):
        await show_account(core, "NOPE")


@pytest.mark.parametrize("command", COMMANDS.values(), ids=COMMANDS.keys())
async def test_the_account_s_row_is_locked_first(
    database: Database, core: asyncpg.Connection, command: Command
) -> None:
    """Whoever holds the row (an unload that tests it) is waited for, a block too."""
    await block(core, NAME, "debit", "earlier")
    async with connected(database.core_dsn) as unload, connected(database.owner_dsn) as watcher:
        transaction = unload.transaction()
        await transaction.start()
        await unload.execute("SELECT FROM core.account FOR NO KEY UPDATE")
        running = asyncio.ensure_future(command(core, NAME))
        await asyncio.sleep(0.1)
        assert not running.done()
        writes = await watcher.fetchval(
            "SELECT count(*) FROM pg_locks WHERE pid = $1 AND mode = 'RowExclusiveLock'",
            core.get_server_pid(),
        )
        assert writes == 0
        await transaction.commit()
        await running


async def test_a_row_that_stays_locked_is_given_up(
    database: Database, core: asyncpg.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert await core.fetchval("SHOW lock_timeout") == core_ledger.LOCK_TIMEOUT
    monkeypatch.setattr(core_ledger, "LOCK_TIMEOUT", "100ms")
    async with core.transaction():
        await core.execute("SELECT FROM core.account FOR UPDATE")
        with pytest.raises(NiError, match="kept its rows locked for 100ms"):
            async with core_session(database.core_dsn) as second:
                await close_account(second, NAME)


async def test_a_database_without_a_core(place: Database) -> None:
    with pytest.raises(NiError, match="run `ni migrate`"):
        async with core_session(place.core_dsn) as connection:
            await show_account(connection, NAME)


async def test_the_business_date(core: asyncpg.Connection) -> None:
    assert await business_dates(core) is None
    friday = date(1993, 1, 8)
    assert await set_business_date(core, friday) == date(1993, 1, 11)
    assert await business_dates(core) == (friday, date(1993, 1, 11))
    assert await set_business_date(core, friday, date(1993, 1, 9)) == date(1993, 1, 9)
    assert await business_dates(core) == (friday, date(1993, 1, 9))
    with pytest.raises(NiError, match="must be later than 1993-01-08"):
        await set_business_date(core, friday, friday)


@pytest.mark.parametrize(
    ("day", "following"),
    [("1993-01-04", "1993-01-05"), ("1993-12-31", "1994-01-03"), ("1993-01-09", "1993-01-11")],
)
def test_the_next_weekday(day: str, following: str) -> None:
    assert next_weekday(date.fromisoformat(day)) == date.fromisoformat(following)
