"""`ni replay --close-every-day`: every date has its evening, night and morning, once."""

from __future__ import annotations

import asyncio
import gzip
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import date
from pathlib import Path
from typing import Any

import asyncpg
import pytest

from ni.core_end_of_day import Charges, end_of_day
from ni.core_ledger import core_session, set_business_date
from ni.replay import prepare, survey
from ni.session import connected
from tests.ledger.scene import ROOT, Scene, a_bank_s_year, open_scene
from tests.ledger.statements import write_statement
from tests.support.api_process import Servers
from tests.support.caller import Caller, http_client

STOP_SECONDS = 20
CLOSING = ("--close-every-day",)
TORTURE = os.environ.get("NI_TORTURE") == "1"
STOPS = ((1, 0), (4, 20), (6, 60)) + (((8, 40), (11, 60), (14, 80)) if TORTURE else ())
"""After so many dates, and so many milliseconds, a replay is stopped."""


@contextmanager
def night_copy_worker(servers: Servers, home: Path) -> Iterator[None]:
    """The worker that makes the night copy exact again in the morning."""
    environment = os.environ | {
        "NI_HOME": str(home),
        "NI_DATABASE_URL": servers.engine_dsn,
    }
    log = (home / "night-copy.log").open("ab")
    with log, subprocess.Popen(
        [sys.executable, "-m", "workers", "night-copy"],
        cwd=ROOT, env=environment, stdout=log, stderr=log,
    ) as process:  # fmt: skip
        try:
            yield
        finally:
            process.terminate()
            process.wait(STOP_SECONDS)


@pytest.fixture
def scene(servers: Servers, tmp_path: Path) -> Iterator[Scene]:
    """The API and the worker on a database that has clients and nothing else."""
    with open_scene(servers, tmp_path) as made, night_copy_worker(servers, tmp_path):
        yield made


def ask(scene: Scene, query: str, *values: object) -> list[asyncpg.Record]:
    """What the database says."""

    async def fetch() -> list[asyncpg.Record]:
        async with connected(scene.servers.owner_dsn) as connection:
            rows: list[asyncpg.Record] = await connection.fetch(query, *values)
            return rows

    return asyncio.run(fetch())


def ended(scene: Scene) -> list[str]:
    """The business dates that the core has ended, in order."""
    rows = ask(scene, "SELECT business_date FROM core.end_of_day ORDER BY business_date")
    return [str(row["business_date"]) for row in rows]


def state(scene: Scene) -> tuple[str, int, str, str]:
    """Mode, epoch, business date and the next one."""
    [row] = ask(
        scene,
        "SELECT mode, epoch, business_date::text, next_business_date::text"
        "  FROM ni.mode, core.ledger",
    )
    return tuple(row)


async def call(scene: Scene, verb: str) -> dict[str, Any]:
    """An operator closes or opens by himself."""
    async with http_client() as http:
        operator = Caller(http, scene.api.base_url, scene.keys["operator"])
        answer = await operator.post(f"/v1/business-day/{verb}", {})
        assert answer.status == 200, answer.content
        return answer.body


@pytest.mark.parametrize("buckets", [1, 8])
def test_every_date_is_closed_once(scene: Scene, tmp_path: Path) -> None:
    path = write_statement(tmp_path)
    code, output, errors = scene.run("replay", path, *CLOSING)
    assert (code, errors) == (0, "")
    assert "9 of 9 rows, 0 refusals, 0 mismatches, 0 replayed" in output
    assert "4 of 4 dates, 0 had ended before, 4 closes, 4 opens, 4 rows by night" in output
    assert "8 packets, 0 not wholly booked, 0 problems, 0 refusals" in output
    assert "NI: 0 of 8 accounts pending, postings of 2615.80 CZK" in output
    assert "core: 0 balances other than the statement's, debits 2615.80, credits" in output
    assert ended(scene) == ["1993-01-04", "1993-01-05", "1993-01-06", "1993-01-08"]
    assert state(scene) == ("day", 9, "1993-01-09", "1993-01-10")
    wait_until_exact(scene)
    before = scene.bank_facts()
    assert before[1] == []

    code, output, errors = scene.run("replay", path, *CLOSING)
    assert (code, errors) == (0, "")
    assert "9 of 9 rows, 0 refusals, 0 mismatches, 9 replayed" in output
    assert "4 of 4 dates, 4 had ended before, 0 closes, 0 opens, 0 rows by night" in output
    assert scene.bank_facts() == before

    asyncio.run(call(scene, "close"))
    code, output, errors = scene.run("replay", path, *CLOSING)
    assert (code, errors) == (0, "")
    assert "4 had ended before, 0 closes, 0 opens" in output
    assert state(scene)[0] == "night", "an operator's night is his"


def test_rows_of_the_night_are_decided_and_booked_apart(scene: Scene, tmp_path: Path) -> None:
    """Night rows have an even epoch and are in their packet's later run, on the next date."""
    assert scene.run("replay", write_statement(tmp_path), *CLOSING, "--night-share", "50")[0] == 0
    rows = ask(
        scene,
        "SELECT p.value_date::text, p.epoch, e.business_date::text"
        "  FROM ni.posting AS p JOIN core.entry AS e USING (posting_id)"
        " WHERE e.account LIKE 'ACC-%' ORDER BY p.posting_id",
    )
    by_night = [row["epoch"] % 2 == 0 for row in rows]
    assert by_night == [False, True, False, True, False, True, False, True, True]
    for row, night in zip(rows, by_night, strict=True):
        assert (row["value_date"] < row["business_date"]) == night


@pytest.mark.parametrize("share", ["0", "100"])
def test_all_or_none_by_night(scene: Scene, tmp_path: Path, share: str) -> None:
    code, output, errors = scene.run(
        "replay", write_statement(tmp_path), *CLOSING, "--night-share", share
    )
    assert (code, errors) == (0, "")
    assert f"4 closes, 4 opens, {9 if share == '100' else 0} rows by night" in output
    assert scene.bank_facts()[1] == []


@pytest.mark.timeout(200)
@pytest.mark.parametrize("sign", [signal.SIGINT, signal.SIGKILL])
def test_stopped_again_and_again_it_finishes(
    scene: Scene, tmp_path: Path, sign: signal.Signals
) -> None:
    dates = STOPS[-1][0] + 6
    lines = [
        f"{number},1993-01-{4 + number // 20:02},ACC-{number % 7},credit,VKLAD,,1.00,"
        f"{number // 7 + 1}.00,,"
        for number in range(20 * dates)
    ]
    path = write_statement(tmp_path, lines)
    for stopped, delay_ms in STOPS:
        with scene.ni("replay", path, *CLOSING) as process:
            wait_until_ended(scene, stopped)
            time.sleep(delay_ms / 1000)
            process.send_signal(sign)
            output, errors = process.communicate(timeout=STOP_SECONDS)
        assert process.returncode in (130, -signal.SIGKILL), errors
        assert "refused" not in errors
        if sign is signal.SIGINT:
            assert ("it is night for NI" in output) == (state(scene)[0] == "night")
        assert scene.bank_facts()[1] == []
    code, output, errors = scene.run("replay", path, *CLOSING)
    assert (code, errors) == (0, "")
    assert f"{20 * dates} of {20 * dates} rows, 0 refusals, 0 mismatches" in output
    [before] = re.findall(rf"{dates} of {dates} dates, (\d+) had ended before", output)
    assert int(before) >= STOPS[-1][0]
    assert len(ended(scene)) == dates
    assert state(scene)[0] == "day"
    assert scene.bank_facts()[1] == []


def wait_until_exact(scene: Scene) -> None:
    """Returns when the worker has brought back what the last night left."""
    deadline = time.monotonic() + STOP_SECONDS
    while not ask(scene, "SELECT ni.night_copy_is_exact_v1() AS exact")[0]["exact"]:
        assert time.monotonic() < deadline, "the copy is not brought back"
        time.sleep(0.05)


def wait_until_ended(scene: Scene, dates: int) -> None:
    """Returns when the core has ended so many dates."""
    deadline = time.monotonic() + STOP_SECONDS
    while len(ended(scene)) < dates:
        assert time.monotonic() < deadline, "the replay does not go on"
        time.sleep(0.01)


def test_it_goes_on_in_the_night_in_which_it_was_stopped(scene: Scene, tmp_path: Path) -> None:
    """Closed by somebody before the first row: all rows of that date come by night."""
    path = write_statement(tmp_path)

    async def begin() -> None:
        async with core_session(scene.servers.core_dsn) as core:
            await prepare(core, survey(path, "CZK"), set_date=False)
            await set_business_date(core, date(1993, 1, 4), date(1993, 1, 5))
        await call(scene, "close")

    asyncio.run(begin())
    code, output, errors = scene.run("replay", path, *CLOSING)
    assert (code, errors) == (0, "")
    assert "4 of 4 dates, 0 had ended before, 3 closes, 4 opens, 5 rows by night" in output
    assert scene.bank_facts()[1] == []


def test_a_night_that_is_over_is_opened(scene: Scene, tmp_path: Path) -> None:
    path = write_statement(tmp_path)

    async def until_ended() -> None:
        async with core_session(scene.servers.core_dsn) as core:
            await prepare(core, survey(path, "CZK"), set_date=False)
            await set_business_date(core, date(1993, 1, 4), date(1993, 1, 5))
            await call(scene, "close")
            await end_of_day(core, charges=Charges())

    asyncio.run(until_ended())
    code, output, errors = scene.run("replay", path, *CLOSING)
    assert (code, errors) == (0, "")
    assert "4 of 4 dates, 1 had ended before, 3 closes, 3 opens" in output
    assert "0 of 8 accounts pending" in output
    assert scene.bank_facts()[1] == []


def test_where_it_cannot_go_on(scene: Scene, tmp_path: Path) -> None:
    async def elsewhere() -> None:
        async with core_session(scene.servers.core_dsn) as core:
            await set_business_date(core, date(1993, 2, 1))
        await call(scene, "close")

    asyncio.run(elsewhere())
    path = write_statement(tmp_path)
    code, _, errors = scene.run("replay", path, *CLOSING)
    assert (code, "the core does not have INT-CARD, and NI is by night" in errors) == (1, True)
    asyncio.run(open_accounts(scene, path))
    code, _, errors = scene.run("replay", path, *CLOSING)
    assert (code, "date is not 1993-01-04, where the statement goes on" in errors) == (1, True)

    async def later() -> None:
        async with core_session(scene.servers.core_dsn) as core:
            await end_of_day(core)
        await call(scene, "open")

    asyncio.run(later())
    code, _, errors = scene.run("replay", path, *CLOSING)
    assert (code, "has ended 1993-02-01 and not 1993-01-04" in errors) == (1, True)
    lines = ["1,1993-01-05,ACC-1,credit,VKLAD,,1.00,1.00,,", "2,1993-01-04,ACC-1,credit,,,1,2,,"]
    code, _, errors = scene.run("replay", write_statement(tmp_path, lines), *CLOSING)
    assert (code, "its dates go back" in errors) == (1, True)


async def open_accounts(scene: Scene, path: Path) -> None:
    """What a replay would do first."""
    async with core_session(scene.servers.core_dsn) as core:
        await prepare(core, survey(path, "CZK"), set_date=False)


def test_without_a_right_to_close(scene: Scene, tmp_path: Path) -> None:
    path = write_statement(tmp_path)
    for arguments, message in (
        (("--operator", "nobody"), "has no key of the client nobody"),
        (("--operator", "weak"), "Replaying needs the scopes day:operate"),
    ):
        code, _, errors = scene.run("replay", path, *CLOSING, *arguments)
        assert (code, message in errors, "Traceback" in errors) == (1, True, False)
    assert ended(scene) == []


@pytest.mark.timeout(900)
def test_a_bank_s_statement_with_every_night(scene: Scene, tmp_path: Path) -> None:
    """A month, or the year: 0 mismatches by day and by night, the core ends with its balances."""
    path = a_bank_s_year() if TORTURE else a_bank_s_month(tmp_path)
    found = survey(path, "CZK")
    rows, dates = found.rows, len(found.days)
    assert (rows, dates) == ((27215, 365) if TORTURE else (1815, 30))
    code, output, errors = scene.run("replay", path, *CLOSING)
    assert (code, errors) == (0, "")
    assert f"{rows} of {rows} rows, 0 refusals, 0 mismatches, 0 replayed" in output
    assert f"{dates} of {dates} dates, 0 had ended before, {dates} closes, {dates} opens" in output
    assert " packets, 0 not wholly booked, 0 problems, 0 refusals" in output
    assert f"NI: 0 of {len(found.accounts) + len(found.internal_accounts)} accounts" in output
    assert "core: 0 balances other than the statement's" in output
    [totals] = re.findall(r"postings of ([\d.]+) CZK\n.* debits ([\d.]+), credits ([\d.]+)", output)
    assert len(set(totals)) == 1
    assert scene.bank_facts()[1] == []


def a_bank_s_month(folder: Path) -> Path:
    """One month of the bank's year: its accounts begin with what they have then."""
    path = folder / "june.csv"
    with gzip.open(a_bank_s_year(), "rt") as year:
        head = next(year)
        path.write_text(head + "".join(line for line in year if ",1993-06-" in line))
    return path
