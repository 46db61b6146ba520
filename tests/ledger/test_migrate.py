"""Migrations on a real server: once, in order, unchanged, one process at a time."""

from __future__ import annotations

import asyncio
import hashlib
from pathlib import Path
from typing import Any

import asyncpg
import pytest

from ni import migrate as module
from ni.errors import NiError, Unavailable
from ni.migrate import (
    check_server,
    is_current,
    migrate,
    read_functions,
    read_numbered,
    refuse_server,
)
from ni.session import connected
from tests.support.databases import Database

FIRST = """
CREATE SCHEMA ni;
CREATE TABLE ni.installation (one boolean PRIMARY KEY DEFAULT true, buckets smallint NOT NULL);
CREATE TABLE ni.thing (number integer);
"""
ANSWER = "CREATE OR REPLACE FUNCTION ni.answer() RETURNS integer LANGUAGE sql AS 'SELECT {}';"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder of migrations: one numbered file and one function."""
    (tmp_path / "functions").mkdir()
    (tmp_path / "0001_first.sql").write_text(FIRST)
    (tmp_path / "functions" / "answer.sql").write_text(ANSWER.format(41))
    return tmp_path


async def value(place: Database, text: str) -> Any:
    async with connected(place.owner_dsn) as connection:
        return await connection.fetchval(text)


async def test_everything_is_applied_once(place: Database, folder: Path) -> None:
    assert await migrate(place.owner_dsn, buckets=8, folder=folder) == [
        "0001_first.sql",
        "functions/answer.sql",
    ]
    assert await migrate(place.owner_dsn, buckets=8, folder=folder) == []
    assert await value(place, "SELECT ni.answer()") == 41
    assert await value(place, "SELECT buckets FROM ni.installation") == 8
    async with connected(place.owner_dsn) as connection:
        rows = await connection.fetch("SELECT name, sha256, applied_at FROM ni.migration")
    expected = {"0001_first.sql": FIRST, "functions/answer.sql": ANSWER.format(41)}
    assert {row["name"]: row["sha256"] for row in rows} == {
        name: hashlib.sha256(text.encode()).hexdigest() for name, text in expected.items()
    }


async def test_a_later_migration_and_a_changed_function(place: Database, folder: Path) -> None:
    await migrate(place.owner_dsn, buckets=1, folder=folder)
    (folder / "0002_second.sql").write_text("INSERT INTO ni.thing VALUES (2);")
    (folder / "functions" / "answer.sql").write_text(ANSWER.format(42))
    async with connected(place.owner_dsn) as connection:
        assert not await is_current(connection, folder)
    assert await migrate(place.owner_dsn, buckets=1, folder=folder) == [
        "0002_second.sql",
        "functions/answer.sql",
    ]
    assert await value(place, "SELECT ni.answer() + (SELECT number FROM ni.thing)") == 44
    async with connected(place.owner_dsn) as connection:
        assert await is_current(connection, folder)


async def test_a_changed_migration_is_refused(place: Database, folder: Path) -> None:
    await migrate(place.owner_dsn, buckets=1, folder=folder)
    (folder / "0001_first.sql").write_text(FIRST + "-- a remark\n")
    (folder / "0002_second.sql").write_text("INSERT INTO ni.thing VALUES (2);")
    with pytest.raises(NiError, match=r"0001_first\.sql was changed after it had been applied"):
        await migrate(place.owner_dsn, buckets=1, folder=folder)
    assert await value(place, "SELECT count(*) FROM ni.thing") == 0


async def test_an_older_version_does_not_touch_a_newer_database(
    place: Database, folder: Path
) -> None:
    (folder / "0002_second.sql").write_text("SELECT 1;")
    await migrate(place.owner_dsn, buckets=1, folder=folder)
    (folder / "0002_second.sql").unlink()
    (folder / "functions" / "answer.sql").write_text(ANSWER.format(40))
    with pytest.raises(NiError, match=r"0002_second\.sql, which this version of NI does not know"):
        await migrate(place.owner_dsn, buckets=1, folder=folder)
    assert await value(place, "SELECT ni.answer()") == 41


async def test_a_failing_migration_is_undone_and_tells_its_line(
    place: Database, folder: Path
) -> None:
    (folder / "0002_second.sql").write_text("INSERT INTO ni.thing VALUES (2);\n\nSELECT nothing;")
    with pytest.raises(NiError, match=r"0002_second\.sql, line 3: column \"nothing\""):
        await migrate(place.owner_dsn, buckets=1, folder=folder)
    assert await value(place, "SELECT count(*) FROM ni.thing") == 0
    assert await value(place, "SELECT count(*) FROM ni.migration") == 1
    (folder / "0002_second.sql").write_text("INSERT INTO ni.thing VALUES (2);")
    applied = await migrate(place.owner_dsn, buckets=1, folder=folder)
    assert applied == ["0002_second.sql", "functions/answer.sql"]


async def test_functions_change_together_or_not_at_all(place: Database, folder: Path) -> None:
    await migrate(place.owner_dsn, buckets=1, folder=folder)
    (folder / "functions" / "answer.sql").write_text(ANSWER.format(42))
    (folder / "functions" / "broken.sql").write_text("CREATE OR REPLACE FUNCTION ni.broken(")
    with pytest.raises(NiError, match=r"functions/broken\.sql"):
        await migrate(place.owner_dsn, buckets=1, folder=folder)
    assert await value(place, "SELECT ni.answer()") == 41


async def test_a_migration_may_not_end_its_transaction(place: Database, folder: Path) -> None:
    (folder / "0002_second.sql").write_text("COMMIT; BEGIN;")
    with pytest.raises(NiError, match=r"0002_second\.sql ends its own transaction"):
        await migrate(place.owner_dsn, buckets=1, folder=folder)
    assert await value(place, "SELECT count(*) FROM ni.migration") == 1


async def test_the_number_of_buckets_is_fixed(place: Database, folder: Path) -> None:
    await migrate(place.owner_dsn, buckets=8, folder=folder)
    with pytest.raises(NiError, match="fixed when the database is made: set NI_BUCKETS=8"):
        await migrate(place.owner_dsn, buckets=1, folder=folder)
    for buckets in (0, module.BUCKETS_MAX + 1):
        with pytest.raises(NiError, match="the number of buckets must be 1 to 1024"):
            await migrate(place.owner_dsn, buckets=buckets, folder=folder)


async def test_two_at_once(place: Database, folder: Path) -> None:
    (folder / "0002_slow.sql").write_text("SELECT pg_sleep(0.3); INSERT INTO ni.thing VALUES (1);")
    done = await asyncio.gather(
        *(migrate(place.owner_dsn, buckets=8, folder=folder) for _ in range(3))
    )
    assert sorted(done, key=len) == [
        [],
        [],
        ["0001_first.sql", "0002_slow.sql", "functions/answer.sql"],
    ]
    assert await value(place, "SELECT count(*) FROM ni.thing") == 1


async def test_the_second_process_does_not_wait_for_ever(
    place: Database, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "WAIT_FOR_OTHER_S", 1)
    async with connected(place.owner_dsn) as other:
        await module._wait_for_others(other)
        with pytest.raises(NiError, match="another process has been changing this database for 1"):
            await migrate(place.owner_dsn, buckets=8, folder=folder)
    await migrate(place.owner_dsn, buckets=8, folder=folder)


async def test_a_table_in_use_is_not_waited_for_long(
    place: Database, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    await migrate(place.owner_dsn, buckets=8, folder=folder)
    monkeypatch.setattr(module, "WAIT_FOR_TABLE_S", 1)
    (folder / "0002_second.sql").write_text("ALTER TABLE ni.thing ADD COLUMN other integer;")
    async with connected(place.owner_dsn) as other, other.transaction():
        await other.execute("SELECT FROM ni.thing")
        with pytest.raises(NiError, match=r"0002_second\.sql waited 1 seconds for a table"):
            await migrate(place.owner_dsn, buckets=8, folder=folder)
    assert await migrate(place.owner_dsn, buckets=8, folder=folder) == ["0002_second.sql"]


@pytest.mark.parametrize(
    ("names", "message"),
    [
        ([], "there are no migrations"),
        (["1_a.sql"], "must be named like"),
        (["0001_A.sql"], "must be named like"),
        (["0002_a.sql"], "stands where number 0001 is expected"),
        (["0001_a.sql", "0003_c.sql"], "stands where number 0002 is expected"),
        (["0001_a.sql", "0001_b.sql"], "stands where number 0002 is expected"),
    ],
)
def test_the_numbers_have_no_gap(tmp_path: Path, names: list[str], message: str) -> None:
    for name in names:
        (tmp_path / name).touch()
    with pytest.raises(NiError, match=message):
        read_numbered(tmp_path)


def test_functions_are_read_in_name_order(folder: Path) -> None:
    (folder / "functions" / "aa.sql").write_text("SELECT 1;")
    assert [file.name for file in read_functions(folder)] == [
        "functions/aa.sql",
        "functions/answer.sql",
    ]


GOOD = {
    "version": 180006,
    "version_text": "18.6",
    "fsync": "on",
    "full_page_writes": "on",
    "synchronous_commit": "on",
}


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"version": 170005, "version_text": "17.5"}, "PostgreSQL 17.5; NI needs version 18"),
        ({"fsync": "off"}, "Set fsync = on"),
        ({"full_page_writes": "off"}, "Set full_page_writes = on"),
        ({"synchronous_commit": "off"}, "Set synchronous_commit = on"),
    ],
)
def test_a_server_that_forgets_is_refused(changed: dict[str, object], message: str) -> None:
    refusal = refuse_server(GOOD | changed)
    assert refusal is not None
    assert message in refusal


@pytest.mark.parametrize("level", ["on", "local", "remote_write", "remote_apply"])
def test_a_durable_server_is_taken(level: str) -> None:
    assert refuse_server(GOOD | {"synchronous_commit": level}) is None


async def test_the_session_itself_is_asked(place: Database) -> None:
    async with connected(place.owner_dsn) as connection:
        await check_server(connection)
        await connection.execute("SET synchronous_commit = off")
        with pytest.raises(NiError, match="Set synchronous_commit = on"):
            await check_server(connection)


async def test_a_server_that_does_not_answer_is_told_without_its_password() -> None:
    with pytest.raises(Unavailable, match=r"no connection to PostgreSQL at 127\.0\.0\.1:1/ni") as e:
        await migrate("postgresql://ni_owner:hidden@127.0.0.1:1/ni", buckets=1)
    assert "hidden" not in str(e.value)


async def test_a_wrong_password_is_told(place: Database) -> None:
    with pytest.raises(Unavailable, match="password authentication failed"):
        async with connected(place.owner_dsn.replace("@", "x@")):
            pass


async def test_the_shipped_migrations_apply(place: Database) -> None:
    names = await migrate(place.owner_dsn, buckets=64)
    assert names[0] == "0001_schema.sql"
    assert await migrate(place.owner_dsn, buckets=64) == []


async def allowed(dsn: str, text: str) -> bool:
    async with connected(dsn) as connection:
        try:
            await connection.execute(text)
        except asyncpg.InsufficientPrivilegeError:
            return False
    return True


@pytest.mark.parametrize(
    ("role", "text", "expected"),
    [
        ("ni_core", "SELECT FROM ni.client", False),
        ("ni_core", "SELECT FROM ni.posting", False),
        ("ni_core", "SELECT FROM day_alias.account", False),
        ("ni_core", "UPDATE core.account SET credit_limit = 0", True),
        ("ni_core", "SELECT core.unmoved_accounts('{A}', '{B}')", True),
        ("ni_core", "CREATE TABLE core.mine ()", False),
        ("ni_core", "CREATE SCHEMA mine", False),
        ("ni_engine", "SELECT FROM core.account", False),
        ("ni_engine", "SELECT FROM day_alias.account", True),
        ("ni_engine", "SELECT core.unmoved_accounts('{A}', '{B}')", False),
        ("ni_engine", "DELETE FROM ni.posting", False),
        ("ni_engine", "UPDATE ni.client SET scopes = '{admin}'", False),
        ("ni_engine", "SELECT FROM ni.migration", True),
        ("ni_engine", "CREATE TABLE ni.mine ()", False),
    ],
)
async def test_roles_have_no_more_rights_than_they_need(
    database: Database, role: str, text: str, expected: bool
) -> None:
    dsn = database.core_dsn if role == "ni_core" else database.engine_dsn
    assert await allowed(dsn, text) is expected
