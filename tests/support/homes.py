"""Folders for $NI_HOME in tests: they can be entered by the servers' user, and go away whole."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from ni.embedded import EmbeddedPostgres, EmbeddedValkey
from ni.processes import find_process
from tests.support.rabbitmq import RabbitMQ

PREFIX: Final = "ni-test-"
MEMORY: Final = Path("/dev/shm")
MEMORY_MIN_BYTES: Final = 10 * 2**30


def use_memory() -> None:
    """Let temporary folders, of this process and its children, be in memory where there is plenty.

    A run makes and drops thousands of databases, of hundreds of files each that are flushed. What a
    server has flushed outlives its processes there as on a disk, and no test takes the power away.
    A TMPDIR that is set is kept.
    """
    if "TMPDIR" not in os.environ and _memory_bytes() >= MEMORY_MIN_BYTES:
        os.environ["TMPDIR"] = str(MEMORY)
        tempfile.tempdir = None


def _memory_bytes() -> int:
    """What may be kept in MEMORY and still is memory."""
    try:
        numbers = dict(
            line.split(":", 1) for line in Path("/proc/meminfo").read_text().splitlines()
        )
        folder = os.statvfs(MEMORY)
    except OSError:
        return 0
    available = int(numbers["MemAvailable"].split()[0]) * 1024
    return min(available, folder.f_bavail * folder.f_frsize) if os.access(MEMORY, os.W_OK) else 0


def new_home() -> Path:
    """An empty folder, its name telling which process made it."""
    home = Path(tempfile.mkdtemp(prefix=f"{PREFIX}{os.getpid()}-"))
    home.chmod(0o755)
    return home


def remove_home(home: Path) -> None:
    """Stop what runs in the folder, then remove it and the data it links to."""
    RabbitMQ(home).end()
    if (home / "secrets.json").exists():
        for server in (EmbeddedValkey(home), EmbeddedPostgres(home)):
            if server.find():
                server.stop(found_too=True)
    data = home / "postgres"
    if data.is_symlink():
        shutil.rmtree(data.resolve(), ignore_errors=True)
    shutil.rmtree(home)


def remove_abandoned() -> None:
    """Remove the homes of test runs that were killed, also those in memory."""
    folders = {Path(tempfile.gettempdir()), MEMORY}
    for home in [home for folder in folders for home in folder.glob(f"{PREFIX}*")]:
        maker = home.name.removeprefix(PREFIX).partition("-")[0]
        ours = home.stat().st_uid == os.geteuid()
        if ours and maker.isdigit() and find_process(int(maker)) is None:
            remove_home(home)


@contextmanager
def temporary_home() -> Iterator[Path]:
    """A home for one test."""
    home = new_home()
    try:
        yield home
    finally:
        remove_home(home)
