"""The clock of a test database: `ni.clock()` reads a table that the test sets.

Only test databases get it; the function is replaced, so every decision, read and sweep of every
process on that database sees the same instant.
"""

from __future__ import annotations

from datetime import datetime
from pathlib import Path
from typing import Final

import asyncpg

_INSTALL: Final = (Path(__file__).parent / "clock.sql").read_text()


async def install_clock(owner: asyncpg.Connection) -> None:
    """Replace `ni.clock()` by one that can be set; until it is set it stays the server's clock."""
    await owner.execute(_INSTALL)


async def set_clock(owner: asyncpg.Connection, instant: datetime | None) -> None:
    """Stop the clock at `instant` (with an offset); None lets the server's clock run again."""
    await owner.execute("update ni.test_clock set instant = $1", instant)
