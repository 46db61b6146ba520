"""`python -m api` that can be made to kill or stop itself at a named point of a decision.

NI_TEST_TRIGGER names a file. When it says e.g. `written 3 KILL`, the process sends itself SIGKILL
the third time it comes to the checkpoint "written"; the file is removed first. Besides the
transaction's own checkpoints there is "answering": after everything, before the answer is sent.
NI_TEST_CLOCK_SHIFT_MS moves this process's wall clock, which must decide nothing.
"""

from __future__ import annotations

import os
import runpy
import signal
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

from starlette.types import Send

import api.replies
import ni.clock
import ni.transaction

_trigger = Path(os.environ.get("NI_TEST_TRIGGER", "/nonexistent/trigger"))
_passed: dict[str, int] = {}


def checkpoint(_name: str) -> None:
    """Count the passes of the point that the trigger names; act at the wanted one."""
    try:
        point, wanted, sign = _trigger.read_text().split()
    except (FileNotFoundError, ValueError):
        _passed.clear()
        return
    if _name != point:
        return
    _passed[point] = _passed.get(point, 0) + 1
    if _passed[point] >= int(wanted):
        _trigger.unlink()
        os.kill(os.getpid(), signal.Signals[f"SIG{sign}"])


def send_after_checkpoint() -> None:
    """Every answer passes the checkpoint "answering" before its first byte leaves."""
    send_now = api.replies.Reply.send

    async def send(reply: api.replies.Reply, channel: Send) -> None:
        checkpoint("answering")
        await send_now(reply, channel)

    api.replies.Reply.send = send  # type: ignore[assignment,method-assign]  # a test puts a hook in


def shift_clock(shift: timedelta) -> None:
    """Move the wall clock of this process."""
    seconds = shift.total_seconds()
    true_time = time.time
    time.time = lambda: true_time() + seconds
    ni.clock.utc_now = lambda: datetime.now(UTC) + shift


if __name__ == "__main__":
    ni.transaction.checkpoint = checkpoint
    send_after_checkpoint()
    shift_clock(timedelta(milliseconds=int(os.environ.get("NI_TEST_CLOCK_SHIFT_MS", "0"))))
    runpy.run_module("api", run_name="__main__")
