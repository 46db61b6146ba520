"""A worker's sign of life: a file in $NI_HOME that its event loop touches every few seconds.

Whoever supervises a worker sees by it that the loop turns, which a living process id does not say.
`python -m ni.heartbeat FOLDER WORKER` asks, with exit code 0 or 1; it is asked often, so that this
module imports next to nothing.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Final

from ni import clock

SILENT_S: Final = 15
"""After so long without a beat a worker counts as hanging."""
_MICROSECONDS: Final = 1_000_000
_NANOSECONDS: Final = 1_000


def beat_path(home: Path, worker: str) -> Path:
    """The file that the worker touches."""
    return home / f"{worker}.alive"


def is_alive(home: Path, worker: str) -> bool:
    """Whether a worker of this name has given a sign of life within SILENT_S seconds."""
    try:
        touched_us = beat_path(home, worker).stat().st_mtime_ns // _NANOSECONDS
    except OSError:
        return False
    age = clock.utc_now() - clock.EPOCH
    age_us = (age.days * 86_400 + age.seconds) * _MICROSECONDS + age.microseconds
    return age_us - touched_us < SILENT_S * _MICROSECONDS


def main() -> int:
    """The exit code for the folder and the worker that the command line names."""
    if len(sys.argv) != 3:
        print("ni: name a folder and a worker", file=sys.stderr)
        return 2
    folder, worker = sys.argv[1:]
    if is_alive(Path(folder), worker):
        return 0
    print(f"ni: no worker {worker} has given a sign of life in {folder}", file=sys.stderr)
    return 1


if __name__ == "__main__":
    sys.exit(main())
