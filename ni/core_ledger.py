"""The reference core's own commands: what a bank's core does to its accounts while NI runs.

Block, unblock, close and limit lock the account's row first and then change what they change, in
one transaction. An unload locks the same rows before it tests them, so that a block either is seen
by it or comes after it. Everything here runs as ni_core, which sees no table of NI.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from typing import Final

import asyncpg

from ni.core_load import LoadReport, load_accounts, open_accounts
from ni.errors import NiError
from ni.money import SUM_LIMIT_MINOR
from ni.session import connected
from ni.sql import query

__all__ = [
    "SIDES",
    "CoreAccount",
    "CoreBlock",
    "LoadReport",
    "block",
    "business_dates",
    "close_account",
    "core_session",
    "load_accounts",
    "next_weekday",
    "open_accounts",
    "set_business_date",
    "set_limit",
    "show_account",
    "unblock",
]

LOCK_TIMEOUT: Final = "5s"
"""How long a command of the core waits for an account that another transaction holds."""

SIDES: Final = ("debit", "credit", "all")
REFERENCE_CHARACTERS_MAX: Final = 140
_SATURDAY: Final = 5


@dataclass(frozen=True, slots=True)
class CoreBlock:
    """A block of an account: half-open period, no end while `valid_to` is None."""

    block_id: int
    side: str
    legal_reference: str
    valid_from: datetime
    valid_to: datetime | None


@dataclass(frozen=True, slots=True)
class CoreAccount:
    """An account as the core has it; money in minor units of its currency."""

    account: str
    kind: str
    currency: str
    status: str
    balance: int
    credit_limit: int
    customer_id: str | None
    opened_at: datetime
    blocks: tuple[CoreBlock, ...]


@asynccontextmanager
async def core_session(dsn: str) -> AsyncIterator[asyncpg.Connection]:
    """A connection for the core's commands that waits for locks at most LOCK_TIMEOUT.

    Raises Unavailable without a connection, and NiError in place of the database's error when a
    lock was not had or the schema is not there.
    """
    async with connected(dsn) as connection:
        await connection.execute("SELECT set_config('lock_timeout', $1, false)", LOCK_TIMEOUT)
        try:
            yield connection
        except asyncpg.LockNotAvailableError as error:
            raise NiError(
                f"the core kept its rows locked for {LOCK_TIMEOUT}; nothing was changed, try again"
            ) from error
        except (asyncpg.UndefinedTableError, asyncpg.InvalidSchemaNameError) as error:
            raise NiError("the database has no reference core yet: run `ni migrate`") from error


async def set_business_date(
    connection: asyncpg.Connection, business_date: date, next_business_date: date | None = None
) -> date:
    """Sets the core's business date; returns the next one, by default the next weekday.

    Raises NiError when the next business date is not later.
    """
    following = next_business_date or next_weekday(business_date)
    if following <= business_date:
        raise NiError(f"the next business date must be later than {business_date}")
    await connection.execute(query("core_ledger_date"), business_date, following)
    return following


async def business_dates(connection: asyncpg.Connection) -> tuple[date, date] | None:
    """The core's business date and the next one; None before the first is set."""
    row = await connection.fetchrow(query("core_ledger_read"))
    return None if row is None else (row["business_date"], row["next_business_date"])


def next_weekday(day: date) -> date:
    """The day after that is not a Saturday or Sunday. Holidays are the bank's to know."""
    following = day + timedelta(days=1)
    while following.weekday() >= _SATURDAY:
        following += timedelta(days=1)
    return following


async def show_account(connection: asyncpg.Connection, account: str) -> CoreAccount:
    """The account with its blocks. Raises NiError when the core does not have it."""
    row = await connection.fetchrow(query("core_account_show"), account)
    if row is None:
        raise _no_account(account)
    blocks = await connection.fetch(query("core_block_list"), account)
    return CoreAccount(**row, blocks=tuple(CoreBlock(**block) for block in blocks))


async def block(
    connection: asyncpg.Connection,
    account: str,
    side: str,
    legal_reference: str,
    *,
    valid_from: datetime | None = None,
    valid_to: datetime | None = None,
) -> int:
    """Blocks one side of an account, or `all`, from now or `valid_from` on; returns the block's id.

    Raises NiError for an unknown account or side, a reference that is empty, too long or not
    printable, or a period that ends before it begins.
    """
    if side not in SIDES:
        raise NiError(f"the side must be one of {', '.join(SIDES)}, not {side!r}")
    if not 1 <= len(legal_reference) <= REFERENCE_CHARACTERS_MAX or (
        not legal_reference.isprintable()
    ):
        raise NiError(
            f"the legal reference must be 1 to {REFERENCE_CHARACTERS_MAX} printable characters"
        )
    try:
        async with _locked(connection, account):
            block_id: int = await connection.fetchval(
                query("core_block_add"), account, side, legal_reference, valid_from, valid_to
            )
    except asyncpg.CheckViolationError as error:
        raise NiError("the block would end before it begins") from error
    return block_id


async def unblock(
    connection: asyncpg.Connection, account: str, legal_reference: str | None = None
) -> int:
    """Ends the account's blocks, or those of one legal reference, now; returns how many.

    Raises NiError when the account is unknown or nothing blocks it.
    """
    async with _locked(connection, account):
        ended: int = await connection.fetchval(query("core_block_end"), account, legal_reference)
    if ended == 0:
        which = "" if legal_reference is None else f" with the reference {legal_reference!r}"
        raise NiError(f"the account {account} has no block{which}")
    return ended


async def close_account(connection: asyncpg.Connection, account: str) -> bool:
    """Closes an account; False when it was closed already. Raises NiError when it is unknown.

    What NI has pending on it is not asked: the unload tells it, as with any core.
    """
    async with _locked(connection, account) as row:
        await connection.execute(query("core_account_close"), account)
    return bool(row["status"] != "closed")


async def set_limit(connection: asyncpg.Connection, account: str, limit_minor: int) -> None:
    """Sets the credit limit in minor units of the account's currency, zero or more.

    Raises NiError for an unknown account or a limit out of range.
    """
    if not 0 <= limit_minor <= SUM_LIMIT_MINOR:
        raise NiError("a credit limit is zero or more, and at most 10^17 minor units")
    async with _locked(connection, account):
        await connection.execute(query("core_account_limit"), account, limit_minor)


@asynccontextmanager
async def _locked(connection: asyncpg.Connection, account: str) -> AsyncIterator[asyncpg.Record]:
    """A transaction that begins by locking the account's row."""
    async with connection.transaction():
        rows = await connection.fetch(query("core_account_lock"), [account])
        if not rows:
            raise _no_account(account)
        yield rows[0]


def _no_account(account: str) -> NiError:
    return NiError(f"the core has no account {account}")
