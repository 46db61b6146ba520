"""Child processes of `ni up`: started, started again when they die, and stopped."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from ni.clock import monotonic
from ni.private_file import read_private, write_private
from ni.processes import Process, end_process, find_process, is_alive
from ni.server_home import ServerHome, Tell

STOP_S: Final = 15.0
"""A child finishes what it has begun within this time after SIGTERM, else it is killed."""

PAUSES_S: Final = (0.5, 1.0, 2.0, 5.0, 10.0, 30.0)
"""Pauses before a child is started again, the last one for ever."""

STEADY_S: Final = 60.0
"""A child that has lived so long begins again with the first pause when it dies."""


class ChildList:
    """$NI_HOME/processes.json: which children run, for the start after a crash."""

    def __init__(self, home: Path) -> None:
        self._path = home / "processes.json"

    def add(self, name: str, process: Process) -> None:
        """Notes a child that has been started, in place of the last one of that name."""
        document = read_private(self._path) or {}
        document[name] = {"pid": process.pid, "started": process.started}
        write_private(self._path, document)

    def remove_all(self) -> None:
        """Forgets the children: all are stopped."""
        self._path.unlink(missing_ok=True)

    def end_leftovers(self) -> list[str]:
        """Ends the children that a killed `ni up` left behind; returns their names."""
        ended = []
        for name, noted in (read_private(self._path) or {}).items():
            process = Process(noted["pid"], noted["started"])
            if is_alive(process):
                _end(process)
                ended.append(name)
        self.remove_all()
        return ended


class Child:
    """One Python process of NI: `arguments` for this interpreter, its log in $NI_HOME/logs."""

    def __init__(
        self,
        name: str,
        arguments: tuple[str, ...],
        environment: Mapping[str, str],
        home: ServerHome,
        tell: Tell,
    ) -> None:
        self.name: Final = name
        self.deaths = 0
        self.log: Final = home.log(name)
        self._command = [sys.executable, *arguments]
        self._environment = dict(environment)
        self._list = ChildList(home.path)
        self._tell = tell
        self._child: subprocess.Popen[bytes] | None = None
        self._started_at = 0.0
        self._start_again_at: float | None = None

    def start(self) -> None:
        """Starts it in a session of its own: Ctrl-C reaches the supervisor alone."""
        with self.log.open() as log:
            self._child = subprocess.Popen(
                self._command,
                env=os.environ | self._environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        self._started_at = monotonic()
        self._start_again_at = None
        process = find_process(self._child.pid)
        if process is not None:
            self._list.add(self.name, process)

    def is_alive(self) -> bool:
        """Whether it runs now."""
        return self._child is not None and self._child.poll() is None

    def watch(self) -> None:
        """Starts it again when it has died, after a pause that grows with each death."""
        if self._child is None or self.is_alive():
            return
        now = monotonic()
        if self._start_again_at is None:
            if now - self._started_at > STEADY_S:
                self.deaths = 0
            pause_s = PAUSES_S[min(self.deaths, len(PAUSES_S) - 1)]
            self.deaths += 1
            self._start_again_at = now + pause_s
            self._tell(
                f"{self.name} ended ({_ending(self._child.returncode)}) and is started again in "
                f"{pause_s:g} s; its log is {self.log.path}"
            )
        elif now >= self._start_again_at:
            self.start()

    def stop(self) -> None:
        """Lets it finish what it has begun; kills it when that takes more than STOP_S."""
        child, self._child = self._child, None
        if child is None:
            return
        process = find_process(child.pid)
        if process is not None and _end(process, child) is signal.SIGKILL:
            self._tell(f"{self.name} did not stop within {STOP_S:g} s and was killed")
        child.wait()


def _end(process: Process, child: subprocess.Popen[bytes] | None = None) -> signal.Signals | None:
    steps = ((signal.SIGTERM, STOP_S), (signal.SIGKILL, 5.0))
    return end_process(process, steps, child)


def _ending(code: int | None) -> str:
    if code is not None and code < 0:
        return f"killed by {signal.Signals(-code).name}"
    return f"exit code {code}"
