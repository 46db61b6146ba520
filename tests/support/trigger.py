"""A process that can be made to kill or stop itself at a named point.

NI_TEST_TRIGGER names a file. When it says e.g. `written 3 KILL`, the process sends itself SIGKILL
the third time it comes to the checkpoint "written"; the file is removed first.
"""

from __future__ import annotations

import os
import signal
from pathlib import Path

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
