"""An account's statement as the core has it: its entries with the balance after each."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date, datetime
from uuid import UUID

import asyncpg

from ni.errors import NiError
from ni.sql import query


@dataclass(frozen=True, slots=True)
class CoreEntry:
    """One leg; `amount` is credit-positive, money in minor units.

    `waits`: its packet waits for acceptance, so it does not count and `balance_after` is the
    balance before it too. Without a packet it is the core's own booking.
    """

    entry_id: int
    business_date: date
    value_date: date
    booked_at: datetime
    amount: int
    waits: bool
    balance_after: int
    client: str | None
    packet: str | None
    number: int | None
    reference: str | None
    narrative: str | None
    legal_reference: str | None
    posting_id: UUID | None


@dataclass(frozen=True, slots=True)
class Statement:
    """Entries oldest first, between the balances before the first and after the last of them."""

    account: str
    currency: str
    opening: int
    closing: int
    entries: tuple[CoreEntry, ...]


async def read_statement(
    connection: asyncpg.Connection,
    account: str,
    *,
    begin: date | None,
    end: date | None,
    limit: int,
) -> Statement:
    """The newest `limit` entries with a business date from `begin` until before `end`.

    Raises NiError when the core does not have the account.
    """
    rows = await connection.fetch(query("core_statement"), account, begin, end, limit)
    if not rows:
        raise NiError(f"the core has no account {account}")
    currency, closing = rows[0]["currency"], rows[0]["closing"]
    entries = tuple(
        CoreEntry(**{name: row[name] for name in CoreEntry.__slots__})
        for row in rows
        if row["entry_id"] is not None
    )
    opening = closing
    if entries:
        first = entries[0]
        opening = first.balance_after - (0 if first.waits else first.amount)
    return Statement(account, currency, opening, closing, entries)
