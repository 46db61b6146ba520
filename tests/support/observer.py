"""An observer of both sides, NI and the core, and the account of every packet afterwards."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import asyncpg

from ni.database import LOST_CONNECTION

SNAPSHOT: Final = (Path(__file__).parent / "packet_snapshot.sql").read_text()
FAULTS: Final = (Path(__file__).parent / "packet_faults.sql").read_text()
INTERVAL_S: Final = 0.05


@dataclass
class Observer:
    """Looks every 50 ms at one snapshot of everything; a server that is away is waited for."""

    dsn: str
    opening: dict[str, int]
    snapshots: int = 0
    faults: list[str] = field(default_factory=list)

    @classmethod
    async def of(cls, dsn: str) -> Observer:
        """For a bank whose accounts are open and whose packets begin now."""
        owner = await asyncpg.connect(dsn)
        try:
            await owner.execute(
                "create index if not exists test_told on ni.outbox (account, sequence)"
            )
            rows = await owner.fetch("select account, balance from core.account")
        finally:
            await owner.close()
        return cls(dsn, {row["account"]: row["balance"] for row in rows})

    @asynccontextmanager
    async def watching(self) -> AsyncIterator[None]:
        """Look beside what the caller does; raises AssertionError with what was wrong."""
        stop = asyncio.Event()
        task = asyncio.create_task(self._watch(stop))
        try:
            yield
        finally:
            stop.set()
            await task
        assert not self.faults, self.faults[:5]

    async def _watch(self, stop: asyncio.Event) -> None:
        while not stop.is_set():
            try:
                owner = await asyncpg.connect(self.dsn, timeout=5)
            except LOST_CONNECTION:
                await asyncio.sleep(INTERVAL_S)
                continue
            try:
                await self._look(owner, stop)
            except LOST_CONNECTION:
                pass  # the server was killed: the next turn finds it again
            finally:
                owner.terminate()

    async def _look(self, owner: asyncpg.Connection, stop: asyncio.Event) -> None:
        look = await owner.prepare(SNAPSHOT)
        total = sum(self.opening.values())
        while not stop.is_set():
            self.faults += [row["fault"] for row in await look.fetch(total)]
            self.snapshots += 1
            await asyncio.sleep(INTERVAL_S)

    async def packet_faults(self, owner: asyncpg.Connection) -> list[str]:
        """What is in the core by halves, twice, or without a run. Empty when all is well."""
        rows = await owner.fetch(FAULTS, list(self.opening), list(self.opening.values()))
        return [row["fault"] for row in rows]
