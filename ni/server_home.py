"""What the two embedded servers share: the folder $NI_HOME, its logs, ports and lock."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any, Final

from ni.errors import NiError
from ni.private_file import read_private, write_private
from ni.processes import file_lock, free_port, is_port_free

Tell = Callable[[str], None]
"""Takes a line for the person who waits."""

LOG_BYTES_MAX: Final = 16 * 1024 * 1024
"""A log that has grown past this becomes `<name>.1` when its process starts the next time."""

_LAST_BYTES: Final = 8192
_GRAVE: Final = ("FATAL", "PANIC", "error")
_OF_A_SESSION: Final = "the database system is "


def tell_nobody(_line: str) -> None:
    """For callers without a person who waits."""


class ServerHome:
    """$NI_HOME as the embedded servers use it; made when missing.

    Raises NiError when the folder cannot be made or written.
    """

    def __init__(self, home: Path) -> None:
        self.path: Final = home.absolute()
        self._state = self.path / "embedded.json"
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            (self.path / "logs").mkdir(mode=0o700, exist_ok=True)
        except OSError as error:
            raise NiError(f"NI_HOME={home} cannot be made: {error}") from error
        if not os.access(self.path / "logs", os.W_OK | os.X_OK):
            raise NiError(f"NI_HOME={home} is another user's: set NI_HOME to a folder of yours")

    @contextmanager
    def lock(self, wait_s: float) -> Iterator[None]:
        """Keeps other processes from starting a server of this home at the same time."""
        with file_lock(self.path / ".embedded.lock", wait_s):
            yield

    def state(self, server: str) -> dict[str, Any]:
        """What is remembered of a server: its port, for Valkey its process."""
        return dict((read_private(self._state) or {}).get(server, {}))

    def remember(self, server: str, **values: int | str) -> None:
        """Keeps `values` for the next start. Under `lock` only."""
        document = read_private(self._state) or {}
        document[server] = values
        write_private(self._state, document)

    def port(self, server: str) -> int:
        """The port of last time while it is free, so that addresses stay; else any free one."""
        last = self.state(server).get("port", 0)
        return last if last and is_port_free(last) else free_port()

    def log(self, name: str) -> ServerLog:
        """The log `logs/<name>.log`."""
        return ServerLog(self.path / "logs" / f"{name}.log")


class ServerLog:
    """A process's log file, and what it says since the process was started."""

    def __init__(self, path: Path) -> None:
        self.path: Final = path
        self._from = 0

    def open(self) -> IO[bytes]:
        """Opens it to be written by a process that is about to start."""
        if self.path.exists() and self.path.stat().st_size > LOG_BYTES_MAX:
            self.path.replace(self.path.with_name(f"{self.path.name}.1"))
        descriptor = os.open(self.path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        self._from = os.fstat(descriptor).st_size
        return os.fdopen(descriptor, "ab")

    def recent(self) -> str:
        """What has been written since `open`, at most the last 8 KiB."""
        with self.path.open("rb") as file:
            end = file.seek(0, os.SEEK_END)
            file.seek(max(self._from, end - _LAST_BYTES))
            return file.read().decode("utf-8", errors="replace")

    def complaint(self) -> str:
        """The line that says best why the process ended."""
        lines = [line for line in self.recent().splitlines() if line.strip()]
        grave = [line for line in lines if any(word in line for word in _GRAVE)]
        grave = [line for line in grave if _OF_A_SESSION not in line]
        return (grave or lines or ["it said nothing"])[-1].strip()
