"""`ni night-copy` and the worker: what they say, do and leave alone."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from time import monotonic
from typing import Final

import pytest

from ni.night_copy import Checker
from tests.night_copy.scene import Scene

ROOT: Final = Path(__file__).parents[2]
ENABLE: Final = "".join(
    f"alter table core.account enable always trigger night_copy_account_{event};"
    for event in ("insert", "update", "delete", "truncate")
)
Ni = Callable[..., str]
SECONDS: Final = 20


@pytest.fixture
def environment(scene: Scene, tmp_path: Path) -> dict[str, str]:
    """Where a command or a worker finds the test's database."""
    return os.environ | {
        "NI_HOME": str(tmp_path),
        "NI_DATABASE_URL": scene.database.engine_dsn,
        "NI_NIGHT_COPY_INTERVAL_MS": "20",
    }


@pytest.fixture
def ni(environment: dict[str, str]) -> Ni:
    """Runs `ni night-copy …`; returns what it said."""

    def run(*arguments: str, code: int = 0) -> str:
        done = subprocess.run(
            [sys.executable, "-m", "ni", "night-copy", *arguments],
            cwd=ROOT, env=environment, capture_output=True, text=True, check=False, timeout=60,
        )  # fmt: skip
        assert done.returncode == code, (done.stdout, done.stderr)
        return done.stdout + done.stderr

    return run


@pytest.mark.parametrize("buckets", [1, 8])
async def test_a_difference_is_found_named_and_mended(scene: Scene, ni: Ni) -> None:
    opened = await scene.open(30)
    assert "0 differ" in ni("check")
    assert ni("status").splitlines()[0].split() == ["exact", "yes"]
    await scene.owner.execute("alter table core.account disable trigger user")
    assert "fault         the trigger night_copy_account_" in ni("status", code=1)
    await scene.owner.execute(ENABLE)
    assert (await scene.bring_back()).exact
    await scene.owner.execute("update night.account set balance = 1 where account = $1", opened[3])
    await scene.core.execute("insert into core.account values ('NEW', 'customer', 'CZK')")
    await scene.owner.execute("delete from night.account where account = 'NEW'")
    await scene.owner.execute("update night.account set account = 'GONE' where account = 'A-0005'")
    assert await scene.is_exact(), "nothing tells but the comparison"
    said = ni("check", code=1)
    for key in (opened[3], opened[5], "NEW", "GONE"):
        assert f"account {key} differs and is not noted" in said
    assert "4 differ" in said
    assert await scene.is_exact()
    assert "4 differ" in ni("check", "--note", code=1)
    assert "0 differ" in ni("check"), "what is noted is no error"
    assert "changed keys  4" in ni("status", code=1)
    assert "keys looked at in" in ni("rebuild")
    assert await scene.is_the_same()


async def test_by_night_nothing_is_compared_or_copied(scene: Scene, ni: Ni) -> None:
    await scene.open()
    await scene.turn("night")
    assert "it is night" in ni("check", code=1)
    assert "it is night" in ni("rebuild", code=1)
    assert await scene.notes() == []
    assert "yes" in ni("status")


async def test_a_command_without_a_database_says_so(ni: Ni, environment: dict[str, str]) -> None:
    environment["NI_DATABASE_URL"] = ""
    assert "NI_DATABASE_URL" in ni("status", code=1)


@pytest.mark.parametrize("buckets", [1, 8])
async def test_a_small_step_sees_every_key_once(scene: Scene) -> None:
    await scene.open(53)
    scene.settings.night_copy_check_rows = 7
    checker = Checker(scene.pool, scene.settings)
    while not checker.walks:
        assert await checker.step(note=True) == ("day", None)
    assert checker.keys == 2 * (53 + 1 + 1)


@pytest.mark.parametrize("buckets", [1, 8])
async def test_the_worker_brings_back_and_watches(
    scene: Scene, environment: dict[str, str], tmp_path: Path
) -> None:
    """Killed and started again it goes on; a difference without a note is told and mended."""
    opened = await scene.open(50)
    await scene.turn("night")
    await scene.core.execute("update core.account set balance = 5")
    log = tmp_path / "worker.log"

    def start() -> subprocess.Popen[bytes]:
        with log.open("ab") as out:
            return subprocess.Popen(
                [sys.executable, "-m", "workers", "night-copy"],
                cwd=ROOT, env=environment, stdout=out, stderr=out,
            )  # fmt: skip

    worker = start()
    try:
        await scene.turn("day")
        await _until_the_same(scene)
        while b"night_copy_brought_back" not in log.read_bytes():
            await asyncio.sleep(0.02)
        worker.send_signal(signal.SIGKILL)
        worker.wait(SECONDS)
        worker = start()
        await scene.owner.execute(
            "update night.account set balance = 6 where account = $1", opened[7]
        )
        await _until_the_same(scene)
        text = log.read_text()
        assert "night_copy_differs" in text
        assert opened[7] in text
    finally:
        worker.terminate()
        assert worker.wait(SECONDS) == 0


async def _until_the_same(scene: Scene) -> None:
    began = monotonic()
    while not await scene.is_the_same():
        assert monotonic() - began < SECONDS
        await asyncio.sleep(0.05)
