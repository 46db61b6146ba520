"""The end of day ends a date once, wholly or not at all, and by NI's night only."""

from __future__ import annotations

import asyncio
from datetime import date, timedelta

import asyncpg
import pytest

from ni import core_end_of_day
from ni.core_end_of_day import Charges, end_of_day
from ni.core_ledger import business_dates, core_session, set_business_date
from ni.errors import NiError, Unavailable
from tests.end_of_day.conftest import MONDAY, booked, turn
from tests.end_of_day.process import held, tables
from tests.support.bank import Bank, CoreAccount
from tests.support.databases import Database

TUESDAY = MONDAY + timedelta(days=1)
WEDNESDAY = MONDAY + timedelta(days=2)
FEE = Charges(fee_minor=100)


async def test_the_date_goes_on(core: asyncpg.Connection, owner: asyncpg.Connection) -> None:
    done = await end_of_day(core)
    assert (done.business_date, done.next_business_date) == (MONDAY, TUESDAY)
    assert (done.accounts, done.entries, done.was_done) == (0, 0, False)
    assert await business_dates(core) == (TUESDAY, WEDNESDAY)
    noted = await owner.fetchrow("SELECT * FROM core.end_of_day")
    assert noted is not None
    assert (noted["business_date"], noted["next_business_date"]) == (MONDAY, TUESDAY)
    assert noted["ni_epoch"] == 2


async def test_the_date_after_the_next_is_told(core: asyncpg.Connection) -> None:
    friday = MONDAY + timedelta(days=4)
    await end_of_day(core, following=friday)
    assert await business_dates(core) == (TUESDAY, friday)
    with pytest.raises(NiError, match="must be later than"):
        await end_of_day(core, closing=TUESDAY, following=friday)
    assert await business_dates(core) == (TUESDAY, friday)


async def test_a_second_call_in_a_night_does_nothing(
    core: asyncpg.Connection, bank: Bank, owner: asyncpg.Connection
) -> None:
    """A scheduler that did not hear the answer asks again, with the date or without it."""
    await bank.open_accounts([CoreAccount("A")])
    await end_of_day(core, charges=FEE)
    before = await bank.fingerprint()
    for again in (None, MONDAY):
        done = await end_of_day(core, closing=again, charges=FEE)
        assert (done.business_date, done.next_business_date) == (MONDAY, TUESDAY)
        assert done.was_done
    await turn(owner, "day")
    assert (await end_of_day(core, closing=MONDAY, charges=FEE)).was_done
    await turn(owner, "night")
    assert (await end_of_day(core, closing=MONDAY, charges=FEE)).was_done
    assert await booked(owner) == {"A": -100, "INT-FEES-CZK": 100}
    assert (await end_of_day(core, charges=FEE)).business_date == TUESDAY, "another night"
    assert await bank.fingerprint() != before


async def test_two_dates_in_a_night_are_named(core: asyncpg.Connection) -> None:
    await end_of_day(core)
    assert not (await end_of_day(core, closing=TUESDAY)).was_done
    assert (await end_of_day(core)).business_date == TUESDAY, "the later of this night's"


async def test_a_date_that_is_set_back_has_ended_all_the_same(
    core: asyncpg.Connection, owner: asyncpg.Connection
) -> None:
    await end_of_day(core)
    await set_business_date(core, MONDAY, TUESDAY)
    await turn(owner, "day")
    await turn(owner, "night")
    assert (await end_of_day(core)).was_done
    assert await business_dates(core) == (MONDAY, TUESDAY)


async def test_two_at_once(core: asyncpg.Connection, database: Database, bank: Bank) -> None:
    await bank.open_accounts([CoreAccount("A")])
    async with core_session(database.core_dsn) as second:
        both = await asyncio.gather(
            *(end_of_day(session, charges=FEE) for session in (core, second))
        )
    assert sorted(one.was_done for one in both) == [False, True]
    assert await booked(bank.owner) == {"A": -100, "INT-FEES-CZK": 100}


@pytest.mark.parametrize("wrong", [MONDAY - timedelta(days=1), TUESDAY], ids=["past", "future"])
async def test_another_date_than_the_core_s(core: asyncpg.Connection, wrong: date) -> None:
    with pytest.raises(NiError, match=f"business date is 1993-01-04 and not {wrong}"):
        await end_of_day(core, closing=wrong)
    assert await business_dates(core) == (MONDAY, TUESDAY)


async def test_a_core_without_a_date(core: asyncpg.Connection, owner: asyncpg.Connection) -> None:
    await owner.execute("DELETE FROM core.ledger")
    with pytest.raises(NiError, match="no business date yet: set one with `ni core date`"):
        await end_of_day(core)


async def test_by_day_it_is_refused_unless_forced(
    core: asyncpg.Connection, bank: Bank, owner: asyncpg.Connection
) -> None:
    await bank.open_accounts([CoreAccount("A")])
    await turn(owner, "day")
    before = await bank.fingerprint()
    with pytest.raises(NiError, match=r"it is day for NI.*`ni day close` first"):
        await end_of_day(core, charges=FEE)
    assert await bank.fingerprint() == before
    assert not (await end_of_day(core, charges=FEE, force=True)).was_done
    assert await booked(owner) == {"A": -100, "INT-FEES-CZK": 100}


async def test_a_day_that_begins_before_the_locks_is_noticed(
    core: asyncpg.Connection, owner: asyncpg.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The mode is asked again under the locks, which an opening NI cannot pass."""
    looked = core_end_of_day._row

    async def open_meanwhile(*values: object) -> asyncpg.Record:
        row = await looked(*values)  # type: ignore[arg-type]  # passed on as they came
        if values[1] == core_end_of_day.LOOK:
            await turn(owner, "day")
        return row

    monkeypatch.setattr(core_end_of_day, "_row", open_meanwhile)
    with pytest.raises(NiError, match="it is day for NI"):
        await end_of_day(core)
    assert await business_dates(core) == (MONDAY, TUESDAY)


@pytest.mark.parametrize(
    ("last", "first", "fee"),
    [("1993-01-29", "1993-02-01", 1_100), ("1993-12-31", "1994-01-01", 1_100),
     ("1993-01-31", "1993-02-01", 1_100), ("1993-01-28", "1993-01-29", 100),
     ("1993-01-04", "1994-01-05", 1_100)],
)  # fmt: skip
async def test_months_end(
    core: asyncpg.Connection, bank: Bank, last: str, first: str, fee: int
) -> None:
    await set_business_date(core, date.fromisoformat(last), date.fromisoformat(first))
    await bank.open_accounts([CoreAccount("A")])
    await end_of_day(core, charges=Charges(fee_minor=100, monthly_fee_minor=1_000))
    assert (await booked(bank.owner))["A"] == -fee


async def test_a_fee_may_take_an_account_below_its_limit(
    core: asyncpg.Connection, bank: Bank
) -> None:
    await bank.open_accounts([CoreAccount("A", balance=30, credit_limit=50), CoreAccount("B")])
    await bank.block("B", "all")
    await end_of_day(core, charges=FEE)
    assert await booked(bank.owner) == {"A": -70, "B": -100, "INT-FEES-CZK": 200}


async def test_every_table_of_the_core_is_held(
    core: asyncpg.Connection, owner: asyncpg.Connection
) -> None:
    seen: list[tuple[int, int]] = []
    names: list[set[str]] = []

    async def look() -> None:
        names.append(await held(owner))

    looking: list[asyncio.Task[None]] = []

    def note(second: int, whole: int) -> None:
        seen.append((second, whole))
        looking.append(asyncio.create_task(look()))

    await end_of_day(core, hold_s=2, on_hold=note)
    await asyncio.gather(*looking)
    assert seen == [(0, 2), (1, 2)]
    assert names == [await tables(owner)] * 2
    assert await held(owner) == set()


async def test_who_holds_a_table_is_not_waited_for_long(
    core: asyncpg.Connection, bank: Bank
) -> None:
    await core.execute("SELECT set_config('lock_timeout', '100ms', false)")
    before = await bank.fingerprint()
    async with bank.owner.transaction():
        await bank.owner.execute("LOCK TABLE core.block IN ACCESS SHARE MODE")
        with pytest.raises(asyncpg.LockNotAvailableError):
            await end_of_day(core)
    assert await bank.fingerprint() == before


async def test_a_server_that_ends_the_session_undoes_it(
    core: asyncpg.Connection, bank: Bank, database: Database
) -> None:
    await bank.open_accounts([CoreAccount("A")])
    before = await bank.fingerprint()
    working = asyncio.create_task(end_of_day(core, charges=FEE, hold_s=20))
    while not await held(bank.owner):
        await asyncio.sleep(0.01)
    superuser = await asyncpg.connect(database.superuser_dsn)
    try:
        await superuser.fetchval("SELECT pg_terminate_backend($1)", core.get_server_pid())
    finally:
        await superuser.close()
    with pytest.raises(Unavailable, match="wholly or not at all"):
        await working
    assert await bank.fingerprint() == before


async def test_a_deadlock_is_told(core: asyncpg.Connection, bank: Bank, database: Database) -> None:
    """Somebody locks against the core's order, and the end of day is the one that gives way."""
    before = await bank.fingerprint()
    other = await asyncpg.connect(
        database.superuser_dsn, server_settings={"deadlock_timeout": "30s"}
    )
    try:
        async with other.transaction():
            await other.execute("LOCK TABLE core.block IN ACCESS EXCLUSIVE MODE")
            working = asyncio.create_task(end_of_day(core, closing=MONDAY))
            await asyncio.sleep(0.2)
            await other.execute("LOCK TABLE core.account IN ACCESS EXCLUSIVE MODE")
            with pytest.raises(NiError, match="gave way to others; nothing was changed"):
                await working
    finally:
        await other.close()
    assert await bank.fingerprint() == before
