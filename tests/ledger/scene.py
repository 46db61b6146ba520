"""A running API with clients, and the command line that finds it: where replays are tried."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import pytest

from ni.clients import add_client
from ni.migrate import FOLDER
from ni.run_file import Run, write_run
from ni.session import connected
from tests.support.api_process import ApiProcess, Servers
from tests.support.bank import Bank

ROOT: Final = FOLDER.parent
COMMAND_SECONDS: Final = 280
_YEAR: Final = ROOT.parent / "shared" / "data" / "statement-1993.csv.gz"
SCOPES: Final = ("posting:write", "posting:force", "packet:unload", "balance:read")
CLIENTS: Final = {
    "payments": SCOPES,
    "weak": (SCOPES[0], *SCOPES[2:]),
    "chief": ("problem:resolve",),
    "operator": ("day:operate",),
}


@dataclass
class Scene:
    """A running API with the keys of two clients in run.json."""

    servers: Servers
    home: Path
    api: ApiProcess
    keys: dict[str, str]

    def ni(self, *arguments: str | Path) -> subprocess.Popen[str]:
        """The command line, begun."""
        return subprocess.Popen(
            [sys.executable, "-m", "ni", *map(str, arguments)],
            cwd=ROOT,
            env=os.environ | {"NI_HOME": str(self.home)},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def run(self, *arguments: str | Path) -> tuple[int, str, str]:
        """The command line, ended: exit code, output, errors."""
        with self.ni(*arguments) as process:
            output, errors = process.communicate(timeout=COMMAND_SECONDS)
            return process.returncode, output, errors

    def bank_facts(self) -> tuple[str, list[str]]:
        """A checksum of every row, and what does not add up."""

        async def ask() -> tuple[str, list[str]]:
            async with connected(self.servers.owner_dsn) as connection:
                bank = Bank(connection)
                return await bank.fingerprint(), await bank.faults()

        return asyncio.run(ask())


def a_bank_s_year() -> Path:
    """A real bank's statement of 1993; the test is skipped where it is not."""
    if not _YEAR.exists():
        pytest.skip(f"the bank's statement is not there: {_YEAR}")
    return _YEAR


@contextmanager
def open_scene(servers: Servers, home: Path) -> Iterator[Scene]:
    """The API on a database that has clients and nothing else."""

    async def add_clients() -> dict[str, str]:
        async with connected(servers.owner_dsn) as connection:
            return {
                name: await add_client(connection, name, scopes) for name, scopes in CLIENTS.items()
            }

    keys = asyncio.run(add_clients())
    with ApiProcess(servers, home) as api:
        run = Run(
            base_url=api.base_url,
            postgres_dsn=servers.owner_dsn,
            engine_dsn=servers.engine_dsn,
            core_dsn=servers.core_dsn,
            redis_url=servers.redis_url,
            keys=keys,
            pid=os.getpid(),
        )
        write_run(home, run)
        yield Scene(servers, home, api, keys)
