"""What must hold before a process serves: told in one line by whoever starts it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import asyncpg

from ni.base_port import check_base
from ni.errors import NiError
from ni.migrate import check_server, is_current
from ni.session import connected
from ni.sql import query

if TYPE_CHECKING:
    from ni.database import Session

DEADLOCK_TIMEOUT_MAX_MS: Final = 100
"""A tenth of the server's default, with which the core waits."""


async def check_database(dsn: str) -> None:
    """Raises NiError unless the database can be reached, is safe, migrated, and has a base."""
    if not dsn:
        raise NiError(
            "no database is known: start NI with `ni up`, or set NI_DATABASE_URL "
            "(docs/how-to/run-in-production.md)"
        )
    async with connected(dsn) as session:
        await check_session(session)


async def check_session(session: Session) -> None:
    """The same in a session that is open. Raises NiError."""
    await check_server(session)
    try:
        current = await is_current(session)
    except (asyncpg.UndefinedTableError, asyncpg.InvalidSchemaNameError):
        current = False
    if not current:
        raise NiError("the database is not migrated to this version: run `ni migrate`")
    await check_base(session)
    await _check_who_gives_way(session)


async def _check_who_gives_way(session: Session) -> None:
    """Whoever looks for a deadlock first gives way; the core keeps the server's own patience."""
    found = await session.fetchval(query("deadlock_timeout"))
    if found > DEADLOCK_TIMEOUT_MAX_MS:
        raise NiError(
            f"NI's sessions look for deadlocks after {found} ms, so that the core may have to give "
            "way: as a superuser, ALTER ROLE ni_engine SET deadlock_timeout = '20ms'"
        )
