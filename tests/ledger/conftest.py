"""Databases for the ledger's tests: an empty one, and one with NI's schema."""

from __future__ import annotations

from collections.abc import AsyncIterator
from uuid import uuid4

import asyncpg
import pytest

from ni.embedded import EmbeddedPostgres
from ni.migrate import ROLES, prepare_database
from ni.postgres_server import SUPERUSER
from ni.session import connected
from tests.support.databases import Database


@pytest.fixture
def buckets() -> int:
    """More than one bucket, so that what looks in the wrong one is found out."""
    return 8


@pytest.fixture
def superuser_dsn(postgres: EmbeddedPostgres) -> str:
    """The server's own database, as its superuser."""
    return postgres.dsn(SUPERUSER, "postgres")


@pytest.fixture
async def place(postgres: EmbeddedPostgres, superuser_dsn: str) -> AsyncIterator[Database]:
    """A prepared database without a schema."""
    name = f"place_{uuid4().hex[:12]}"
    await prepare_database(superuser_dsn, name, passwords(postgres))
    addresses = [postgres.dsn(role, name) for role in (*ROLES, SUPERUSER)]
    yield Database(name, 0, *addresses)
    async with connected(superuser_dsn) as connection:
        await connection.execute(f"DROP DATABASE {name} WITH (FORCE)")


@pytest.fixture
async def owner(database: Database) -> AsyncIterator[asyncpg.Connection]:
    """NI's owner on the test's database."""
    async with connected(database.owner_dsn) as connection:
        yield connection


def passwords(postgres: EmbeddedPostgres) -> dict[str, str]:
    """The roles' passwords as they are: other tests use the same server."""
    return {role: postgres.dsn(role).split(":")[2].split("@")[0] for role in ROLES}
