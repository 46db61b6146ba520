"""Run a worker: `python -m workers NAME`. Ends with status 0 on SIGTERM or Ctrl-C."""

from __future__ import annotations

import asyncio
import importlib
import os
import signal
import sys
from collections.abc import Awaitable, Callable
from typing import Final

from ni.errors import NiError
from ni.logs import configure_logs
from ni.settings import Settings, load_settings
from ni.worker_names import WORKERS
from workers.heartbeat import beat

Worker = Callable[[Settings, asyncio.Event], Awaitable[None]]

GIVE_WAY: Final = ("relay", "sms")
"""They deliver what was decided, and leave the processors to whoever decides."""


def _worker(name: str) -> Worker:
    """The one that runs: nobody needs the libraries of the others."""
    run: Worker = importlib.import_module(f"workers.{name.replace('-', '_')}").run
    return run


async def _serve(name: str, settings: Settings) -> None:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop.set)
    heart = asyncio.create_task(beat(settings.home, name))
    try:
        await _worker(name)(settings, stop)
    finally:
        heart.cancel()
        await asyncio.gather(heart, return_exceptions=True)


def main() -> int:
    """Run the worker that the command line names, until told to stop."""
    names = sys.argv[1:]
    if len(names) != 1 or names[0] not in WORKERS:
        print(f"ni: name one worker: {', '.join(WORKERS)}", file=sys.stderr)
        return 2
    settings = load_settings()
    configure_logs(settings.log_level)
    if names[0] in GIVE_WAY:
        os.nice(settings.delivery_nice)
    try:
        asyncio.run(_serve(names[0], settings))
    except NiError as error:
        print(f"ni: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
