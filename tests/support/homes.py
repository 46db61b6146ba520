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
    """Remove the homes of test runs that were killed."""
    for home in Path(tempfile.gettempdir()).glob(f"{PREFIX}*"):
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
