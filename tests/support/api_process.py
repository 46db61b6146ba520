"""An API process of its own, started, stopped and killed by tests."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Self
from urllib.request import urlopen

from ni.processes import free_port

_ROOT = Path(__file__).parents[2]
READY_SECONDS = 60.0
STOP_SECONDS = 10.0


@dataclass(frozen=True)
class Servers:
    """Where an API process finds its servers."""

    owner_dsn: str = field(repr=False)
    engine_dsn: str = field(repr=False)
    core_dsn: str = field(repr=False)
    redis_url: str = field(default="", repr=False)


@dataclass
class ApiProcess:
    """`python -m api` (or another module that serves it) on a port that stays the same."""

    servers: Servers
    home: Path
    module: str = "api"
    extra_environment: dict[str, str] = field(default_factory=dict)
    port: int = field(default_factory=free_port)
    process: subprocess.Popen[bytes] | None = None

    @property
    def base_url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def log_path(self) -> Path:
        return self.home / f"api-{self.port}.log"

    def start(self, wait: bool = True) -> Self:
        """Start the process and, unless told otherwise, wait for `/readyz`."""
        environment = os.environ | {
            "NI_HOME": str(self.home),
            "NI_DATABASE_URL": self.servers.engine_dsn,
            "NI_OWNER_DATABASE_URL": self.servers.owner_dsn,
            "NI_CORE_DATABASE_URL": self.servers.core_dsn,
            "NI_REDIS_URL": self.servers.redis_url,
            "NI_API_PORT": str(self.port),
            **self.extra_environment,
        }
        with self.log_path.open("ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", self.module],
                cwd=_ROOT,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )
        if wait:
            self.wait_ready()
        return self

    def wait_ready(self, seconds: float = READY_SECONDS) -> None:
        """Wait until `/readyz` answers 200; the log's end is in the error if it never does."""
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            if self.process is not None and self.process.poll() is not None:
                break
            try:
                with urlopen(f"{self.base_url}/readyz", timeout=2):
                    return
            except OSError:  # not there yet, or 503
                pass
            time.sleep(0.05)
        raise AssertionError(f"the API is not ready: {self.log_path.read_text()[-3000:]}")

    @property
    def is_running(self) -> bool:
        return self.process is not None and self.process.poll() is None

    def kill(self, sign: signal.Signals = signal.SIGKILL) -> None:
        """Send a signal to this process alone; after SIGKILL it is reaped."""
        assert self.process is not None
        self.process.send_signal(sign)
        if sign is signal.SIGKILL:
            self.process.wait(STOP_SECONDS)

    def stop(self) -> None:
        """End the process the polite way, and the other way if it takes too long."""
        if self.process is not None and self.process.poll() is None:
            self.process.send_signal(signal.SIGCONT)
            self.process.terminate()
            try:
                self.process.wait(STOP_SECONDS)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()
