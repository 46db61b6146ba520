"""The database's schema: roles, numbered migrations and functions, forward only.

`migrations/NNNN_name.sql` are applied once, in order, each in a transaction of its own, and are
never changed afterwards. `migrations/functions/*.sql` hold CREATE OR REPLACE FUNCTION statements
and are applied again whenever their text changed, all in one transaction, in file-name order.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

import asyncpg

from ni.errors import NiError
from ni.session import connected
from ni.sql import query

if TYPE_CHECKING:
    from ni.database import Session

FOLDER: Final = Path(__file__).resolve().parent.parent / "migrations"
ROLES: Final = ("ni_owner", "ni_engine", "ni_core", "ni_sms")
BUCKETS_MAX: Final = 1024
SERVER_VERSION_MIN: Final = 180_000

WAIT_FOR_OTHER_S: Final = 60
"""How long a second process waits for one that migrates the same database."""

WAIT_FOR_TABLE_S: Final = 5
"""How long a migration waits for a table in use before it gives up, changing nothing."""

WAIT_BY_NIGHT_MS: Final = 200
"""The same by night, when whoever holds a table may be the core and hold it for hours."""

_ADVISORY_LOCK: Final = 0x6E69_0001
_FILE_NAME: Final = re.compile(r"([0-9]{4})_[a-z0-9_]+\.sql")
_DATABASE_NAME: Final = re.compile(r"[a-z_][a-z0-9_]{0,62}")
_FUNCTIONS: Final = "functions/"
_CORE: Final = re.compile(r"\b(?:core|day_alias)\.")


@dataclass(frozen=True, slots=True)
class Migration:
    """One file: its name in ni.migration, its text and the hash of its bytes."""

    name: str
    text: str
    sha256: str


async def prepare_database(superuser_dsn: str, database: str, passwords: Mapping[str, str]) -> None:
    """Makes NI's roles and its database, or brings existing ones to what they should be.

    `superuser_dsn` names another database of the same server (usually `postgres`), `passwords` has
    one entry for each of ROLES. Repeating it is harmless. Raises NiError when the server cannot be
    reached, does not allow it, or has a database of that name in another encoding than UTF8.
    """
    if set(passwords) != set(ROLES) or not all(passwords.values()):
        raise NiError(f"a password is needed for each of the roles {', '.join(ROLES)}")
    if _DATABASE_NAME.fullmatch(database) is None:
        raise NiError(f"{database!r} cannot be the database's name: use a-z, 0-9 and _ only")
    async with connected(superuser_dsn) as connection:
        await _wait_for_others(connection)
        await check_server(connection)
        try:
            await _prepare(connection, database, passwords)
        except asyncpg.InsufficientPrivilegeError as error:
            raise NiError(f"preparing the database needs a superuser: {error}") from error


async def _prepare(
    connection: asyncpg.Connection, database: str, passwords: Mapping[str, str]
) -> None:
    await connection.execute(query("prepare_functions"))
    for role in ROLES:
        await connection.execute("SELECT pg_temp.prepare_role($1, $2)", role, passwords[role])
    encoding = await connection.fetchval(query("database_encoding"), database)
    if encoding is None:
        text = await connection.fetchval("SELECT pg_temp.create_database_text($1)", database)
        await connection.execute(text)
    elif encoding != "UTF8":
        raise NiError(f"the database {database} has the encoding {encoding}; NI needs UTF8")
    await connection.execute("SELECT pg_temp.prepare_database_rights($1)", database)


async def migrate(owner_dsn: str, *, buckets: int, folder: Path = FOLDER) -> list[str]:
    """Brings the database to the state of `folder`; returns the names of what was applied now.

    `owner_dsn` connects as ni_owner. `buckets` (1 to 1,024) is written once and can never change.
    Two processes may do it at the same moment: the second waits at most WAIT_FOR_OTHER_S seconds.
    Raises NiError when an applied file was changed or is missing in `folder`, when `buckets`
    differs from the database's, when a file fails (its transaction is undone), when it is night and
    a file touches the core, or when the server is too old or not durable.
    """
    if not 1 <= buckets <= BUCKETS_MAX:
        raise NiError(f"the number of buckets must be 1 to {BUCKETS_MAX}, not {buckets}")
    numbered = read_numbered(folder)
    functions = read_functions(folder)
    async with connected(owner_dsn) as connection:
        await _wait_for_others(connection)
        await check_server(connection)
        done = await _applied(connection)
        _refuse_foreign(done, numbered)
        await _refuse_other_buckets(connection, buckets)
        pending = [migration for migration in numbered if migration.name not in done]
        night = await is_night(connection)
        if night:
            _refuse_by_night(pending)
            await _set_lock_timeout(connection, WAIT_BY_NIGHT_MS)
        for migration in pending:
            async with connection.transaction():
                await _apply(connection, migration, night=night)
        changed = [function for function in functions if done.get(function.name) != function.sha256]
        async with connection.transaction():
            await connection.execute(query("installation_write"), buckets)
            for function in changed:
                await _apply(connection, function, night=night)
        return [migration.name for migration in (*pending, *changed)]


async def is_night(connection: Session) -> bool:
    """Whether the core is closed; a database without NI has no night."""
    if await connection.fetchval("SELECT to_regclass('ni.mode') IS NULL"):
        return False
    return bool(await connection.fetchval(query("mode_read")) == "night")


async def is_current(connection: Session, folder: Path = FOLDER) -> bool:
    """Whether every file of `folder` is applied to the database in its present text."""
    done = await _applied(connection)
    files = (*read_numbered(folder), *read_functions(folder))
    return all(done.get(file.name) == file.sha256 for file in files)


async def check_server(connection: Session) -> None:
    """Raises NiError unless the server is PostgreSQL 18 or later and durable in this session."""
    row = await connection.fetchrow(query("server_safety"))
    refusal = refuse_server(dict(row) if row else {})
    if refusal is not None:
        raise NiError(refusal)


def refuse_server(settings: Mapping[str, object]) -> str | None:
    """Why NI does not work on a server with these settings, as a sentence; None when it does."""
    version = settings.get("version")
    if not isinstance(version, int) or version < SERVER_VERSION_MIN:
        return (
            f"the server is PostgreSQL {settings.get('version_text')}; NI needs version 18 or later"
        )
    for name in ("fsync", "full_page_writes", "synchronous_commit"):
        if settings.get(name) == "off":
            return (
                f"the server runs with {name} = off: an answer could be lost with the power after "
                f"NI gave it. Set {name} = on and start again"
            )
    return None


def read_numbered(folder: Path = FOLDER) -> list[Migration]:
    """The numbered migrations of `folder` in order.

    Raises NiError when there are none, a name is not NNNN_name.sql or a number is left out or used
    twice.
    """
    paths = sorted(folder.glob("*.sql"))
    if not paths:
        raise NiError(f"there are no migrations in {folder}: NI is not completely installed")
    for number, path in enumerate(paths, start=1):
        match = _FILE_NAME.fullmatch(path.name)
        if match is None:
            raise NiError(f"the migration {path.name} must be named like 0002_what_it_does.sql")
        if int(match[1]) != number:
            raise NiError(f"the migration {path.name} stands where number {number:04} is expected")
    return [_read(path, path.name) for path in paths]


def read_functions(folder: Path = FOLDER) -> list[Migration]:
    """The function files of `folder` in file-name order; their names begin with `functions/`."""
    paths = sorted(folder.glob(f"{_FUNCTIONS}*.sql"))
    return [_read(path, _FUNCTIONS + path.name) for path in paths]


def _read(path: Path, name: str) -> Migration:
    content = path.read_bytes()
    return Migration(name, content.decode("utf-8"), hashlib.sha256(content).hexdigest())


async def _wait_for_others(connection: asyncpg.Connection) -> None:
    """Takes the lock that migrating processes share; closing the connection gives it back."""
    await _set_lock_timeout(connection, WAIT_FOR_OTHER_S * 1000)
    try:
        await connection.execute("SELECT pg_advisory_lock($1)", _ADVISORY_LOCK)
    except asyncpg.LockNotAvailableError as error:
        raise NiError(
            f"another process has been changing this database for {WAIT_FOR_OTHER_S} seconds; "
            "try again when it has ended"
        ) from error
    await _set_lock_timeout(connection, WAIT_FOR_TABLE_S * 1000)


async def _set_lock_timeout(connection: asyncpg.Connection, milliseconds: int) -> None:
    await connection.execute("SELECT set_config('lock_timeout', $1, false)", f"{milliseconds}ms")


async def _applied(connection: Session) -> dict[str, str]:
    if await connection.fetchval("SELECT to_regclass('ni.migration') IS NULL"):
        return {}
    return {row["name"]: row["sha256"] for row in await connection.fetch(query("migration_list"))}


def _refuse_foreign(done: Mapping[str, str], numbered: Sequence[Migration]) -> None:
    """A database that another text of the migrations has made is never touched."""
    hashes = {migration.name: migration.sha256 for migration in numbered}
    for name in sorted(done):
        if name.startswith(_FUNCTIONS):
            continue
        if name not in hashes:
            raise NiError(
                f"the database has the migration {name}, which this version of NI does not know: "
                "start the newer version that made it"
            )
        if hashes[name] != done[name]:
            raise NiError(
                f"the migration {name} was changed after it had been applied: put the file back as "
                "it was and write a new migration"
            )


async def _refuse_other_buckets(connection: asyncpg.Connection, buckets: int) -> None:
    if await connection.fetchval("SELECT to_regclass('ni.installation') IS NULL"):
        return
    made_with = await connection.fetchval(query("installation_read"))
    if made_with is not None and made_with != buckets:
        raise NiError(
            f"the database was made with {made_with} bucket(s) and NI_BUCKETS is {buckets}; the "
            f"number is fixed when the database is made: set NI_BUCKETS={made_with}"
        )


def _refuse_by_night(pending: Sequence[Migration]) -> None:
    for migration in pending:
        if _CORE.search(migration.text):
            raise NiError(_by_night(migration, "names the core"))


def _by_night(migration: Migration, why: str) -> str:
    return (
        f"it is night, and {migration.name} {why}: the core is closed, and nothing of it may be "
        "touched. Run the version that ran before, or wait until the day has been opened"
    )


async def _apply(
    connection: asyncpg.Connection, migration: Migration, *, night: bool = False
) -> None:
    transaction_before = await connection.fetchval("SELECT pg_current_xact_id()::text")
    try:
        await connection.execute(migration.text)
    except asyncpg.LockNotAvailableError as error:
        if night:
            raise NiError(_by_night(migration, "waits for a table that is in use")) from error
        raise NiError(
            f"{migration.name} waited {WAIT_FOR_TABLE_S} seconds for a table that is in use; "
            "nothing of it was applied. Try again when the table is free"
        ) from error
    except asyncpg.PostgresError as error:
        raise NiError(f"{_place(migration, error)}: {error}. Nothing of it was applied") from error
    if await connection.fetchval("SELECT pg_current_xact_id()::text") != transaction_before:
        raise NiError(f"{migration.name} ends its own transaction: take COMMIT and ROLLBACK out")
    if night and (touched := await connection.fetchval(query("own_core_locks"))):
        raise NiError(_by_night(migration, f"locks {touched}"))
    await connection.execute(query("migration_table"))
    await connection.execute(query("migration_record"), migration.name, migration.sha256)


def _place(migration: Migration, error: asyncpg.PostgresError) -> str:
    position = getattr(error, "position", None)
    if position is None:
        return migration.name
    line = migration.text.count("\n", 0, int(position) - 1) + 1
    return f"{migration.name}, line {line}"
