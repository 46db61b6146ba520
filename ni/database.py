"""Connection pools. The only difference between day and night is a pool's search_path.

Every session that decides or reads a base has short limits on locks and transactions, so that a
stopped process frees what it holds, and plans that use indexes alone, so that a plan made while a
table was empty stays right when it is full.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Literal, TypeAlias

import asyncpg
import structlog

from ni.errors import Unavailable
from ni.settings import Settings

if TYPE_CHECKING:
    from asyncpg.pool import PoolConnectionProxy

    Pooled: TypeAlias = PoolConnectionProxy[asyncpg.Record]
    Session: TypeAlias = asyncpg.Connection[asyncpg.Record] | Pooled
    Pool: TypeAlias = asyncpg.Pool[asyncpg.Record]

Mode = Literal["day", "night"]
log = structlog.get_logger()

MODES: Final[tuple[Mode, ...]] = ("day", "night")
CLOSE_LIMIT_S: Final = 2

LOST_CONNECTION: Final = (
    asyncpg.PostgresConnectionError,
    asyncpg.InterfaceError,
    asyncpg.InternalClientError,
    asyncpg.AdminShutdownError,
    asyncpg.CrashShutdownError,
    asyncpg.CannotConnectNowError,
    asyncpg.IdleInTransactionSessionTimeoutError,
    asyncpg.exceptions.TransactionTimeoutError,
    asyncpg.TooManyConnectionsError,
    asyncpg.OutdatedSchemaCacheError,
    ConnectionError,
    TimeoutError,
    OSError,
)
"""What says that the server went away; the same work may be tried on another connection."""


class EngineConnection(asyncpg.Connection):
    """A connection that costs no round trip when it goes back to its pool."""

    def get_reset_query(self) -> str:
        """Nothing to reset: NI's sessions keep no state."""
        return ""


def session_settings(settings: Settings, mode: Mode) -> dict[str, str]:
    """The server settings of a session that decides or reads by `mode`."""
    return {
        "application_name": f"ni {mode}",
        "search_path": f"{mode}_alias",
        "default_transaction_isolation": "read committed",
        "lock_timeout": str(settings.lock_timeout_ms),
        "idle_in_transaction_session_timeout": str(settings.idle_in_transaction_timeout_ms),
        "transaction_timeout": str(settings.transaction_timeout_ms),
        "plan_cache_mode": "force_generic_plan",
        "enable_seqscan": "off",
        "enable_hashjoin": "off",
        "enable_mergejoin": "off",
        "jit": "off",
        "timezone": "UTC",
    }


def unload_session_settings(settings: Settings) -> dict[str, str]:
    """The server settings of a session that unloads: it may last, and gives way to the core.

    Plans are made for the packet at hand, for one row and for 100,000 are not the same. Waiting
    for a lock ends before the server looks for deadlocks, so that NI is their victim, never the
    core.
    """
    return {
        "application_name": "ni unload",
        "search_path": "pg_catalog",
        "default_transaction_isolation": "read committed",
        "lock_timeout": str(settings.unload_lock_timeout_ms),
        "idle_in_transaction_session_timeout": str(settings.idle_in_transaction_timeout_ms),
        "transaction_timeout": str(settings.unload_timeout_s * 1000),
        "plan_cache_mode": "force_custom_plan",
        "work_mem": "64MB",
        "jit": "off",
        "timezone": "UTC",
    }


SWITCH_IDLE_MS: Final = 5_000
SWITCH_MARGIN_S: Final = 10


def switch_limit_s(settings: Settings) -> int:
    """The longest that one switch lasts: another one, runs that are waited for, and the gate."""
    tries_s = settings.gate_tries_max * 4 * settings.gate_timeout_ms // 1000
    return 2 * (settings.drain_timeout_s + tries_s) + SWITCH_MARGIN_S


@asynccontextmanager
async def switch_session(settings: Settings) -> AsyncIterator[asyncpg.Connection]:
    """A session for one switch of the mode, with limits of its own, closed at the end.

    The server looks whether its client still lives while it waits for a lock, so that a killed
    switcher stands in nobody's way. Raises Unavailable.
    """
    limit_s = switch_limit_s(settings)
    server_settings = {
        "application_name": "ni switch",
        "search_path": "pg_catalog",
        "default_transaction_isolation": "read committed",
        "idle_in_transaction_session_timeout": str(SWITCH_IDLE_MS),
        "transaction_timeout": str(limit_s * 1000),
        "client_connection_check_interval": "250",
        "jit": "off",
        "timezone": "UTC",
    }
    try:
        session = await asyncpg.connect(
            settings.database_url,
            timeout=settings.connect_timeout_ms / 1000,
            command_timeout=limit_s + 1,
            server_settings=server_settings,
        )
    except LOST_CONNECTION as error:
        raise Unavailable(f"PostgreSQL cannot be reached: {error}") from error
    try:
        yield session
    finally:
        await close_session(session)


async def close_session(session: asyncpg.Connection) -> None:
    """Close a session, ending at once what does not end in two seconds."""
    try:
        await session.close(timeout=CLOSE_LIMIT_S)
    except LOST_CONNECTION:
        session.terminate()


async def open_unload_pool(settings: Settings) -> Pool:
    """The pool through which packets are unloaded. Raises Unavailable."""
    return await _create_pool(
        settings,
        (1, settings.unload_connections),
        settings.unload_timeout_s + 1,
        unload_session_settings(settings),
    )


async def _create_pool(
    settings: Settings,
    sizes: tuple[int, int],
    command_timeout_s: float,
    server_settings: dict[str, str],
) -> Pool:
    try:
        return await asyncpg.create_pool(
            settings.database_url,
            min_size=sizes[0],
            max_size=sizes[1],
            max_inactive_connection_lifetime=0,
            connection_class=EngineConnection,
            timeout=settings.connect_timeout_ms / 1000,
            command_timeout=command_timeout_s,
            server_settings=server_settings,
        )
    except LOST_CONNECTION as error:
        raise Unavailable(f"PostgreSQL cannot be reached: {error}") from error


async def open_pool(settings: Settings, mode: Mode, size: int) -> Pool:
    """A pool of `size` connections for one mode.

    Raises Unavailable when the database cannot be reached.
    """
    return await _create_pool(
        settings,
        (size, size),
        settings.transaction_timeout_ms / 1000 + 1,
        session_settings(settings, mode),
    )


async def close_pool(pool: Pool) -> None:
    """Close a pool, ending at once what still runs after two seconds."""
    try:
        async with asyncio.timeout(CLOSE_LIMIT_S):
            await pool.close()
    except TimeoutError:
        pool.terminate()


@dataclass(slots=True)
class Pools:
    """A pool for each mode and the mode that was true when we last looked."""

    day: Pool
    night: Pool
    mode: Mode = "day"

    def of(self, mode: Mode) -> Pool:
        """The pool of a mode. Take the mode once and pass it on with the pool's session."""
        return self.day if mode == "day" else self.night

    @property
    def current(self) -> Pool:
        """The pool of the mode that was true when we last looked; for what names no base."""
        return self.of(self.mode)

    @classmethod
    async def open(cls, settings: Settings, size: int) -> Pools:
        """Both pools, `size` connections each. Raises Unavailable."""
        day = await open_pool(settings, "day", size)
        try:
            night = await open_pool(settings, "night", size)
        except Unavailable:
            await day.close()
            raise
        return cls(day, night)

    async def close(self) -> None:
        """Close both, ending at once what still runs after two seconds."""
        for pool in (self.day, self.night):
            await close_pool(pool)


class Seat:
    """A writer lane's session: kept while work follows work, given back when the lane rests.

    To take a session from its pool and give it back costs as much as a small transaction's
    commands do.
    """

    def __init__(self, pools: Pools, settings: Settings) -> None:
        self.pools: Final = pools
        self._timeout_s = settings.connect_timeout_ms / 1000
        self._pool = pools.current
        self._session: Pooled | None = None

    async def take(self, mode: Mode) -> Session:
        """A live session of `mode`. Raises what asyncpg raises when there is none to be had."""
        pool = self.pools.of(mode)
        if self._session is None or pool is not self._pool or _is_lost(self._session):
            await self.give_back()
            self._session = await pool.acquire(timeout=self._timeout_s)
            self._pool = pool
        return self._session

    async def give_back(self) -> None:
        """Let the session rest in its pool, which replaces a lost one."""
        session, self._session = self._session, None
        if session is None:
            return
        try:
            await self._pool.release(session)
        except (asyncpg.PostgresError, *LOST_CONNECTION) as error:
            log.warning("session_not_given_back", error=type(error).__name__)


def _is_lost(session: Session) -> bool:
    """Whether a session has ended; its pool takes a lost one back by itself."""
    try:
        return session.is_closed()
    except asyncpg.InterfaceError:
        return True
