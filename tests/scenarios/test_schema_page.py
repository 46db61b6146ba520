"""docs/reference/schema.md lists every table, view, function and role of a migrated database."""

from __future__ import annotations

from pathlib import Path
from typing import Final

import asyncpg

from ni.migrate import ROLES
from tests.docs.pages import page, rows, section
from tests.support.databases import Database

PAGE: Final = "reference/schema.md"
_RELATIONS: Final = (Path(__file__).parent / "relations.sql").read_text()
_FUNCTIONS: Final = (Path(__file__).parent / "functions.sql").read_text()


async def names(database: Database, query: str) -> set[str]:
    """The names that a query of the catalogue returns."""
    owner = await asyncpg.connect(database.owner_dsn)
    try:
        return {row["name"] for row in await owner.fetch(query)}
    finally:
        await owner.close()


def listed(heading: str) -> set[str]:
    """The first cells of the table under a heading, each once."""
    found = [row[0] for row in rows(section(page(PAGE), heading))]
    assert len(set(found)) == len(found)
    return set(found)


async def test_every_table_and_view_is_listed(database: Database) -> None:
    assert listed("Tables and views") == await names(database, _RELATIONS)


async def test_every_function_is_listed(database: Database) -> None:
    assert listed("Functions") == await names(database, _FUNCTIONS)


def test_every_role_is_listed() -> None:
    assert listed("Roles") == set(ROLES)
