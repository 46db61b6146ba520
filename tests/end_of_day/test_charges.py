"""Interest and fees, to the minor unit, against a model of fractions."""

from __future__ import annotations

import asyncio
from collections import Counter
from datetime import date, timedelta

import asyncpg
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ni.core_end_of_day import DAYS_MAX, Charges, EndOfDay, end_of_day, parse_rate
from ni.core_ledger import core_session, set_business_date
from ni.errors import NiError
from ni.money import SUM_LIMIT_MINOR
from ni.session import connected
from tests.end_of_day.conftest import MONDAY, booked, turn
from tests.end_of_day.model import expected, interest
from tests.support.bank import Bank, CoreAccount
from tests.support.databases import Database

RATES = st.sampled_from([0, 1, 25_000, 195_000, 1_000_000]) | st.integers(0, 1_000_000)
EDGES = st.sampled_from([0, 1, -1, 182_500_000, -182_500_000, 365_000_000, SUM_LIMIT_MINOR])
BALANCES = EDGES | st.integers(-SUM_LIMIT_MINOR, SUM_LIMIT_MINOR) | st.integers(-10_000, 10_000)
ACCOUNT = st.builds(
    CoreAccount,
    account=st.text("ABC123", min_size=1, max_size=3),
    kind=st.sampled_from(["customer", "customer", "customer", "internal", "off_balance"]),
    currency=st.sampled_from(["CZK", "EUR", "JPY"]),
    balance=st.integers(-(10**15), 10**15) | st.integers(-10_000, 10_000),
    status=st.sampled_from(["active", "active", "active", "closed"]),
)
CHARGES = st.builds(
    Charges, credit_ppm=RATES, debit_ppm=RATES, fee_minor=st.integers(0, 10_000),
    monthly_fee_minor=st.integers(0, 10_000), currency=st.sampled_from(["CZK", "JPY"]),
)  # fmt: skip
QUIET = [HealthCheck.function_scoped_fixture, HealthCheck.too_slow]


@given(cases=st.lists(st.tuples(BALANCES, RATES, RATES, st.integers(1, DAYS_MAX)), max_size=40))
@settings(max_examples=40, deadline=None, suppress_health_check=QUIET)
def test_interest_is_exact(database: Database, cases: list[tuple[int, int, int, int]]) -> None:
    async def ask() -> list[int]:
        async with connected(database.core_dsn) as core:
            asked = await core.prepare("SELECT core.interest_v1($1, $2, $3, $4)")
            return [await asked.fetchval(*case) for case in cases]

    wanted = [
        interest(balance, Charges(credit_ppm=credit, debit_ppm=debit), days)
        for balance, credit, debit, days in cases
    ]
    assert asyncio.run(ask()) == wanted


@given(
    accounts=st.lists(ACCOUNT, max_size=12, unique_by=lambda one: one.account),
    charges=CHARGES,
    first=st.dates(date(1993, 1, 1), date(1996, 12, 31)),
    days=st.integers(1, 40),
)
@settings(max_examples=40, deadline=None, suppress_health_check=QUIET)
def test_every_account_is_charged_as_the_model_says(
    database: Database, accounts: list[CoreAccount], charges: Charges, first: date, days: int
) -> None:
    after = first + timedelta(days=days)
    is_month_end = (first.year, first.month) != (after.year, after.month)
    fee = charges.fee_minor + (charges.monthly_fee_minor if is_month_end else 0)
    wanted = expected(accounts, charges, days, fee)

    async def play() -> tuple[EndOfDay, dict[str, int], Counter[tuple[str, str, int]]]:
        async with connected(database.owner_dsn) as owner, core_session(database.core_dsn) as core:
            await owner.execute("TRUNCATE core.entry, core.account, core.block, core.end_of_day")
            await Bank(owner).open_accounts(accounts)
            await set_business_date(core, first, after)
            await turn(owner, "night")
            done = await end_of_day(core, charges=charges)
            rows = await owner.fetch("SELECT account, narrative, amount FROM core.entry")
            return done, await booked(owner), Counter(tuple(row) for row in rows)

    done, balances, entries = asyncio.run(play())
    assert balances == wanted.balances
    assert entries == wanted.entries
    assert (done.accounts, done.entries) == (wanted.accounts, wanted.entries.total())
    assert sum(amount * many for (_, _, amount), many in entries.items()) == 0


async def test_entries_are_the_core_s_own(
    core: asyncpg.Connection, bank: Bank, owner: asyncpg.Connection
) -> None:
    await bank.open_accounts([CoreAccount("A", balance=3_650_000)])
    await end_of_day(core, charges=Charges(credit_ppm=25_000, fee_minor=100))
    entries = await owner.fetch("SELECT * FROM core.entry ORDER BY account, narrative")
    assert [(one["account"], one["narrative"], one["amount"]) for one in entries] == [
        ("A", "credit interest", 250),
        ("A", "fee", -100),
        ("INT-FEES-CZK", "fee", 100),
        ("INT-INTEREST-CZK", "credit interest", -250),
    ]
    for one in entries:
        assert (one["packet_id"], one["posting_id"]) == (None, None)
        assert (one["business_date"], one["value_date"]) == (MONDAY, MONDAY + timedelta(days=1))
        assert one["reference"] == "end of day 1993-01-04"


async def test_an_own_account_is_opened_once(core: asyncpg.Connection, bank: Bank) -> None:
    await bank.open_accounts([CoreAccount("A"), CoreAccount("INT-FEES-CZK", "internal", "CZK", 7)])
    await end_of_day(core, charges=Charges(fee_minor=100))
    await end_of_day(core, closing=MONDAY + timedelta(days=1), charges=Charges(fee_minor=100))
    assert await booked(bank.owner) == {"A": -200, "INT-FEES-CZK": 207}


@pytest.mark.parametrize(
    "other",
    [
        CoreAccount("INT-FEES-CZK", "customer", status="closed"),
        CoreAccount("INT-FEES-CZK", "internal", "EUR"),
        CoreAccount("INT-FEES-CZK", "internal", status="closed"),
    ],
    ids=["customer", "euro", "closed"],
)
async def test_an_own_account_that_cannot_be_it(
    core: asyncpg.Connection, bank: Bank, other: CoreAccount
) -> None:
    await bank.open_accounts([CoreAccount("A"), other])
    before = await bank.fingerprint()
    with pytest.raises(NiError, match="INT-FEES-CZK must be an open internal account of CZK"):
        await end_of_day(core, charges=Charges(fee_minor=100))
    assert await bank.fingerprint() == before


async def test_a_balance_past_the_limit_undoes_everything(
    core: asyncpg.Connection, bank: Bank
) -> None:
    await bank.open_accounts([CoreAccount("A"), CoreAccount("B", balance=SUM_LIMIT_MINOR)])
    before = await bank.fingerprint()
    with pytest.raises(NiError, match=r"a balance would pass 10\^17 minor units"):
        await end_of_day(core, charges=Charges(credit_ppm=1_000_000))
    assert await bank.fingerprint() == before


async def test_too_many_days_for_interest(core: asyncpg.Connection) -> None:
    await set_business_date(core, MONDAY, MONDAY + timedelta(days=DAYS_MAX + 1))
    with pytest.raises(NiError, match="more than 366 days"):
        await end_of_day(core, charges=Charges(debit_ppm=1))
    assert (await end_of_day(core)).next_business_date == MONDAY + timedelta(days=DAYS_MAX + 1)


@pytest.mark.parametrize(
    ("text", "ppm"), [("0", 0), ("2.5", 25_000), ("100", 1_000_000), ("0.0001", 1), ("007", 70_000)]
)
def test_rates(text: str, ppm: int) -> None:
    assert parse_rate(text) == ppm


@pytest.mark.parametrize("text", ["", "-1", "2,5", "1e1", "0.00001", "100.0001", "101", "٢"])
def test_no_rates(text: str) -> None:
    with pytest.raises(ValueError, match="per cent"):
        parse_rate(text)
