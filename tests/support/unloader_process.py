"""An unloader in a process of its own, started and killed by tests."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from tests.support.api_process import Servers
from tests.support.killable_unloader import Journal

_ROOT: Final = Path(__file__).parents[2]
STOP_SECONDS: Final = 10.0


@dataclass
class UnloaderProcess:
    """`python -m tests.support.killable_unloader`, which unloads until it is killed."""

    servers: Servers
    home: Path
    process: subprocess.Popen[bytes] | None = None

    @property
    def journal(self) -> Journal:
        """What it was about to do and what it heard, over all its lives."""
        return Journal(self.home / "unloader.journal")

    @property
    def trigger(self) -> Path:
        """Where a test writes at which point the process is to kill itself."""
        return self.home / "unloader.trigger"

    @property
    def log_path(self) -> Path:
        return self.home / "unloader.log"

    def start(self) -> None:
        """Start it; it works as soon as the journal says so."""
        environment = os.environ | {
            "NI_HOME": str(self.home),
            "NI_DATABASE_URL": self.servers.engine_dsn,
            "NI_TEST_JOURNAL": str(self.home / "unloader.journal"),
            "NI_TEST_TRIGGER": str(self.trigger),
        }
        self.trigger.unlink(missing_ok=True)
        with self.log_path.open("ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "tests.support.killable_unloader"],
                cwd=_ROOT,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )

    @property
    def is_running(self) -> bool:
        return self.process is not None and self.process.poll() is None

    def kill(self) -> None:
        """SIGKILL, and the process is reaped."""
        if self.process is not None:
            self.process.kill()
            self.process.wait(STOP_SECONDS)

    def log(self) -> str:
        """The end of what it said."""
        return self.log_path.read_text()[-3000:] if self.log_path.exists() else ""
