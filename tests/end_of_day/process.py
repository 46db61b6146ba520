"""`ni core end-of-day` in a process of its own, and what its session holds."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from pathlib import Path
from typing import Final

import asyncpg

from ni.migrate import FOLDER
from tests.support.databases import Database

_HERE: Final = Path(__file__).parent
HELD: Final = (_HERE / "held.sql").read_text()
TABLES: Final = (_HERE / "tables.sql").read_text()
WAIT_SECONDS: Final = 20


async def held(session: asyncpg.Connection) -> set[str]:
    """The core's tables that an end of day holds for itself now."""
    return {row["name"] for row in await session.fetch(HELD)}


async def tables(session: asyncpg.Connection) -> set[str]:
    """Every table of the core."""
    return {row["name"] for row in await session.fetch(TABLES)}


async def until_held(session: asyncpg.Connection) -> None:
    """Return when an end of day holds the core's tables."""
    async with asyncio.timeout(WAIT_SECONDS):
        while not await held(session):
            await asyncio.sleep(0.02)


def begin(
    database: Database, home: Path, *arguments: str, stderr: int = subprocess.PIPE
) -> subprocess.Popen[str]:
    """The command, begun."""
    return subprocess.Popen(
        [sys.executable, "-m", "ni", "core", "end-of-day", *arguments],
        cwd=FOLDER.parent,
        env=os.environ | {"NI_HOME": str(home), "NI_CORE_DATABASE_URL": database.core_dsn},
        stdout=subprocess.PIPE,
        stderr=stderr,
        text=True,
    )


def run(database: Database, home: Path, *arguments: str) -> tuple[int, str, str]:
    """The command, ended: exit code, output, errors."""
    with begin(database, home, *arguments) as process:
        output, errors = process.communicate(timeout=WAIT_SECONDS)
        return process.returncode, output, errors
