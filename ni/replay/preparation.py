"""What the core must have before a statement is replayed: its accounts and a late enough date."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from typing import Final

import asyncpg

from ni.core_file import AccountLine
from ni.core_ledger import business_dates, open_accounts, set_business_date
from ni.errors import NiError
from ni.money import format_amount
from ni.replay.statement import Survey
from ni.sql import query

_CHUNK_ACCOUNTS: Final = 1_000


@dataclass(frozen=True, slots=True)
class Plan:
    """What a replay goes by: the file, and each account's credit limit in the core."""

    survey: Survey
    limits: dict[str, int]
    accounts_created: int


async def prepare(
    connection: asyncpg.Connection,
    survey: Survey,
    *,
    set_date: bool = True,
    by_night: bool = False,
) -> Plan:
    """Opens the file's accounts and the bank's own in the core, as ni_core.

    An account that exists stays as it is: so a second run finds the first one's. When the core's
    next business date lies before the file's last day, the business date becomes that day, unless
    `set_date` is off. Raises NiError when an existing account cannot be the file's: of another kind
    or currency, or with another balance although nothing was ever booked on it; or when one is
    missing `by_night`, when NI does not learn of it before the morning. Nothing is changed then.
    """
    chunks = list(_chunks(_wanted(survey)))
    limits: dict[str, int] = {}
    for chunk in chunks:
        limits |= await _limits(connection, chunk, by_night=by_night)
    dates = await business_dates(connection)
    if set_date and (dates is None or dates[1] < survey.last_day):
        await set_business_date(connection, survey.last_day)
    created = 0
    for chunk in chunks:
        created += len(await open_accounts(connection, chunk))
    return Plan(survey, limits, created)


async def _limits(
    connection: asyncpg.Connection, chunk: list[AccountLine], *, by_night: bool
) -> dict[str, int]:
    """The credit limits that the accounts have in the core, or will have once they are opened."""
    names = [line.account for line in chunk]
    booked = {row["account"] for row in await connection.fetch(query("core_account_booked"), names)}
    rows = await connection.fetch(query("core_account_read"), names)
    found = {row["account"]: row for row in rows}
    limits = {}
    for line in chunk:
        row = found.get(line.account)
        if row is None and by_night:
            raise NiError(
                f"the core does not have {line.account}, and NI is by night: `ni day open` first"
            )
        if row is not None:
            _refuse_other(line, row, is_booked=line.account in booked)
        limits[line.account] = line.credit_limit if row is None else row["credit_limit"]
    return limits


def _chunks(wanted: Iterator[AccountLine]) -> Iterator[list[AccountLine]]:
    while chunk := list(islice(wanted, _CHUNK_ACCOUNTS)):
        yield chunk


def _wanted(survey: Survey) -> Iterator[AccountLine]:
    for name in sorted(survey.internal_accounts):
        yield AccountLine(0, name, "internal", survey.currency, 0, 0, "active", None)
    for name in sorted(survey.accounts):
        account = survey.accounts[name]
        yield AccountLine(
            account.first_line,
            name,
            "customer",
            survey.currency,
            account.opening,
            account.credit_limit,
            "active",
            None,
        )


def _refuse_other(wanted: AccountLine, found: asyncpg.Record, *, is_booked: bool) -> None:
    advice = "Replay the statement into a database that does not have the account yet"
    for column, value in (("kind", wanted.kind), ("currency", wanted.currency)):
        if found[column] != value:
            raise NiError(
                f"the core has {wanted.account} with the {column} {found[column]} and the "
                f"statement needs {value}. {advice}"
            )
    if wanted.kind == "customer" and not is_booked and found["balance"] != wanted.balance:
        has, opens = (
            format_amount(minor, wanted.currency) for minor in (found["balance"], wanted.balance)
        )
        raise NiError(
            f"the core has {wanted.account} with the balance {has} and the statement opens it with "
            f"{opens}. {advice}"
        )
