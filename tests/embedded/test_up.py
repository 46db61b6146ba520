"""`ni up` and `ni down`: what `make run` does, with real servers and the real API."""

from __future__ import annotations

import os
import signal
import stat
from pathlib import Path

import asyncpg
import httpx
import pytest

from ni.embedded import EmbeddedValkey
from ni.postgres_server import run_blocking
from ni.private_file import Secrets
from ni.processes import is_alive, is_port_free
from tests.embedded.up_process import ROOT, UpProcess, balance, ni, running, wait_until_ended
from tests.support.databases import Database

pytestmark = pytest.mark.timeout(240)
ACCOUNT = "CZ1100002378"
POSTING = {
    "debit_account": ACCOUNT,
    "credit_account": "INT-CASH",
    "amount": "50.00",
    "currency": "CZK",
    "packet": "cash-am",
}


def test_first_run_serves_the_demo_bank_and_the_second_finds_its_data(home: Path) -> None:
    with running(home) as up:
        run = up.wait_ready()
        assert stat.S_IMODE(up.run_path.stat().st_mode) == 0o600
        assert set(run["keys"]) == {"cash", "payments", "cards", "operator", "approver"}
        demo = balance(run, ACCOUNT)
        assert (demo["available"], demo["credit_limit"], demo["currency"]) == (
            "100.00",
            "0.00",
            "CZK",
        )
        assert demo["business_date"] == "1993-01-04"
        headers = {"Authorization": f"Bearer {run['keys']['cash']}", "Idempotency-Key": "first"}
        posted = httpx.post(
            f"{run['base_url']}/v1/postings", json=POSTING, headers=headers, trust_env=False
        )
        assert posted.status_code == 201
        everything = up.everything()
        assert up.stop(signal.SIGTERM) == 0
        assert wait_until_ended(everything) == []
        assert not up.run_path.exists()
        words = [word for part in ("postgres", "valkey", "keys") for word in _secrets(home, part)]
        texts = [up.output, *(log.read_text() for log in (home / "logs").iterdir())]
        assert [word for word in words if any(word in text for text in texts)] == []
    with running(home) as up:
        again = up.wait_ready()
        assert again["keys"] == run["keys"]
        assert again["engine_dsn"] == run["engine_dsn"]
        assert balance(again, ACCOUNT)["available"] == "50.00"
        assert "Demo bank" not in up.output


def _secrets(home: Path, section: str) -> list[str]:
    return list(Secrets(home).section(section).values())


def test_ctrl_c_reaches_the_supervisor_alone_and_stops_all_in_order(home: Path) -> None:
    with running(home) as up:
        everything = up.everything()
        assert up.stop(signal.SIGINT, group=True) == 0
        assert wait_until_ended(everything) == []
        order = [
            up.output.index(f"Stopping {what}") for what in ("the API", "Valkey", "PostgreSQL")
        ]
        assert order == sorted(order)
        assert "received fast shutdown request" in (home / "logs/postgres.log").read_text()
        assert "Traceback" not in up.output


def test_second_up_is_refused_and_down_stops_the_first(home: Path) -> None:
    with running(home) as up:
        second = ni(home, "up")
        assert second.returncode == 1
        assert second.stderr.startswith("ni: NI runs already with NI_HOME=")
        assert second.stderr.count("\n") == 1
        assert up.process is not None
        assert up.process.poll() is None
        everything = up.everything()
        stopped = ni(home, "down")
        assert (stopped.returncode, stopped.stdout) == (0, "NI has stopped.\n")
        assert up.process.wait(10) == 0
        assert wait_until_ended(everything) == []
    assert ni(home, "down").stdout == f"NI does not run with NI_HOME={home}.\n"


def test_what_dies_is_started_again_at_the_same_address(home: Path) -> None:
    with running(home) as up:
        run = up.wait_ready()
        said = {
            "api": "api ended (killed by SIGKILL) and is started again in",
            "postgres": "PostgreSQL serves again on",
            "valkey": "Valkey serves again on",
        }
        for name, line in said.items():
            killed = up.named(name)
            os.kill(killed.pid, signal.SIGKILL)
            assert wait_until_ended([killed]) == []
            up.wait_said(line)
            assert balance(run, ACCOUNT)["available"] == "100.00"
        assert up.wait_ready() == run
        assert up.stop() == 0


@pytest.mark.parametrize("then", ["up", "down"])
def test_what_a_killed_up_leaves_behind(home: Path, then: str) -> None:
    with running(home) as up:
        assert up.process is not None
        left = up.everything()
        up.process.kill()
        up.process.wait()
        assert [process for process in left if not is_alive(process)] == []
        if then == "down":
            assert ni(home, "down").stdout.endswith("NI has stopped.\n")
        else:
            up.run_path.unlink()
            up.start()
            assert balance(up.wait_ready(), ACCOUNT)["available"] == "100.00"
            assert "PostgreSQL found running" in up.output
            assert up.stop() == 0
        assert wait_until_ended(left) == []
        assert not up.run_path.exists()


def test_stop_before_it_is_ready(home: Path) -> None:
    up = UpProcess(home)
    up.start()
    while not (home / "postgres" / "data").exists():
        assert up.process is not None
        assert up.process.poll() is None, up.output
    assert up.stop(signal.SIGTERM) == 0
    assert not up.run_path.exists()
    assert not (home / "postgres/data/postmaster.pid").exists()
    up.output_path.unlink()


def test_databases_of_ones_own(home: Path, database: Database, valkey: EmbeddedValkey) -> None:
    environment = {
        "NI_OWNER_DATABASE_URL": database.owner_dsn,
        "NI_DATABASE_URL": database.engine_dsn,
        "NI_CORE_DATABASE_URL": database.core_dsn,
        "NI_REDIS_URL": valkey.url,
    }
    with running(home, **environment) as up:
        run = up.wait_ready()
        assert (run["keys"], run["engine_dsn"]) == ({}, database.engine_dsn)
        assert not (home / "postgres").exists()
        assert up.stop() == 0
    assert run_blocking(_count_accounts(database.owner_dsn)) == 0


async def _count_accounts(dsn: str) -> object:
    connection = await asyncpg.connect(dsn)
    try:
        return await connection.fetchval("SELECT count(*) FROM core.account")
    finally:
        await connection.close()


@pytest.mark.parametrize(
    ("environment", "said"),
    [
        ({"NI_DATABASE_URL": "postgresql://x@127.0.0.1:1/x"}, "set NI_OWNER_DATABASE_URL, NI_CORE"),
        ({"NI_EMBEDDED_DIR": "/", "NI_HOME": "/proc/none"}, "NI_HOME=/proc/none cannot be made"),
    ],
)
def test_what_cannot_start_is_one_plain_line(
    home: Path, environment: dict[str, str], said: str
) -> None:
    ended = ni(home, "up", cwd=ROOT, **environment)
    assert ended.returncode == 1
    assert ended.stderr.startswith("ni: ")
    assert said in ended.stderr
    assert ended.stderr.count("\n") == 1


def test_taken_port_is_told_when_it_was_asked_for(home: Path, valkey: EmbeddedValkey) -> None:
    assert not is_port_free(valkey.port)
    ended = ni(home, "up", NI_API_PORT=str(valkey.port))
    assert ended.returncode == 1
    assert f"port {valkey.port} of 127.0.0.1 is taken" in ended.stderr
    assert not (home / "postgres/data/postmaster.pid").exists()


def test_wrong_setting_is_one_plain_line(home: Path) -> None:
    ended = ni(home, "up", NI_LANES="none")
    assert ended.returncode == 1
    assert ended.stderr.startswith("ni: NI_LANES: Input should be a valid integer")
    assert ended.stderr.count("\n") == 1


def test_api_that_cannot_start_is_told_with_its_own_words(home: Path, tmp_path: Path) -> None:
    (tmp_path / "api.py").write_text("raise SystemExit('an error of the API')")
    ended = ni(home, "up", cwd=tmp_path, PYTHONPATH=f"{tmp_path}:{ROOT}")
    assert ended.returncode == 1
    assert "ni: the API does not become ready: an error of the API (more in" in ended.stderr
    assert not (home / "postgres/data/postmaster.pid").exists()
