"""A worker's sign of life: there while its loop turns, gone with it, old when it hangs."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import time
from pathlib import Path

from ni.heartbeat import SILENT_S, beat_path, is_alive
from workers.heartbeat import beat


async def test_it_beats_until_it_is_cancelled(tmp_path: Path) -> None:
    assert not is_alive(tmp_path, "relay")
    heart = asyncio.create_task(beat(tmp_path, "relay"))
    await asyncio.sleep(0.05)
    assert is_alive(tmp_path, "relay")
    assert not is_alive(tmp_path, "sms")
    heart.cancel()
    await asyncio.gather(heart, return_exceptions=True)
    assert not is_alive(tmp_path, "relay")


def test_a_beat_that_is_too_old_is_none(tmp_path: Path) -> None:
    path = beat_path(tmp_path, "relay")
    path.touch()
    for age, expected in ((SILENT_S - 3, True), (SILENT_S + 1, False)):
        then = time.time() - age
        os.utime(path, (then, then))
        assert is_alive(tmp_path, "relay") is expected


async def test_where_nobody_asks_it_ends(tmp_path: Path) -> None:
    """No folder: no beat, and no folder made. Any other fault is told once."""
    none, file = tmp_path / "none", tmp_path / "file"
    await asyncio.wait_for(beat(none, "relay"), 1)
    await asyncio.to_thread(file.touch)
    await asyncio.wait_for(beat(file, "relay"), 1)
    assert await asyncio.to_thread(os.listdir, tmp_path) == ["file"]


def test_the_command_tells_by_its_exit_code(tmp_path: Path) -> None:
    def asked(*words: str) -> tuple[int, str]:
        command = [sys.executable, "-m", "ni.heartbeat", *words]
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
        return done.returncode, done.stderr

    assert asked(str(tmp_path), "relay") == (
        1, f"ni: no worker relay has given a sign of life in {tmp_path}\n"
    )  # fmt: skip
    beat_path(tmp_path, "relay").touch()
    assert asked(str(tmp_path), "relay") == (0, "")
    assert asked(str(tmp_path))[0] == 2
