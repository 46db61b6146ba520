"""The databases that all other tests stand on."""

from __future__ import annotations

from collections.abc import Callable

import asyncpg
import pytest

from tests.support.databases import Database


@pytest.mark.parametrize("buckets", [1, 8])
async def test_database_is_migrated_with_the_buckets_asked_for(database: Database) -> None:
    connection = await asyncpg.connect(database.engine_dsn)
    try:
        assert await connection.fetchval("SELECT buckets FROM ni.installation") == database.buckets
    finally:
        await connection.close()


async def test_databases_are_apart(new_database: Callable[..., Database]) -> None:
    one, other = new_database(), new_database()
    connection = await asyncpg.connect(one.owner_dsn)
    try:
        assert await connection.fetchval("SELECT current_database()") == one.name != other.name
        assert await connection.fetchval("SELECT count(*) FROM core.account") == 0
    finally:
        await connection.close()
