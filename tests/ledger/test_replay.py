"""`ni replay` through the real API into the core: twice, interrupted, and a bank's whole year."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Iterator
from datetime import date
from pathlib import Path

import pytest

from ni.core_file import parse_line
from ni.core_ledger import (
    block,
    business_dates,
    core_session,
    open_accounts,
    set_business_date,
    set_limit,
    show_account,
    unblock,
)
from ni.errors import NiError
from ni.session import connected
from tests.ledger.scene import Scene, a_bank_s_year, open_scene
from tests.ledger.statements import SMALL, write_statement
from tests.support.api_process import Servers
from tests.support.caller import Caller, http_client


@pytest.fixture
def scene(servers: Servers, tmp_path: Path) -> Iterator[Scene]:
    """The API on a database that has clients and nothing else."""
    with open_scene(servers, tmp_path) as made:
        yield made


def in_core(scene: Scene, *accounts: str) -> dict[str, tuple[int, int]]:
    """Balance and credit limit of accounts."""

    async def ask() -> dict[str, tuple[int, int]]:
        async with core_session(scene.servers.core_dsn) as connection:
            shown = [await show_account(connection, name) for name in accounts]
        return {one.account: (one.balance, one.credit_limit) for one in shown}

    return asyncio.run(ask())


def test_a_small_statement_twice(scene: Scene, tmp_path: Path) -> None:
    path = write_statement(tmp_path)
    code, output, errors = scene.run("replay", path)
    assert (code, errors) == (0, "")
    assert "9 rows of 2 accounts; 8 accounts opened in the core" in output
    assert "9 of 9 rows, 0 refusals, 0 mismatches, 0 replayed" in output
    assert "8 packets, 0 not wholly booked, 0 problems, 0 refusals" in output
    assert "NI: 0 of 8 accounts pending, postings of 2615.80 CZK" in output
    total = "debits 2615.80, credits 2615.80 CZK"
    assert f"core: 0 balances other than the statement's, {total}" in output
    closed = {"ACC-1": (-1_360, 1_360), "ACC-2": (-10_020, 10_020), "INT-CASH": (45_000, 0)}
    assert in_core(scene, *closed) == closed
    before = scene.bank_facts()
    assert before[1] == []

    code, output, errors = scene.run("replay", path, "--in-flight", "3")
    assert (code, errors) == (0, "")
    assert "0 accounts opened in the core" in output
    assert "9 of 9 rows, 0 refusals, 0 mismatches, 9 replayed" in output
    assert scene.bank_facts() == before


def test_a_problem_is_told_and_once_it_is_solved_the_next_run_is_clean(
    scene: Scene, tmp_path: Path
) -> None:
    asyncio.run(arrest(scene))
    path = write_statement(tmp_path, ["1,1993-01-04,ACC-1,debit,VYBER,SLUZBY,14.60,-14.60,,"])
    code, output, errors = scene.run("replay", path)
    assert code == 1
    assert "1 of 1 rows, 0 refusals, 0 mismatches" in output
    assert "1 packets, 1 not wholly booked, 1 problems, 0 refusals" in output
    assert "NI: 2 of 2 accounts pending, postings of 14.60 CZK" in output
    assert "core: 1 balances other than the statement's, debits 0.00, credits 0.00" in output
    for fault in (
        ": account_blocked: ACC-1: order 7",
        "packet 1993-01-04.fee: problems",
        "ACC-1: -14.60 is pending still",
        "INT-FEES: 14.60 is pending still",
        "ACC-1: the statement ends with -14.60, the core has 0.00",
        "debits and credits of NI and the core are not the same",
    ):
        assert fault in errors

    asyncio.run(solve(scene))
    code, output, errors = scene.run("replay", path)
    assert (code, errors) == (0, "")
    assert "1 packets, 0 not wholly booked, 0 problems, 0 refusals" in output
    before = scene.bank_facts()
    assert before[1] == []
    assert scene.run("replay", path)[0] == 0
    assert scene.bank_facts() == before


async def arrest(scene: Scene) -> None:
    """ACC-1 is there and arrested before the replay begins."""
    async with core_session(scene.servers.core_dsn) as connection:
        line = ["ACC-1", "customer", "CZK", "0", "14.60", "active", ""]
        await open_accounts(connection, [parse_line(1, line)])
        await block(connection, "ACC-1", "debit", "order 7")


async def solve(scene: Scene) -> None:
    """The arrest ends, and somebody lets the problem be tried again."""
    async with core_session(scene.servers.core_dsn) as connection:
        await unblock(connection, "ACC-1")
    async with http_client() as http:
        chief = Caller(http, scene.api.base_url, scene.keys["chief"])
        [problem] = (await chief.get("/v1/problems")).body["items"]
        path = f"/v1/problems/{problem['posting_id']}/resolve"
        assert (await chief.post(path, {"action": "retry", "reason": "released"})).status == 200


def test_what_others_have_pending_is_theirs(scene: Scene, tmp_path: Path) -> None:
    async def others() -> None:
        async with core_session(scene.servers.core_dsn) as connection:
            lines = ["OTHER,customer,CZK,9.00,0,active,", "INT-CASH,internal,CZK,0,0,active,"]
            await open_accounts(connection, [parse_line(1, line.split(",")) for line in lines])
            await set_business_date(connection, date(1993, 1, 8))
        asked = {"debit_account": "OTHER", "credit_account": "INT-CASH", "amount": "9.00"}
        async with http_client() as http:
            caller = Caller(http, scene.api.base_url, scene.keys["weak"])
            answer = await caller.post("/v1/postings", asked | {"currency": "CZK", "packet": "p"})
            assert answer.status == 201

    asyncio.run(others())
    code, output, errors = scene.run("replay", write_statement(tmp_path))
    assert (code, errors) == (0, "")
    assert "NI: 0 of 8 accounts pending" in output


def test_a_limit_that_changes_between_the_runs(scene: Scene, tmp_path: Path) -> None:
    """The first run's answers are compared with the limit of then, new ones with that of now."""
    path = write_statement(tmp_path, SMALL[:5])
    assert scene.run("replay", path)[0] == 0

    async def change() -> None:
        async with core_session(scene.servers.core_dsn) as connection:
            await set_limit(connection, "ACC-1", 77_700)

    asyncio.run(change())
    assert scene.run("replay", path)[0] == 0


def test_a_statement_that_does_not_add_up(scene: Scene, tmp_path: Path) -> None:
    lines = [
        "1,1993-01-04,ACC-1,credit,VKLAD,,10.00,10.00,,",
        "2,1993-01-04,ACC-1,credit,VKLAD,,10.00,20.01,,",
        "3,1993-01-04,ACC-1,debit,VYBER,,50.00,5.00,,",
        "4,1993-01-04,ACC-1,debit,VYBER,SLUZBY,5.00,15.00,,",
    ]
    code, output, errors = scene.run("replay", write_statement(tmp_path, lines))
    assert code == 1
    assert "4 of 4 rows, 1 refusals, 1 mismatches, 0 replayed" in output
    assert "line 3, ACC-1: the bank recorded 20.01, NI says 20.00" in errors
    assert "line 4, ACC-1: refused insufficient_funds" in errors


def test_the_business_date_is_moved_only_forward(scene: Scene, tmp_path: Path) -> None:
    async def dates_after(day: date) -> tuple[date, date] | None:
        async with core_session(scene.servers.core_dsn) as connection:
            await set_business_date(connection, day)
        code, _, errors = await asyncio.to_thread(scene.run, "replay", write_statement(tmp_path))
        assert (code, errors) == (0, "")
        async with core_session(scene.servers.core_dsn) as connection:
            return await business_dates(connection)

    last = (date(1993, 1, 8), date(1993, 1, 11))
    assert asyncio.run(dates_after(date(1993, 1, 4))) == last
    assert asyncio.run(dates_after(date(1993, 1, 7))) == (date(1993, 1, 7), date(1993, 1, 8))
    assert asyncio.run(dates_after(date(2031, 1, 6))) == (date(2031, 1, 6), date(2031, 1, 7))


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("ACC-2,internal,CZK,1000,0,active,", "ACC-2 with the kind internal"),
        ("INT-CASH,internal,EUR,0,0,active,", "INT-CASH with the currency EUR"),
        ("ACC-2,customer,CZK,999.99,0,active,", "balance 999.99 and the statement opens it with"),
    ],
)
def test_accounts_that_are_not_the_statement_s(
    scene: Scene, tmp_path: Path, line: str, message: str
) -> None:
    async def open_one() -> None:
        async with core_session(scene.servers.core_dsn) as connection:
            await open_accounts(connection, [parse_line(1, line.split(","))])

    asyncio.run(open_one())
    code, _, errors = scene.run("replay", write_statement(tmp_path))
    assert code == 1
    assert message in errors
    assert "Traceback" not in errors
    with pytest.raises(NiError, match="no account ACC-1"):
        in_core(scene, "ACC-1")


def test_what_stops_a_replay_at_once(scene: Scene, tmp_path: Path) -> None:
    path = write_statement(tmp_path)
    for arguments, message in (
        (("--client", "weak"), "refused the key: this needs the scope posting:force"),
        (("--client", "nobody"), "has no key of the client nobody"),
        (("--currency", "XAU"), "'XAU' is not an ISO 4217 currency"),
        (("--base-url", "localhost"), "'localhost' is not an address"),
        (("--base-url", "http://127.0.0.1:1", "--patience", "1"), "NI gave no answer"),
    ):
        code, _, errors = scene.run("replay", path, *arguments)
        assert code == 1
        assert message in errors
        assert "Traceback" not in errors
    code, _, errors = scene.run("replay", tmp_path / "nowhere.csv")
    assert code == 1
    assert "No such file" in errors


@pytest.mark.parametrize("sign", [signal.SIGINT, signal.SIGTERM])
def test_interrupted_and_run_again(scene: Scene, tmp_path: Path, sign: signal.Signals) -> None:
    lines = [
        f"{number},1993-01-04,ACC-{number % 50:02},credit,VKLAD,,1.00,{number // 50 + 1}.00,,"
        for number in range(5_000)
    ]
    path = write_statement(tmp_path, lines)
    with scene.ni("replay", path, "--in-flight", "8") as process:
        assert process.stdout is not None
        assert "5000 rows of 50 accounts" in process.stdout.readline()
        wait_for_postings(scene, 200)
        process.send_signal(sign)
        output, errors = process.communicate(timeout=20)
        assert process.returncode == 130, errors
    assert "interrupted: run the same command again" in output
    assert " 0 refusals, 0 mismatches" in output
    done = int(output.split(" of 5000 rows")[0].split()[-1])
    assert 200 <= done < 5_000
    assert scene.bank_facts()[1] == []
    code, output, errors = scene.run("replay", path)
    assert (code, errors) == (0, "")
    assert f"5000 of 5000 rows, 0 refusals, 0 mismatches, {done} replayed" in output


def wait_for_postings(scene: Scene, wanted: int) -> None:
    """Returns when NI has so many postings."""

    async def wait() -> None:
        async with connected(scene.servers.owner_dsn) as connection:
            for _ in range(1_200):
                if await connection.fetchval("SELECT count(*) FROM ni.posting") >= wanted:
                    return
                await asyncio.sleep(0.05)
        raise AssertionError(f"there are not {wanted} postings after a minute")

    asyncio.run(wait())


@pytest.mark.timeout(600)
def test_a_bank_s_whole_year(scene: Scene) -> None:
    """27,215 real movements: every balance after each is the bank's own, in NI and in the core."""
    year = a_bank_s_year()
    before = None
    for replayed in (0, 27215):
        code, output, errors = scene.run("replay", year)
        assert (code, errors) == (0, "")
        assert f"27215 of 27215 rows, 0 refusals, 0 mismatches, {replayed} replayed" in output
        assert " packets, 0 not wholly booked, 0 problems, 0 refusals" in output
        assert "NI: 0 of 1116 accounts pending" in output
        assert "core: 0 balances other than the statement's" in output
        after = scene.bank_facts()
        assert after[1] == []
        assert before in (None, after), "the second run changes nothing"
        before = after
