"""Other processes of this machine: who they are, whether they live, and ending them by their id.

A process id alone says little: after a crash or a reboot it may belong to a stranger. Here a
process is known by its id and the instant at which the kernel started it.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import platform
import random
import signal
import socket
import subprocess
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from ni.clock import monotonic
from ni.errors import NiError

LOOPBACK: Final = "127.0.0.1"
POLL_S: Final = 0.02
SERVER_PORTS: Final = range(10_000, 32_768)
"""Below the ports that Linux and macOS give to outgoing connections: one of those would keep a
server that is started again from its own port."""
PORTS_TRIED_MAX: Final = 100
_ON_LINUX: Final = platform.system() == "Linux"


class LockHeld(NiError):
    """Another process holds a lock file."""


@dataclass(frozen=True, slots=True)
class Process:
    """One process, told apart from a later one with the same id by the instant of its start."""

    pid: int
    started: str


def find_process(pid: int) -> Process | None:
    """The living process with this id; None when there is none or it has ended (a zombie too)."""
    if not _ON_LINUX:
        return _find_by_ps(pid)
    try:
        fields = Path(f"/proc/{pid}/stat").read_text(encoding="ascii", errors="replace")
    except (FileNotFoundError, ProcessLookupError):
        return None
    # The name in parentheses may hold anything; after it: state, …, and the start in clock ticks.
    state, *rest = fields.rpartition(")")[2].split()
    return None if state in "ZXx" else Process(pid, rest[18])


def _find_by_ps(pid: int) -> Process | None:
    command = ["/bin/ps", "-o", "state=,lstart=", "-p", str(pid)]
    shown = subprocess.run(command, capture_output=True, text=True, check=False).stdout.split()
    return None if not shown or shown[0].startswith("Z") else Process(pid, " ".join(shown[1:]))


def is_alive(process: Process) -> bool:
    """Whether exactly this process still lives."""
    return find_process(process.pid) == process


def is_id_taken(pid: int) -> bool:
    """Whether the id belongs to any process, be it another user's or a zombie."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def works_in(pid: int, folder: Path) -> bool:
    """Whether the process has `folder` as its working directory (a postmaster: its data)."""
    if _ON_LINUX:
        try:
            return Path(f"/proc/{pid}/cwd").samefile(folder)
        except OSError:
            return False
    command = ["/bin/ps", "-o", "command=", "-p", str(pid)]
    shown = subprocess.run(command, capture_output=True, text=True, check=False).stdout
    return str(folder) in shown


def end_process(
    process: Process,
    steps: Sequence[tuple[signal.Signals, float]],
    child: subprocess.Popen[bytes] | None = None,
) -> signal.Signals | None:
    """Sends each signal in turn and waits its seconds until the process has ended.

    Returns the signal after which it ended, None when it had ended before. `child` is given when
    the process is a child of this one, so that it is reaped. Raises NiError when it outlives all.
    """
    for number, wait_s in steps:
        if not _lives(process, child):
            return None
        with contextlib.suppress(ProcessLookupError):
            os.kill(process.pid, number)
        deadline = monotonic() + wait_s
        while monotonic() < deadline:
            if not _lives(process, child):
                return number
            time.sleep(POLL_S)
    raise NiError(f"process {process.pid} does not end, not even when killed; look at it with ps")


def _lives(process: Process, child: subprocess.Popen[bytes] | None) -> bool:
    if child is not None:
        return child.poll() is None
    return is_alive(process)


def is_port_free(port: int, host: str = LOOPBACK) -> bool:
    """Whether a server could listen on `host`:`port` at this moment."""
    with socket.socket(_family(host), socket.SOCK_STREAM) as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind((host, port))
            listener.listen(1)
        except OSError as error:
            if error.errno in (errno.EADDRINUSE, errno.EACCES):
                return False
            raise NiError(f"{host} is no address of this machine to listen on: {error}") from error
    return True


def _family(host: str) -> socket.AddressFamily:
    return socket.AF_INET6 if ":" in host else socket.AF_INET


def free_port(host: str = LOOPBACK) -> int:
    """A port of `host` on which nothing listens now, one of `SERVER_PORTS` if it can be."""
    for port in random.sample(SERVER_PORTS, PORTS_TRIED_MAX):
        if is_port_free(port, host):
            return port
    with socket.socket(_family(host), socket.SOCK_STREAM) as listener:
        listener.bind((host, 0))
        any_port: int = listener.getsockname()[1]
    return any_port


@contextlib.contextmanager
def file_lock(path: Path, wait_s: float) -> Iterator[int]:
    """Holds the lock file `path`; yields its descriptor. The kernel frees it if the process dies.

    Raises LockHeld when another process holds it for `wait_s` seconds.
    """
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        deadline = monotonic() + wait_s
        while not _try_lock(descriptor):
            if monotonic() >= deadline:
                raise LockHeld(f"another process has held {path} for {wait_s:g} s; try again later")
            time.sleep(POLL_S)
        yield descriptor
    finally:
        os.close(descriptor)


def _try_lock(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
