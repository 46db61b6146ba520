"""One connection for a command: a migration, a client's key, a change in the core.

The engine has pools of its own (`ni.database`); what is here is opened, used and closed.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final
from urllib.parse import urlsplit

import asyncpg

from ni.errors import Unavailable

CONNECT_TIMEOUT_S: Final = 10


@asynccontextmanager
async def connected(dsn: str) -> AsyncIterator[asyncpg.Connection]:
    """A connection to `dsn`, closed at the end.

    Raises Unavailable, with the reason in plain words and without the password, when there is none.
    """
    try:
        connection = await asyncpg.connect(dsn, timeout=CONNECT_TIMEOUT_S)
    except (OSError, TimeoutError, ValueError, asyncpg.PostgresError) as error:
        raise Unavailable(f"no connection to {_without_password(dsn)}: {_reason(error)}") from error
    try:
        yield connection
    finally:
        await connection.close()


def _reason(error: Exception) -> str:
    return "it did not answer in time" if isinstance(error, TimeoutError) else str(error)


def _without_password(dsn: str) -> str:
    try:
        parts = urlsplit(dsn)
        where = f"{parts.hostname}:{parts.port or 5432}{parts.path}"
    except ValueError:
        return "PostgreSQL"
    return f"PostgreSQL at {where} as {parts.username}"
