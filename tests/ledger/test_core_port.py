"""The example of docs/explanation/core-port.md is run as it stands, and NI decides on it."""

from __future__ import annotations

import re
from pathlib import Path

import asyncpg
import pytest

from ni.base_port import check_base
from ni.errors import NiError
from ni.migrate import FOLDER
from ni.session import connected
from tests.support.api_process import ApiProcess
from tests.support.bank import Bank
from tests.support.caller import Caller, http_client
from tests.support.databases import Database

PAGE = FOLDER.parent / "docs" / "explanation" / "core-port.md"
ROWS = """
INSERT INTO abs.product VALUES (1, false), (2, true);
INSERT INTO abs.account VALUES ('CZ0000002378', 1, 'CZK', NULL, 2000, 12000, 500),
                               ('TILL', 2, 'CZK', NULL, 0, 0, 0);
INSERT INTO abs.calendar VALUES ('1993-01-04', '1993-01-05');
"""


def example(number: int) -> str:
    """A block of SQL of the page: the bank's tables, the views, an arrest."""
    blocks: list[str] = re.findall(r"```sql\n(.*?)```", PAGE.read_text("utf-8"), re.DOTALL)
    return blocks[number]


@pytest.fixture
async def foreign(database: Database) -> Database:
    """A database whose base is the page's own core."""
    async with connected(database.owner_dsn) as connection, connection.transaction():
        await connection.execute(example(0))
        await connection.execute(ROWS)
        await connection.execute(example(1))
    return database


async def test_ni_decides_on_a_bank_s_own_core(foreign: Database, tmp_path: Path) -> None:
    async with connected(foreign.owner_dsn) as owner, http_client() as http:
        key = await Bank(owner).add_client("cash")
        with ApiProcess(foreign.servers(), tmp_path) as api:
            cash = Caller(http, api.base_url, key)
            balance = (await cash.get("/v1/accounts/CZ0000002378/balance")).body
            assert (balance["available"], balance["booked"]) == ("105.00", "100.00")
            asked = {
                "debit_account": "CZ0000002378",
                "credit_account": "TILL",
                "amount": "100.00",
                "currency": "CZK",
                "packet": "cash-am",
            }
            answer = await cash.post("/v1/postings", asked)
            assert (answer.status, answer.body["debit"]["available_after"]) == (201, "5.00")
            assert (await cash.post("/v1/postings", asked)).code == "insufficient_funds"
            await owner.execute(example(2))
            asked["amount"] = "1.00"
            assert (await cash.post("/v1/postings", asked)).code == "account_blocked"


@pytest.mark.parametrize(
    ("change", "fault"),
    [
        (
            "CREATE FUNCTION abs.today() RETURNS date LANGUAGE sql VOLATILE "
            "AS 'SELECT now()::date'; CREATE OR REPLACE VIEW day_alias.ledger AS "
            "SELECT abs.today() AS business_date, next_day AS next_business_date FROM abs.calendar",
            r"abs\.today\(\) is volatile",
        ),
        (
            "CREATE MATERIALIZED VIEW abs.copy AS SELECT current_day, next_day FROM abs.calendar; "
            "CREATE OR REPLACE VIEW day_alias.ledger AS "
            "SELECT current_day AS business_date, next_day AS next_business_date FROM abs.copy",
            r"abs\.copy is not a plain table or view",
        ),
    ],
    ids=["volatile function", "materialized view"],
)
async def test_a_view_that_is_not_plain_is_refused(
    foreign: Database, change: str, fault: str
) -> None:
    async with connected(foreign.owner_dsn) as connection:
        await check_base(connection)
        await connection.execute(change)
        with pytest.raises(NiError, match=fault):
            await check_base(connection)


async def test_an_upgrade_drops_and_makes_the_view_again(foreign: Database) -> None:
    change = "ALTER TABLE abs.calendar ALTER COLUMN next_day TYPE timestamp"
    async with connected(foreign.owner_dsn) as connection:
        with pytest.raises(asyncpg.FeatureNotSupportedError):
            await connection.execute(change)
        await connection.execute(f"DROP VIEW day_alias.ledger; {change}")
        await connection.execute(
            "CREATE VIEW day_alias.ledger AS SELECT current_day AS business_date, "
            "next_day::date AS next_business_date FROM abs.calendar; "
            "GRANT SELECT ON day_alias.ledger TO ni_engine"
        )
        await check_base(connection)
