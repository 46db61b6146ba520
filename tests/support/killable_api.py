"""`python -m api` that can be made to kill or stop itself at a named point of a decision.

NI_TEST_TRIGGER says where and how, see trigger.py. Besides the transaction's own checkpoints there
is "answering": after everything, before the answer is sent.
NI_TEST_CLOCK_SHIFT_MS moves this process's wall clock, which must decide nothing.
"""

from __future__ import annotations

import os
import runpy
import time
from datetime import UTC, datetime, timedelta

from starlette.types import Send

import api.replies
import ni.clock
import ni.transaction
from tests.support.trigger import checkpoint


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
