"""The commands `ni core`, `ni client` and `ni migrate`: what they say, and their exit codes."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from ni.cli import app
from ni.core_file import COLUMNS
from ni.errors import NiError
from ni.migrate import FOLDER
from tests.support.databases import Database

Ni = Callable[..., str]
HEADER = ",".join(COLUMNS)


@pytest.fixture
def ni(database: Database, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Ni:
    """Runs a command on the test's database; returns its output, raises what it raises."""
    monkeypatch.setenv("NI_HOME", str(tmp_path))
    monkeypatch.setenv("NI_BUCKETS", str(database.buckets))
    monkeypatch.setenv("NI_OWNER_DATABASE_URL", database.owner_dsn)
    monkeypatch.setenv("NI_CORE_DATABASE_URL", database.core_dsn)

    def run(*arguments: str, code: int = 0) -> str:
        result: Result = CliRunner().invoke(app, arguments)
        if result.exception is not None and not isinstance(result.exception, SystemExit):
            raise result.exception
        assert result.exit_code == code, result.output
        return result.output

    return run


@pytest.fixture
def bank(ni: Ni, tmp_path: Path) -> Ni:
    """The same, with two accounts in the core."""
    path = tmp_path / "bank.csv"
    path.write_text(
        f"{HEADER}\nACC-1,customer,CZK,100.00,0,active,C1\nYEN-1,customer,JPY,7,0,active,\n"
    )
    assert ni("core", "load", str(path)) == "2 created, 0 updated, 0 unchanged, 0 refused\n"
    return ni


def test_loading_tells_refused_lines_and_fails(bank: Ni, tmp_path: Path) -> None:
    path = tmp_path / "more.csv"
    path.write_text(f"{HEADER}\nACC-1,customer,CZK,100.00,5,active,C1\nacc,customer,CZK,,,,\n")
    output = bank("core", "load", str(path), code=1)
    assert "line 3 refused: account 'acc' is not 1 to 34 of A-Z, 0-9 and -" in output
    assert "0 created, 1 updated, 0 unchanged, 1 refused" in output


def test_loading_tells_when_more_lines_are_refused_than_shown(bank: Ni, tmp_path: Path) -> None:
    path = tmp_path / "wrong.csv"
    path.write_text(f"{HEADER}\n" + "wrong\n" * 1_003)
    output = bank("core", "load", str(path), code=1)
    assert "… and 3 more" in output
    assert "1003 refused" in output


def test_the_date(bank: Ni) -> None:
    assert bank("core", "date", "1993-01-08") == (
        "business date 1993-01-08, next business date 1993-01-11\n"
    )
    assert "next business date 1993-01-09" in bank(
        "core", "date", "1993-01-08", "--next", "1993-01-09"
    )
    assert "must be a date such as 1993-01-04" in bank("core", "date", "8.1.1993", code=2)


def test_blocking_and_unblocking(bank: Ni) -> None:
    output = bank("core", "block", "ACC-1", "--side", "debit", "--reference", "order [7]/1993")
    assert re.fullmatch(r"ACC-1: debit blocked, block \d+\n", output)
    bank(
        *("core", "block", "ACC-1", "--side", "all", "--reference", "period"),
        *("--from", "1993-01-04T10:00:00+01:00", "--to", "1993-01-05T00:00:00Z"),
    )
    shown = " ".join(bank("core", "account", "ACC-1").split())
    assert "debit: order [7]/1993, from" in shown
    assert "1993-01-04 09:00:00 UTC" in shown
    assert bank("core", "unblock", "ACC-1", "--reference", "order [7]/1993") == (
        "ACC-1: 1 block(s) ended\n"
    )
    with pytest.raises(NiError, match="has no block"):
        bank("core", "unblock", "ACC-1")


@pytest.mark.parametrize("instant", ["1993-01-04T10:00:00", "tomorrow"])
def test_an_instant_needs_an_offset(bank: Ni, instant: str) -> None:
    output = bank(
        *("core", "block", "ACC-1", "--side", "all", "--reference", "x", "--from", instant),
        code=2,
    )
    assert "1993-01-04T10:00:00+01:00" in " ".join(output.split())


def test_limits_in_the_account_s_currency(bank: Ni) -> None:
    assert bank("core", "limit", "ACC-1", "7.5") == "ACC-1: credit limit 7.50 CZK\n"
    assert bank("core", "limit", "YEN-1", "7") == "YEN-1: credit limit 7 JPY\n"
    for amount in ("7.5", "-1", "1e3", ""):
        with pytest.raises(NiError, match=f"the limit '{amount}' "):
            bank("core", "limit", "YEN-1", "--", amount)


def test_closing(bank: Ni) -> None:
    assert bank("core", "close", "ACC-1") == "ACC-1: closed\n"
    assert bank("core", "close", "ACC-1") == "ACC-1: was closed already\n"
    assert "closed" in bank("core", "account", "ACC-1")


def test_what_is_no_account_number(bank: Ni) -> None:
    assert "is not 1 to 34 of A-Z, 0-9 and -" in " ".join(
        bank("core", "close", "acc", code=2).split()
    )
    with pytest.raises(NiError, match="the core has no account ACC-2"):
        bank("core", "account", "ACC-2")


def test_clients(ni: Ni) -> None:
    key = ni("client", "add", "cash", "--scopes", "balance:read posting:write")
    assert re.fullmatch(r"ni_[A-Za-z0-9_-]{43}\n", key)
    ni("client", "add", "cards", "--scopes", "admin,hold:write")
    listed = ni("client", "list")
    assert "balance:read posting:write" in listed
    assert key.strip() not in listed
    assert "cash is disabled since" in ni("client", "disable", "cash")
    with pytest.raises(NiError, match="there is no client nobody"):
        ni("client", "disable", "nobody")
    with pytest.raises(NiError, match="the client cash exists already"):
        ni("client", "add", "cash", "--scopes", "admin")
    with pytest.raises(NiError, match="there is no scope root"):
        ni("client", "add", "other", "--scopes", "root")
    assert "posting:force" in ni("client", "scopes")


def test_migrating(ni: Ni) -> None:
    assert ni("migrate") == "the database is up to date\n"


def test_migrating_an_empty_database(
    ni: Ni, place: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NI_OWNER_DATABASE_URL", place.owner_dsn)
    assert ni("migrate").startswith("applied 0001_schema.sql\n")


@pytest.mark.parametrize(
    ("arguments", "setting"),
    [
        (("core", "close", "ACC-1"), "NI_CORE_DATABASE_URL"),
        (("client", "list"), "NI_OWNER_DATABASE_URL"),
        (("migrate",), "NI_OWNER_DATABASE_URL"),
    ],
)
def test_without_any_database(tmp_path: Path, arguments: tuple[str, ...], setting: str) -> None:
    """An expected failure is one line on standard error, exit code 1, and no traceback."""
    done = subprocess.run(
        [sys.executable, "-m", "ni", *arguments],
        cwd=FOLDER.parent,
        env=os.environ | {"NI_HOME": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stdout) == (1, "")
    assert (
        done.stderr == f"ni: no database is known here: start one with `ni up` or set {setting}\n"
    )
