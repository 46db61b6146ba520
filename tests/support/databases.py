"""Fresh databases for tests: migrated once for each number of buckets, then copied."""

from __future__ import annotations

import itertools
import os
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import asyncpg

from ni.embedded import EmbeddedPostgres
from ni.migrate import ROLES, migrate, prepare_database
from ni.postgres_server import SUPERUSER, run_blocking
from ni.private_file import Secrets
from ni.processes import file_lock
from tests.support.api_process import Servers

MIGRATION_WAIT_SECONDS = 60.0
TOGETHER = 5
"""Databases of a kind that are made at one time, and those that are done with dropped: each copy of
files and each drop waits for a checkpoint, and the first of several pays for all."""
END_SESSIONS = """
SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity WHERE datname = '{name}'
"""


@dataclass(frozen=True)
class Database:
    """One migrated database without accounts, clients and business date; the roles' addresses."""

    name: str
    buckets: int
    owner_dsn: str = field(repr=False)
    engine_dsn: str = field(repr=False)
    core_dsn: str = field(repr=False)
    sms_dsn: str = field(repr=False)
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
        self._made: defaultdict[int, list[str]] = defaultdict(list)
        self._closed: list[str] = []

    @contextmanager
    def fresh(self, buckets: int = 1) -> Iterator[Database]:
        """A database of its own; afterwards it is closed, whoever is connected to it is not."""
        database = self.make(buckets)
        try:
            yield database
        finally:
            self.close(database)

    def make(self, buckets: int = 1) -> Database:
        """A fresh database; whoever makes it calls `close`."""
        if not self._made[buckets]:
            self._make_more(buckets)
        return self._described(self._made[buckets].pop(), buckets)

    def close(self, database: Database) -> None:
        """End its sessions for good."""
        self._closed.append(database.name)
        close = f"ALTER DATABASE {database.name} ALLOW_CONNECTIONS false"
        run_blocking(self._execute(close, END_SESSIONS.format(name=database.name)))

    def _make_more(self, buckets: int) -> None:
        closed, self._closed = self._closed, []
        drops = [f"DROP DATABASE IF EXISTS {name} WITH (FORCE)" for name in closed]
        names = [f"test_{os.getpid()}_{next(self._numbers)}" for _ in range(TOGETHER)]
        how = f"OWNER ni_owner TEMPLATE {self._template(buckets)} STRATEGY file_copy"
        run_blocking(self._execute(*drops, *(f"CREATE DATABASE {name} {how}" for name in names)))
        self._made[buckets] += names

    def _described(self, name: str, buckets: int) -> Database:
        addresses = [self._postgres.dsn(role, name) for role in (*ROLES, SUPERUSER)]
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
        # Tests connect many thousands of times; their passwords are long, and of one run.
        await self._execute(f"ALTER ROLE {SUPERUSER} SET scram_iterations = 1")
        await prepare_database(superuser, name, passwords)
        await migrate(self._postgres.dsn("ni_owner", name), buckets=buckets)

    async def _execute(self, *statements: str) -> None:
        connection = await asyncpg.connect(self._postgres.dsn(SUPERUSER, "postgres"))
        try:
            for statement in statements:
                await connection.execute(statement)
        finally:
            await connection.close()
