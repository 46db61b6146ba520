"""Fresh databases for tests: migrated once for each number of buckets, then copied in 50 ms."""

from __future__ import annotations

import itertools
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import asyncpg

from ni.embedded import EmbeddedPostgres
from ni.migrate import migrate, prepare_database
from ni.postgres_server import SUPERUSER, run_blocking
from ni.private_file import Secrets
from ni.processes import file_lock
from tests.support.api_process import Servers

MIGRATION_WAIT_SECONDS = 60.0


@dataclass(frozen=True)
class Database:
    """One migrated database without accounts, clients and business date; the roles' addresses."""

    name: str
    buckets: int
    owner_dsn: str = field(repr=False)
    engine_dsn: str = field(repr=False)
    core_dsn: str = field(repr=False)
    superuser_dsn: str = field(repr=False)

    def servers(self, redis_url: str = "") -> Servers:
        """What an API process needs to know."""
        return Servers(self.owner_dsn, self.engine_dsn, self.core_dsn, redis_url)


class Databases:
    """Makes and drops databases on one server, which several test processes share."""

    def __init__(self, postgres: EmbeddedPostgres, home: Path) -> None:
        self._postgres = postgres
        self._home = home
        self._numbers = itertools.count()

    @contextmanager
    def fresh(self, buckets: int = 1) -> Iterator[Database]:
        """A database of its own, dropped afterwards together with whoever is connected to it."""
        database = self.make(buckets)
        try:
            yield database
        finally:
            self.drop(database)

    def make(self, buckets: int = 1) -> Database:
        """A fresh database; whoever makes it calls `drop`."""
        template = self._template(buckets)
        name = f"test_{os.getpid()}_{next(self._numbers)}"
        run_blocking(
            self._execute(
                f"CREATE DATABASE {name} OWNER ni_owner TEMPLATE {template} STRATEGY wal_log"
            )
        )
        return self._described(name, buckets)

    def drop(self, database: Database) -> None:
        """Drop it, ending the sessions it has."""
        run_blocking(self._execute(f"DROP DATABASE {database.name} WITH (FORCE)"))

    def _described(self, name: str, buckets: int) -> Database:
        addresses = [
            self._postgres.dsn(role, name)
            for role in ("ni_owner", "ni_engine", "ni_core", SUPERUSER)
        ]
        return Database(name, buckets, *addresses)

    def _template(self, buckets: int) -> str:
        name = f"template_{buckets}"
        done = self._home / name
        with file_lock(self._home / ".templates.lock", MIGRATION_WAIT_SECONDS):
            if not done.exists():
                run_blocking(self._migrated(name, buckets))
                done.touch()
        return name

    async def _migrated(self, name: str, buckets: int) -> None:
        secrets = Secrets(self._home).section("postgres")
        passwords = {role: word for role, word in secrets.items() if role != SUPERUSER}
        superuser = self._postgres.dsn(SUPERUSER, "postgres")
        await prepare_database(superuser, name, passwords)
        await migrate(self._postgres.dsn("ni_owner", name), buckets=buckets)

    async def _execute(self, text: str) -> None:
        connection = await asyncpg.connect(self._postgres.dsn(SUPERUSER, "postgres"))
        try:
            await connection.execute(text)
        finally:
            await connection.close()
