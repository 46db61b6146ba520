"""`load_accounts`: whole files, refused lines, balances that movements have fixed."""

from __future__ import annotations

import asyncio
import gzip
from collections.abc import AsyncIterator, Iterable
from pathlib import Path

import asyncpg
import pytest

from ni.core_file import COLUMNS
from ni.core_ledger import LoadReport, core_session, load_accounts
from ni.core_load import CHUNK_LINES, REFUSED_LINES_KEPT
from ni.errors import NiError
from ni.session import connected
from tests.support.databases import Database

CUSTOMER = "ACC-1,customer,CZK,100.00,0,active,C1"
CASH = "INT-CASH,internal,CZK,-500.00,0,active,"


@pytest.fixture
async def core(database: Database) -> AsyncIterator[asyncpg.Connection]:
    """A connection of the core's own role."""
    async with core_session(database.core_dsn) as connection:
        yield connection


def text_of(lines: Iterable[str]) -> bytes:
    return "".join(f"{line}\n" for line in (",".join(COLUMNS), *lines)).encode()


async def load(core: asyncpg.Connection, folder: Path, *lines: str) -> LoadReport:
    path = folder / "accounts.csv"
    path.write_bytes(text_of(lines))
    return await load_accounts(core, path)


def counts(report: LoadReport) -> tuple[int, int, int, int]:
    return report.created, report.updated, report.unchanged, report.refused


async def account(connection: asyncpg.Connection, name: str) -> tuple[object, ...]:
    row = await connection.fetchrow(
        "SELECT kind, currency, balance, credit_limit, status, customer_id FROM core.account "
        "WHERE account = $1",
        name,
    )
    return tuple(row or ())


async def movement(owner: asyncpg.Connection, name: str) -> None:
    """What NI's first decision on a customer account leaves behind."""
    await owner.execute(
        "INSERT INTO ni.state VALUES (ni.bucket_of($1), $1, 0, -1, 0, 1, ni.clock(), NULL)", name
    )


async def test_new_accounts(core: asyncpg.Connection, tmp_path: Path) -> None:
    yen = "ACC-2,customer,JPY,5,7,closed,"
    shares = "OFF-1,off_balance,KWD,1.001,0,active,"
    report = await load(core, tmp_path, CUSTOMER, CASH, yen, shares)
    assert counts(report) == (4, 0, 0, 0)
    assert await account(core, "ACC-1") == ("customer", "CZK", 10_000, 0, "active", "C1")
    assert await account(core, "INT-CASH") == ("internal", "CZK", -50_000, 0, "active", None)
    assert await account(core, "ACC-2") == ("customer", "JPY", 5, 7, "closed", None)
    assert await account(core, "OFF-1") == ("off_balance", "KWD", 1001, 0, "active", None)


async def test_the_same_file_again_changes_nothing(
    core: asyncpg.Connection, tmp_path: Path
) -> None:
    await load(core, tmp_path, CUSTOMER, CASH)
    assert counts(await load(core, tmp_path, CUSTOMER, CASH)) == (0, 0, 2, 0)


async def test_limit_status_customer_and_untouched_balance_are_updated(
    core: asyncpg.Connection, tmp_path: Path
) -> None:
    await load(core, tmp_path, CUSTOMER, CASH)
    report = await load(
        core, tmp_path, "ACC-1,customer,CZK,70,50,closed,C2", "INT-CASH,internal,CZK,1,0,active,"
    )
    assert counts(report) == (0, 2, 0, 0)
    assert await account(core, "ACC-1") == ("customer", "CZK", 7_000, 5_000, "closed", "C2")
    assert await account(core, "INT-CASH") == ("internal", "CZK", 100, 0, "active", None)


async def test_kind_and_currency_never_change(core: asyncpg.Connection, tmp_path: Path) -> None:
    await load(core, tmp_path, CUSTOMER)
    report = await load(
        core,
        tmp_path,
        "ACC-1,internal,CZK,100.00,9,active,C1",
        "ACC-1,customer,EUR,100.00,9,active,C1",
        "ACC-2,customer,CZK,1,0,active,",
    )
    assert counts(report) == (1, 0, 0, 2)
    assert [(line.line, line.reason) for line in report.refused_lines] == [
        (2, "ACC-1 is customer and not internal: a kind never changes"),
        (3, "ACC-1 is CZK and not EUR: a currency never changes"),
    ]
    assert await account(core, "ACC-1") == ("customer", "CZK", 10_000, 0, "active", "C1")


async def test_an_internal_account_never_gets_a_position(
    core: asyncpg.Connection, owner: asyncpg.Connection, tmp_path: Path
) -> None:
    await load(core, tmp_path, CASH)
    report = await load(core, tmp_path, "INT-CASH,customer,CZK,1,0,active,")
    assert counts(report) == (0, 0, 0, 1)
    assert counts(await load(core, tmp_path, CASH.replace("-500.00", "1"))) == (0, 1, 0, 0)
    assert await owner.fetchval("SELECT count(*) FROM ni.position") == 0


async def test_an_ni_movement_fixes_the_balance(
    core: asyncpg.Connection, owner: asyncpg.Connection, tmp_path: Path
) -> None:
    await load(core, tmp_path, CUSTOMER, "ACC-2,customer,CZK,1,0,active,")
    await movement(owner, "ACC-1")
    report = await load(
        core, tmp_path, "ACC-1,customer,CZK,99.99,50,closed,C2", "ACC-2,customer,CZK,2,0,active,"
    )
    assert counts(report) == (0, 1, 0, 1)
    assert report.refused_lines[0].line == 2
    assert "ACC-1 has movements" in report.refused_lines[0].reason
    assert await account(core, "ACC-1") == ("customer", "CZK", 10_000, 0, "active", "C1")


async def test_the_rest_of_a_moved_account_may_change(
    core: asyncpg.Connection, owner: asyncpg.Connection, tmp_path: Path
) -> None:
    await load(core, tmp_path, CUSTOMER)
    await movement(owner, "ACC-1")
    report = await load(core, tmp_path, "ACC-1,customer,CZK,100.00,50,closed,C2")
    assert counts(report) == (0, 1, 0, 0)
    assert await account(core, "ACC-1") == ("customer", "CZK", 10_000, 5_000, "closed", "C2")


async def test_a_core_entry_fixes_the_balance(core: asyncpg.Connection, tmp_path: Path) -> None:
    await load(core, tmp_path, CUSTOMER, CASH)
    await core.execute(
        "INSERT INTO core.entry (account, amount, currency, value_date, business_date, booked_at) "
        "VALUES ('ACC-1', 1, 'CZK', '1993-01-04', '1993-01-04', now()), "
        "('INT-CASH', -1, 'CZK', '1993-01-04', '1993-01-04', now())"
    )
    report = await load(
        core, tmp_path, CUSTOMER.replace("100.00", "1"), CASH.replace("-500.00", "1")
    )
    assert counts(report) == (0, 0, 0, 2)


@pytest.mark.parametrize("side", ["debit_account", "credit_account"])
async def test_a_posting_fixes_an_internal_account_s_balance(
    core: asyncpg.Connection, owner: asyncpg.Connection, tmp_path: Path, side: str
) -> None:
    """The posting lies in the customer's bucket, whichever that is."""
    await load(core, tmp_path, CASH, "INT-OTHER,internal,CZK,0,0,active,")
    accounts = {"debit_account": "ACC-1", "credit_account": "ACC-1"} | {side: "INT-CASH"}
    await owner.execute(
        "INSERT INTO ni.posting (bucket, posting_id, home, client, type, debit_account, "
        "credit_account, debit_customer, credit_customer, amount, currency, straight_through, "
        "status, check_mode, value_date, valid_from, epoch, created_at, changed_at) VALUES "
        "(ni.bucket_of('ACC-1'), gen_random_uuid(), true, 'cash', 'TRANSFER', $1, $2, $3, $4, 1, "
        "'CZK', true, 'pending', 'available', '1993-01-04', now(), 1, now(), now())",
        accounts["debit_account"],
        accounts["credit_account"],
        side != "debit_account",
        side != "credit_account",
    )
    report = await load(
        core, tmp_path, CASH.replace("-500.00", "1"), "INT-OTHER,internal,CZK,3,0,active,"
    )
    assert counts(report) == (0, 1, 0, 1)
    assert "INT-CASH has movements" in report.refused_lines[0].reason


async def test_a_load_waits_for_the_decision_that_is_being_made(
    database: Database, core: asyncpg.Connection, owner: asyncpg.Connection, tmp_path: Path
) -> None:
    """A decision holds the position; the load sees what it wrote, or gives way, never neither."""
    await load(core, tmp_path, CUSTOMER)
    async with connected(database.owner_dsn) as decider:
        transaction = decider.transaction()
        await transaction.start()
        await decider.execute("INSERT INTO ni.position VALUES (ni.bucket_of('ACC-1'), 'ACC-1')")
        loading = asyncio.create_task(load(core, tmp_path, CUSTOMER.replace("100.00", "1")))
        await asyncio.sleep(0.05)
        assert not loading.done()
        await movement(decider, "ACC-1")
        await transaction.commit()
        assert counts(await loading) == (0, 0, 0, 1)
    assert (await account(owner, "ACC-1"))[2] == 10_000


async def test_a_load_does_not_wait_long_for_a_decision(
    database: Database, core: asyncpg.Connection, tmp_path: Path
) -> None:
    await load(core, tmp_path, CUSTOMER)
    async with connected(database.owner_dsn) as decider, decider.transaction():
        await decider.execute("INSERT INTO ni.position VALUES (ni.bucket_of('ACC-1'), 'ACC-1')")
        with pytest.raises(NiError, match="lines 2 to 2: accounts are in use"):
            await load(core, tmp_path, CUSTOMER.replace("100.00", "1"))
    assert counts(await load(core, tmp_path, CUSTOMER.replace("100.00", "1"))) == (0, 1, 0, 0)


async def test_an_account_locked_by_the_core(
    database: Database, core: asyncpg.Connection, tmp_path: Path
) -> None:
    await load(core, tmp_path, CUSTOMER)
    await core.execute("SET lock_timeout = '100ms'")
    async with connected(database.core_dsn) as other, other.transaction():
        await other.execute("SELECT FROM core.account FOR UPDATE")
        with pytest.raises(NiError, match="lines 2 to 2: accounts are in use"):
            await load(core, tmp_path, CUSTOMER)


async def test_an_account_opened_by_another_at_the_same_moment(
    database: Database, core: asyncpg.Connection, tmp_path: Path
) -> None:
    async with connected(database.core_dsn) as other:
        transaction = other.transaction()
        await transaction.start()
        await other.execute(
            "INSERT INTO core.account (account, kind, currency) VALUES ('ACC-1', 'internal', 'EUR')"
        )
        loading = asyncio.create_task(load(core, tmp_path, CUSTOMER))
        await asyncio.sleep(0.05)
        await transaction.commit()
    report = await loading
    assert counts(report) == (0, 0, 0, 1)
    assert "opened by somebody else" in report.refused_lines[0].reason


async def test_an_account_that_stands_twice_is_updated_by_its_second_line(
    core: asyncpg.Connection, tmp_path: Path
) -> None:
    second = CUSTOMER.replace(",0,", ",5,")
    assert counts(await load(core, tmp_path, CUSTOMER, second, second)) == (1, 1, 1, 0)
    assert (await account(core, "ACC-1"))[3] == 500


async def test_many_lines_in_chunks_with_progress(core: asyncpg.Connection, tmp_path: Path) -> None:
    lines = [f"ACC-{number},customer,CZK,1,0,active,C" for number in range(2 * CHUNK_LINES + 1)]
    lines[CHUNK_LINES + 5] = "acc,customer,CZK,1,0,active,C"
    lines[3] = "too,short"
    path = tmp_path / "accounts.csv.gz"
    path.write_bytes(gzip.compress(text_of(lines)))
    seen: list[tuple[int, int]] = []
    report = await load_accounts(core, path, lambda done, whole: seen.append((done, whole)))
    assert counts(report) == (2 * CHUNK_LINES - 1, 0, 0, 2)
    assert [line.line for line in report.refused_lines] == [5, CHUNK_LINES + 7]
    size = path.stat().st_size
    assert len(seen) == 3
    assert seen[-1] == (size, size)


async def test_the_report_keeps_the_first_refused_lines(
    core: asyncpg.Connection, tmp_path: Path
) -> None:
    report = await load(core, tmp_path, *(["wrong"] * (REFUSED_LINES_KEPT + 7)))
    assert report.refused == REFUSED_LINES_KEPT + 7
    assert len(report.refused_lines) == REFUSED_LINES_KEPT


async def test_a_file_that_cannot_be_read(core: asyncpg.Connection, tmp_path: Path) -> None:
    with pytest.raises(NiError, match="No such file"):
        await load_accounts(core, tmp_path / "nowhere.csv")
    path = tmp_path / "other.csv"
    path.write_text("account,balance\nA,1\n")
    with pytest.raises(NiError, match="the first line must be account,kind,currency"):
        await load_accounts(core, path)
