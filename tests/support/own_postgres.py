"""A PostgreSQL server of the test's own, which it may kill without hurting any other test."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from pathlib import Path
from typing import Self

from ni.embedded import EmbeddedPostgres
from ni.migrate import migrate
from tests.support.api_process import Servers


class OwnPostgres:
    """An embedded server with NI's schema, on a port that stays the same."""

    def __init__(self, home: Path, server: EmbeddedPostgres, servers: Servers) -> None:
        self._home = home
        self._server = server
        self._port = server.port
        self.servers = servers

    @classmethod
    async def create(cls, home: Path, buckets: int = 1) -> Self:
        """Make, start and migrate."""
        server = EmbeddedPostgres(home)
        await asyncio.to_thread(server.start)
        servers = Servers(server.dsn("ni_owner"), server.dsn("ni_engine"), server.dsn("ni_core"))
        await migrate(servers.owner_dsn, buckets=buckets)
        return cls(home, server, servers)

    def dsn(self, role: str) -> str:
        """The address for one of the roles."""
        return self._server.dsn(role)

    def kill(self) -> None:
        """SIGKILL to the postmaster alone; its sessions find out by themselves."""
        os.kill(self._server.pid, signal.SIGKILL)
        while self._server.is_alive():  # asks, and so reaps the child
            time.sleep(0.005)

    def start_again(self) -> None:
        """Start on the same data and port; returns when it takes connections."""
        self._server = EmbeddedPostgres(self._home)
        self._server.start(port=self._port)

    def stop(self) -> None:
        self._server.stop()
