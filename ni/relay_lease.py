"""Who may read the outbox: the relay that has the lease.

The lease is a lock of a session in PostgreSQL, which the server ends when it hears nothing for
`NI_RELAY_LEASE_MS`: whether a relay was killed, stopped or cut off, the next one has it soon, and
nothing is written for it. A relay that wakes finds out by its own clock before it asks.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import asyncpg

from ni import clock
from ni.database import LOST_CONNECTION, close_session
from ni.errors import Unavailable
from ni.faults import told_fault

if TYPE_CHECKING:
    from ni.settings import Settings

TAKE: Final = "SELECT pg_try_advisory_lock($1)"
KEEP: Final = "SELECT pg_backend_pid()"
KEY: Final = 0x4E492E72656C6179
"""The lock's number: "NI.relay"."""
KEEPS: Final = 5
"""How often a lease is kept up in its time."""


class Lease:
    """One relay's lease, or its wish for one."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._seconds = settings.relay_lease_ms / 1000
        self._session: asyncpg.Connection | None = None
        self._valid_until = float("-inf")
        self.interval_s: Final = self._seconds / KEEPS

    @property
    def is_valid(self) -> bool:
        """Whether nobody else can have it now."""
        return clock.monotonic() < self._valid_until

    async def take(self) -> bool:
        """Try to get it; call it again every `interval_s`. Raises Unavailable."""
        asked_at = clock.monotonic()
        try:
            if self._session is None or self._session.is_closed():
                self._session = await self._connect()
            taken = bool(await self._session.fetchval(TAKE, KEY))
        except (*LOST_CONNECTION, asyncpg.PostgresError) as error:
            await self.give_back()
            raise Unavailable(f"PostgreSQL cannot be reached: {told_fault(error)}") from error
        if taken:
            self._valid_until = asked_at + self._seconds
        return taken

    async def keep(self) -> None:
        """Keep it up; call it every `interval_s`. Raises Unavailable: it is lost."""
        asked_at = clock.monotonic()
        if self._session is None or not self.is_valid:
            raise Unavailable("the relay's lease has run out")
        try:
            await self._session.fetchval(KEEP)
        except (*LOST_CONNECTION, asyncpg.PostgresError) as error:
            self._valid_until = float("-inf")
            raise Unavailable(f"the relay's lease is lost: {told_fault(error)}") from error
        self._valid_until = asked_at + self._seconds

    async def give_back(self) -> None:
        """Let the next one have it."""
        self._valid_until = float("-inf")
        session, self._session = self._session, None
        if session is not None:
            await close_session(session)

    async def _connect(self) -> asyncpg.Connection:
        return await asyncpg.connect(
            self._settings.database_url,
            timeout=self._settings.connect_timeout_ms / 1000,
            command_timeout=self._seconds / 2,
            server_settings={
                "application_name": "ni relay lease",
                "search_path": "pg_catalog",
                "idle_session_timeout": str(self._settings.relay_lease_ms),
            },
        )
