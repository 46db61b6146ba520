"""Who calls: keys are looked up in memory; the table is read again every few seconds."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import structlog

from api.problems import ProblemError
from api.scopes import ADMIN, IMPLIED, SCOPES
from ni import clock
from ni.database import LOST_CONNECTION
from ni.decisions import Decision
from ni.sql import query

if TYPE_CHECKING:
    from ni.database import Pool

MISS_PAUSE_S: Final = 0.2
"""A key that is not known makes the table be read again, but no oftener than this."""

log = structlog.get_logger()


@dataclass(slots=True, frozen=True)
class Client:
    """A calling system and what it may do."""

    name: str
    scopes: frozenset[str]

    @property
    def is_admin(self) -> bool:
        """Whether other clients' movements are open to it."""
        return ADMIN in self.scopes

    def may(self, operation: str) -> bool:
        """Whether this client may do `operation` (a row of `SCOPES`)."""
        return SCOPES[operation] <= self.scopes or self.is_admin

    def require(self, operation: str) -> None:
        """Raise scope_missing unless this client may do `operation` (a row of `SCOPES`)."""
        if not self.may(operation):
            missing = " ".join(sorted(SCOPES[operation] - self.scopes))
            raise ProblemError(Decision.scope_missing, f"this needs the scope {missing}")


def _with_implied(scopes: Sequence[str]) -> frozenset[str]:
    return frozenset(scopes) | {IMPLIED[scope] for scope in scopes if scope in IMPLIED}


class ClientDirectory:
    """The clients that are not disabled, by the SHA-256 of their key."""

    def __init__(self, pool: Pool, refresh_s: int) -> None:
        self._pool = pool
        self._refresh_s = refresh_s
        self._clients: dict[bytes, Client] = {}
        self._read_at = float("-inf")
        self._lock = asyncio.Lock()

    async def find(self, authorization: bytes | None) -> Client:
        """The client of an Authorization header.

        Raises ProblemError: unauthorized, or overloaded when the table was never read.
        """
        if authorization is None or authorization[:7].lower() != b"bearer ":
            raise ProblemError(Decision.unauthorized)
        digest = hashlib.sha256(authorization[7:].strip()).digest()
        client = self._clients.get(digest)
        age = clock.monotonic() - self._read_at
        if age > self._refresh_s or (client is None and age > MISS_PAUSE_S):
            await self._refresh()
            client = self._clients.get(digest)
        if client is None:
            raise ProblemError(Decision.unauthorized)
        return client

    async def _refresh(self) -> None:
        before = self._read_at
        async with self._lock:
            if self._read_at != before:
                return
            try:
                rows = await self._pool.fetch(query("clients_enabled"))
            except LOST_CONNECTION as error:
                if not self._clients:
                    raise ProblemError(Decision.overloaded, "NI is starting") from error
                log.warning("clients_not_refreshed", error=type(error).__name__)
            else:
                self._clients = {
                    row["key_hash"]: Client(row["client"], _with_implied(row["scopes"]))
                    for row in rows
                }
            self._read_at = clock.monotonic()
