"""A bank's core ledger for tests: accounts, blocks and dates written the way a core would."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Final

import asyncpg

from ni.clients import add_client

ALL_MONEY_SCOPES: Final = (
    "balance:read",
    "hold:write",
    "posting:write",
    "posting:force",
    "posting:override",
)
_FINGERPRINT: Final = (Path(__file__).parent / "fingerprint.sql").read_text()
_CONSERVATION: Final = (Path(__file__).parent / "conservation.sql").read_text()


@dataclass(frozen=True)
class CoreAccount:
    """An account as the core has it; money in minor units."""

    account: str
    kind: str = "customer"
    currency: str = "CZK"
    balance: int = 0
    credit_limit: int = 0
    status: str = "active"


class Bank:
    """The test's hand in the core: everything here happens outside NI."""

    def __init__(self, owner: asyncpg.Connection) -> None:
        self.owner = owner

    async def open_ledger(self, business_date: date, next_business_date: date) -> None:
        """Set the core's business dates."""
        await self.owner.execute(
            "insert into core.ledger (business_date, next_business_date)"
            " values ($1, $2) on conflict (one) do update set"
            " business_date = $1, next_business_date = $2",
            business_date,
            next_business_date,
        )

    async def open_accounts(self, accounts: Iterable[CoreAccount]) -> None:
        """Accounts that the core knows and NI has never seen."""
        rows = [
            (a.account, a.kind, a.currency, a.balance, a.credit_limit, a.status) for a in accounts
        ]
        await self.owner.executemany(
            "insert into core.account (account, kind, currency, balance, credit_limit, status)"
            " values ($1, $2, $3, $4, $5, $6)",
            rows,
        )

    async def block(self, account: str, side: str) -> None:
        """A block of one side from the beginning of time until it is lifted."""
        await self.owner.execute(
            "insert into core.block (account, side, legal_reference, valid_from)"
            " values ($1, $2, 'order 7/1993', '1990-01-01T00:00:00Z')",
            account,
            side,
        )

    async def unblock(self, account: str) -> None:
        """Lift every block of the account."""
        await self.owner.execute("delete from core.block where account = $1", account)

    async def set_money(self, account: str, balance: int, credit_limit: int) -> None:
        """The core's own booking: a new balance and limit."""
        await self.owner.execute(
            "update core.account set balance = $2, credit_limit = $3 where account = $1",
            account,
            balance,
            credit_limit,
        )

    async def close_account(self, account: str) -> None:
        await self.owner.execute(
            "update core.account set status = 'closed' where account = $1", account
        )

    async def add_client(self, name: str, scopes: Sequence[str] = ALL_MONEY_SCOPES) -> str:
        """A client system's key."""
        return await add_client(self.owner, name, scopes)

    async def fingerprint(self) -> str:
        """A checksum a table of `ni` and `core`; two equal texts mean that nothing changed."""
        await self.owner.execute(_FINGERPRINT)
        checksum = await self.owner.fetchval("select pg_temp.fingerprint()")
        assert isinstance(checksum, str)
        return checksum

    async def faults(self) -> list[str]:
        """What does not add up: figures against movements, gaps, limits. Empty when all is well."""
        return [row["fault"] for row in await self.owner.fetch(_CONSERVATION)]
