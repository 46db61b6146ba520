"""The catalogue keeps the rules of the schema: buckets first, nothing that waits, least rights."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, Final

import asyncpg
import pytest

from ni.identifiers import bucket_of
from ni.session import connected
from tests.support.databases import Database

UNSHARDED: Final = {
    "installation", "mode", "gate", "client", "migration", "unload_gate", "night_copy",
    "night_source", "night_followed", "sms_inbox_floor",
}  # fmt: skip
"""Not account-sized: they have one row, or one a client, a release, or a relation of the base."""

HOT: Final = {
    "position", "state", "applied", "hold", "posting", "unbooked", "request", "outbox"
}  # fmt: skip
BASE: Final = re.compile(r"\b(?:FROM|JOIN)\s+(account|block|ledger)\b")
CORE: Final = re.compile(r"\bcore\.")
KEYS: Final = (Path(__file__).parent / "catalogue.sql").read_text()


@pytest.fixture
async def owner(database: Database) -> AsyncIterator[asyncpg.Connection]:
    """A session of the owner on a fresh database."""
    async with connected(database.owner_dsn) as session:
        yield session


async def _column(owner: asyncpg.Connection, sql: str, *arguments: Any) -> list[Any]:
    return [row[0] for row in await owner.fetch(sql, *arguments)]


async def test_every_key_begins_with_the_bucket(owner: asyncpg.Connection) -> None:
    keys = [row for row in await owner.fetch(KEYS) if row["table"] not in UNSHARDED]
    assert {row["table"] for row in keys} >= HOT | {"account", "block"}
    for row in keys:
        assert row["columns"][0] == "bucket", dict(row)
        assert row["types"][0] == "smallint", dict(row)


async def test_text_in_keys_is_sorted_by_bytes(owner: asyncpg.Connection) -> None:
    for row in await owner.fetch(KEYS):
        for column, collation, kind in zip(
            row["columns"], row["collations"], row["types"], strict=True
        ):
            if kind == "text" and row["table"] != "migration":
                assert collation == "C", (row["table"], column)


async def test_nothing_of_ni_waits_for_another_table(owner: asyncpg.Connection) -> None:
    foreign = await _column(
        owner,
        "select conrelid::regclass::text from pg_constraint where contype = 'f'"
        " and connamespace::regnamespace::text in ('ni', 'night')",
    )
    triggers = await _column(
        owner,
        "select tgrelid::regclass::text from pg_trigger join pg_class on pg_class.oid = tgrelid"
        " where relnamespace::regnamespace::text = 'ni'",
    )
    assert (foreign, triggers) == ([], [])


async def test_day_and_night_show_the_same(owner: asyncpg.Connection) -> None:
    columns = (
        "select table_name, column_name, data_type from information_schema.columns"
        " where table_schema = $1 order by table_name, ordinal_position"
    )
    day = await owner.fetch(columns, "day_alias")
    night = await owner.fetch(columns, "night_alias")
    assert [tuple(row) for row in day] == [tuple(row) for row in night]
    assert {row["table_name"] for row in day} == {"account", "block", "ledger"}


async def test_no_column_is_inexact(owner: asyncpg.Connection) -> None:
    inexact = await owner.fetch(
        "select table_schema, table_name, column_name from information_schema.columns"
        " where table_schema in ('ni', 'core', 'night') and data_type in"
        " ('real', 'double precision', 'numeric', 'money')"
    )
    assert inexact == []


async def test_a_base_is_named_behind_the_gate_alone(owner: asyncpg.Connection) -> None:
    """PL/pgSQL plans a statement when it reaches it; an SQL function would be planned whole."""
    behind_others = {"figures_v1", "place_positions_v1"}
    for row in await owner.fetch(
        "select proname, prosrc, lanname from pg_proc join pg_language l on l.oid = prolang"
        " where pronamespace = 'ni'::regnamespace"
    ):
        names_base = BASE.search(row["prosrc"])
        if names_base is None or row["proname"] in behind_others:
            continue
        assert row["lanname"] == "plpgsql", row["proname"]
        gate = row["prosrc"].find("LOCK TABLE ni.gate IN ROW SHARE MODE")
        assert 0 <= gate < names_base.start(), row["proname"]


async def test_hot_functions_do_not_name_the_core(owner: asyncpg.Connection) -> None:
    bodies = await owner.fetch(
        "select proname, prosrc from pg_proc where pronamespace = 'ni'::regnamespace"
        " and proname ~ '^(lock|figures|write|locate|expired|balance|internal|account)_'"
        " and not prosecdef"
    )
    assert len(bodies) >= 8
    assert [row["proname"] for row in bodies if CORE.search(row["prosrc"])] == []


async def test_the_engine_may_do_what_decisions_need(owner: asyncpg.Connection) -> None:
    may = "select has_table_privilege('ni_engine', $1, $2)"
    tables = await _column(
        owner,
        "select oid::regclass::text from pg_class where relkind in ('r', 'p')"
        " and relnamespace::regnamespace::text in ('core', 'night')",
    )
    for table in tables:
        for right in ("SELECT", "INSERT", "UPDATE", "DELETE"):
            assert not await owner.fetchval(may, table, right), (table, right)
    for table in ("posting", "hold", "outbox", "position", "applied", "client", "mode"):
        assert not await owner.fetchval(may, f"ni.{table}", "DELETE"), table
    for table in ("client", "mode", "applied", "installation"):
        assert not await owner.fetchval(may, f"ni.{table}", "UPDATE"), table
    for schema in ("ni", "core", "night", "day_alias", "night_alias"):
        can_create = await owner.fetchval(
            "select has_schema_privilege('ni_engine', $1, 'CREATE')", schema
        )
        assert not can_create, schema


async def test_functions_of_the_owner_look_last_into_the_callers_own_schema(
    owner: asyncpg.Connection,
) -> None:
    """Unnamed, pg_temp is searched first: what a caller has put there would run as the owner."""
    found = await owner.fetch(
        "select p.oid::regprocedure::text as name,"
        " (select substring(c from '^search_path=(.*)$') from unnest(proconfig) as c"
        "   where c like 'search_path=%') as path"
        " from pg_proc as p where prosecdef and pronamespace <> 'pg_catalog'::regnamespace"
    )
    assert len(found) >= 15
    for row in found:
        assert str(row["path"]).split(", ")[-1] == "pg_temp", (row["name"], row["path"])


async def test_the_core_may_not_touch_ni(owner: asyncpg.Connection) -> None:
    may = "select has_table_privilege('ni_core', $1, $2)"
    for table in HOT | {"client", "mode", "gate"}:
        for right in ("SELECT", "INSERT", "UPDATE", "DELETE"):
            assert not await owner.fetchval(may, f"ni.{table}", right), (table, right)


@pytest.mark.parametrize("buckets", [1, 8])
async def test_buckets_are_computed_alike(owner: asyncpg.Connection, buckets: int) -> None:
    for name in ("CZ0000002378", "INT-CASH", "A", "Z-9" * 11):
        assert await owner.fetchval("select ni.bucket_of($1)", name) == bucket_of(name, buckets)
