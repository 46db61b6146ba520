"""The reference core with a business date, and NI in its night or its day, without a switch."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import date

import asyncpg
import pytest

from ni.core_ledger import core_session, set_business_date
from ni.session import connected
from tests.support.bank import Bank
from tests.support.databases import Database

MONDAY = date(1993, 1, 4)


@pytest.fixture
async def owner(database: Database) -> AsyncIterator[asyncpg.Connection]:
    """NI's owner, who turns night into day by hand: see `turn`."""
    async with connected(database.owner_dsn) as connection:
        yield connection


@pytest.fixture
async def core(database: Database, owner: asyncpg.Connection) -> AsyncIterator[asyncpg.Connection]:
    """The core's role at Monday's end, with NI in its night."""
    async with core_session(database.core_dsn) as connection:
        await set_business_date(connection, MONDAY)
        await turn(owner, "night")
        yield connection


@pytest.fixture
def bank(owner: asyncpg.Connection) -> Bank:
    """The test's hand in the core."""
    return Bank(owner)


async def turn(owner: asyncpg.Connection, mode: str) -> None:
    """Day or night for NI, as its switch leaves it."""
    await owner.execute("UPDATE ni.mode SET mode = $1, epoch = epoch + 1", mode)


async def booked(owner: asyncpg.Connection) -> dict[str, int]:
    """What every account of the core has, in minor units."""
    rows = await owner.fetch("SELECT account, balance FROM core.account")
    return {row["account"]: row["balance"] for row in rows}
