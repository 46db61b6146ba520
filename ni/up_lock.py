"""One `ni up` for a home: a lock that the kernel frees when its holder dies, however it dies."""

from __future__ import annotations

import json
import os
import signal
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Final

from ni.clock import monotonic
from ni.errors import NiError
from ni.processes import POLL_S, LockHeld, Process, file_lock, find_process, is_alive

LOCK_FILE: Final = ".up.lock"


@contextmanager
def only_one(home: Path) -> Iterator[None]:
    """Holds the home for this process and writes its id into the lock file.

    Raises NiError when another `ni up` holds it.
    """
    with ExitStack() as stack:
        try:
            descriptor = stack.enter_context(file_lock(home / LOCK_FILE, 0))
        except LockHeld as error:
            other = holder(home)
            who = f" (process {other.pid})" if other else ""
            raise NiError(
                f"NI runs already with NI_HOME={home}{who}: stop it with `ni down`, or set NI_HOME "
                "to another folder"
            ) from error
        mine = find_process(os.getpid())
        note = {"pid": os.getpid(), "started": mine.started if mine else ""}
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, json.dumps(note).encode(), 0)
        yield


def holder(home: Path) -> Process | None:
    """The living process whose `ni up` holds the home; None when there is none."""
    path = home / LOCK_FILE
    if not path.exists():
        return None
    with suppress(LockHeld), file_lock(path, 0):
        return None
    try:
        note = json.loads(path.read_text(encoding="ascii"))
        process = Process(note["pid"], note["started"])
    except (ValueError, KeyError):
        return None
    return process if is_alive(process) else None


def stop_holder(home: Path, wait_s: float) -> bool:
    """Asks the `ni up` of this home to stop and waits until it has; False when there is none.

    Raises NiError when it is another user's, or has not stopped in `wait_s` seconds.
    """
    process = holder(home)
    if process is None:
        return False
    try:
        os.kill(process.pid, signal.SIGTERM)
    except PermissionError as error:
        raise NiError(
            f"NI runs as another user (process {process.pid}): stop it as such"
        ) from error
    except ProcessLookupError:
        return True
    deadline = monotonic() + wait_s
    while is_alive(process):
        if monotonic() > deadline:
            raise NiError(f"NI (process {process.pid}) has not stopped within {wait_s:g} s")
        time.sleep(POLL_S)
    return True
