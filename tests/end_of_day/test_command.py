"""`ni core end-of-day` as a bank's scheduler calls it: told, killed, interrupted, called again."""

from __future__ import annotations

import asyncio
import os
import pty
import signal
from contextlib import suppress
from pathlib import Path

import asyncpg
import pytest

from ni.core_ledger import business_dates
from tests.end_of_day.conftest import booked, turn
from tests.end_of_day.process import begin, held, run, until_held
from tests.support.bank import Bank, CoreAccount
from tests.support.databases import Database

CHARGED = ("--fee", "1.00", "--credit-rate", "36.5")


async def test_it_says_what_it_did_and_the_second_time_that_it_was_done(
    core: asyncpg.Connection, bank: Bank, database: Database, tmp_path: Path
) -> None:
    await bank.open_accounts([CoreAccount("A", balance=10_000)])
    for said in (
        "1993-01-04 has ended, the business date is 1993-01-05\n1 accounts charged, 4 entries\n",
        "1993-01-04 has ended before: nothing to do\n",
        "1993-01-04 has ended before: nothing to do\n",
    ):
        assert await asyncio.to_thread(run, database, tmp_path, *CHARGED) == (0, said, "")
    assert (await booked(bank.owner))["A"] == 10_000 + 10 - 100
    code, said, _ = await asyncio.to_thread(
        run, database, tmp_path, "--date", "1993-01-05", "--next", "1993-01-08"
    )
    assert (code, said.splitlines()[-1]) == (0, "0 accounts charged, 0 entries")
    dates = await business_dates(core)
    assert dates is not None
    assert [str(day) for day in dates] == ["1993-01-06", "1993-01-08"]


async def test_by_day_it_says_what_to_do(
    core: asyncpg.Connection, owner: asyncpg.Connection, database: Database, tmp_path: Path
) -> None:
    await turn(owner, "day")
    code, said, errors = await asyncio.to_thread(run, database, tmp_path)
    assert (code, said) == (1, "")
    assert "`ni day close` first" in errors
    assert (await asyncio.to_thread(run, database, tmp_path, "--force"))[0] == 0


@pytest.mark.parametrize("sign", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
async def test_killed_while_it_holds_the_tables(
    core: asyncpg.Connection, bank: Bank, database: Database, tmp_path: Path, sign: signal.Signals
) -> None:
    await bank.open_accounts([CoreAccount("A", balance=10_000)])
    before = await bank.fingerprint()
    with begin(database, tmp_path, *CHARGED, "--hold", "60") as process:
        await until_held(bank.owner)
        process.send_signal(sign)
        output, errors = await asyncio.to_thread(process.communicate, timeout=10)
    assert output == ""
    if sign is signal.SIGINT:
        assert (process.returncode, errors) == (130, "interrupted: nothing was changed\n")
    else:
        assert process.returncode == -sign
    async with asyncio.timeout(5):
        while await held(bank.owner):
            await asyncio.sleep(0.02)
    assert await bank.fingerprint() == before
    code, said, _ = await asyncio.to_thread(run, database, tmp_path, *CHARGED)
    assert (code, said.splitlines()[-1]) == (0, "1 accounts charged, 4 entries")


async def test_a_terminal_shows_how_long_the_tables_are_held(
    core: asyncpg.Connection, database: Database, tmp_path: Path
) -> None:
    ours, theirs = pty.openpty()
    with begin(database, tmp_path, "--hold", "3", stderr=theirs) as process:
        os.close(theirs)
        shown = await asyncio.to_thread(_all_of, ours)
        output, _ = await asyncio.to_thread(process.communicate, timeout=20)
    assert (process.returncode, output.splitlines()[-1]) == (0, "0 accounts charged, 0 entries")
    assert "the core is closed" in shown
    assert "33%" in shown
    assert "67%" in shown


def _all_of(terminal: int) -> str:
    """What is shown until its last writer has ended."""
    shown = b""
    with os.fdopen(terminal, "rb", buffering=0) as screen, suppress(OSError):
        while part := screen.read(4_096):
            shown += part
    return shown.decode()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--credit-rate", "2,5"), "the credit rate '2,5' must be per cent a year"),
        (("--debit-rate", "101"), "the debit rate '101' must be at most 100"),
        (("--fee", "1.001"), "the fee '1.001' has more than 2 decimals"),
        (("--monthly-fee", "-1"), "the monthly fee -1.00 must be zero or more"),
        (("--currency", "XXX"), "'XXX' is not an ISO 4217 currency"),
        (("--date", "1993-01-03"), "the core's business date is 1993-01-04 and not 1993-01-03"),
    ],
    ids=["rate", "rate-limit", "decimals", "negative", "currency", "date"],
)
async def test_what_makes_no_sense(
    core: asyncpg.Connection,
    database: Database,
    tmp_path: Path,
    arguments: tuple[str, str],
    message: str,
) -> None:
    code, output, errors = await asyncio.to_thread(run, database, tmp_path, *arguments)
    assert (code, output) == (1, "")
    assert message in errors
    assert errors.count("\n") == 1
