"""A RabbitMQ server of a test run's own: private ports, private folders, loopback only.

Two processes belong to it, the broker and the port mapper that its command line tool asks (epmd),
each a child that is known by its id. Nothing of the machine's own RabbitMQ is read or written.
"""

from __future__ import annotations

import os
import secrets
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final, Self

from ni.private_file import new_password, read_private, write_private
from ni.processes import (
    LOOPBACK,
    Process,
    end_process,
    file_lock,
    find_process,
    free_port,
)
from tests.support.rabbitmq_http import Admin, NotAnswering
from tests.support.rabbitmq_program import programs

USER: Final = "ni"
START_SECONDS: Final = 100.0
STOP_SECONDS: Final = 60.0
CTL_SECONDS: Final = 90.0
STARTS_MAX: Final = 3
DISK_LIMIT_BYTES: Final = 50_000_000
_PORTS: Final = ("amqp", "http", "distribution", "epmd")
_OFF: Final = "none"
_QUIET: Final = f"+sbwt {_OFF} +sbwtdcpu {_OFF} +sbwtdio {_OFF}"
"""Idle schedulers sleep: two cores are shared with everything that the broker serves."""

_children: Final[list[subprocess.Popen[bytes]]] = []


class RabbitMQ:
    """One server in `home`/rabbitmq, whose ports and data stay the same over restarts."""

    def __init__(self, home: Path) -> None:
        self._folder = home / "rabbitmq"
        self._state = self._folder / "server.json"
        self._described: dict[str, Any] = {}

    def start(self) -> Self:
        """Start it, or find it running. Raises AssertionError with the log's end when it fails."""
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        with file_lock(self._folder / ".lock", 2 * START_SECONDS * STARTS_MAX):
            if not self.find():
                self._start()
        return self

    def find(self) -> bool:
        """Take the server of this home if it runs; False when it does not."""
        self._described = read_private(self._state) or {}
        return self.is_alive

    @property
    def is_alive(self) -> bool:
        """Whether the broker's process lives."""
        return self._lives("broker")

    @property
    def admin(self) -> Admin:
        """What one may do to it over HTTP."""
        return Admin(LOOPBACK, self.port("http"), USER, self._described["password"])

    def port(self, name: str) -> int:
        """One of its ports: amqp, http, distribution, epmd."""
        return int(self._described["ports"][name])

    def url(self, vhost: str) -> str:
        """The address with the password."""
        return f"amqp://{USER}:{self._described['password']}@{LOOPBACK}:{self.port('amqp')}/{vhost}"

    @property
    def log_path(self) -> Path:
        return self._folder / "log"

    def kill(self) -> None:
        """SIGKILL to the broker: what it had confirmed must be there when it is back."""
        process = self.process("broker")
        assert process is not None, "the broker was not started"
        end_process(process, ((signal.SIGKILL, STOP_SECONDS),), _child_of(process))

    def stop(self) -> None:
        """End the broker the polite way, which takes seconds, and its port mapper."""
        self._end((signal.SIGTERM, STOP_SECONDS), (signal.SIGKILL, STOP_SECONDS))

    def end(self) -> None:
        """End both at once, if they run; for whoever needs neither any more."""
        self._described = read_private(self._state) or {}
        self._end((signal.SIGKILL, STOP_SECONDS))

    def _end(self, *steps: tuple[signal.Signals, float]) -> None:
        for name in ("broker", "epmd"):
            process = self.process(name)
            if process is not None:
                end_process(process, steps, _child_of(process))

    @contextmanager
    def disk_alarm(self) -> Iterator[None]:
        """Within the block the broker believes its disk to be full and takes no message."""
        self.control("set_disk_free_limit", str(2**60))
        try:
            yield
        finally:
            self.control("set_disk_free_limit", str(DISK_LIMIT_BYTES))

    def control(self, *arguments: str, program: str = "rabbitmqctl") -> str:
        """A command of its own; takes seconds. Raises AssertionError if it fails."""
        done = subprocess.run(
            [programs() / program, "--node", self._node(), *arguments],
            env=self._environment(),
            cwd="/",
            capture_output=True,
            text=True,
            check=False,
            timeout=CTL_SECONDS,
        )
        assert done.returncode == 0, f"{program} {arguments}: {done.stdout} {done.stderr}"
        return done.stdout

    def process(self, name: str) -> Process | None:
        """The `broker` or `epmd`; None when it was never started."""
        found = self._described.get(name)
        return Process(found["pid"], found["started"]) if found else None

    def _start(self) -> None:
        is_new = not self._described
        for left in range(STARTS_MAX - 1, -1, -1):
            if is_new:
                self._describe()
            try:
                self._launch()
            except AssertionError as error:
                self.end()
                # Between asking for a free port and listening on it another process may take it.
                if not left or "eaddrinuse" not in str(error):
                    raise
            else:
                return

    def _describe(self) -> None:
        ports: list[int] = []
        while len(ports) < len(_PORTS):
            ports = list({*ports, free_port()})
        self._described = {
            "ports": dict(zip(_PORTS, ports, strict=True)),
            "password": new_password(),
        }
        write_private(self._state, self._described)
        cookie = self._folder / ".erlang.cookie"
        if not cookie.exists():
            cookie.write_text(secrets.token_hex(20))
            cookie.chmod(0o400)
        (self._folder / "plugins").write_text("[rabbitmq_management].\n")
        (self._folder / "rabbitmq.conf").write_text(self._configuration())
        (self._folder / "rabbitmq.conf").chmod(0o600)

    def _configuration(self) -> str:
        lines = (
            f"listeners.tcp.1 = {LOOPBACK}:{self.port('amqp')}",
            f"management.tcp.ip = {LOOPBACK}",
            f"management.tcp.port = {self.port('http')}",
            f"default_user = {USER}",
            f"default_pass = {self._described['password']}",
            f"disk_free_limit.absolute = {DISK_LIMIT_BYTES}",
            "log.console = true",
            "log.console.level = info",
            "log.file = false",
        )
        return "\n".join(lines) + "\n"

    def _launch(self) -> None:
        folder = programs()
        environment = self._environment()
        if not self._lives("epmd"):
            port = str(self.port("epmd"))
            epmd = self._run(["epmd", "-port", port, "-address", LOOPBACK], environment)
            self._keep("epmd", epmd)
        # With a file as its input the script becomes the broker, so that its id is the broker's.
        broker = self._run([str(folder / "rabbitmq-server"), "-noinput"], environment)
        self._keep("broker", broker)
        self._wait_ready()

    def _lives(self, name: str) -> bool:
        process = self.process(name)
        if process is None:
            return False
        child = _child_of(process)
        if child is not None and child.poll() is not None:
            return False  # asked, and so reaped
        return find_process(process.pid) == process

    def _run(self, command: list[str], environment: dict[str, str]) -> subprocess.Popen[bytes]:
        with self.log_path.open("ab") as log:
            child = subprocess.Popen(
                command,
                cwd="/",
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
                umask=0o077,
            )
        _children.append(child)
        return child

    def _keep(self, name: str, child: subprocess.Popen[bytes]) -> None:
        process = find_process(child.pid)
        assert process is not None, f"{name} ended at once: {self._log_end()}"
        self._described[name] = {"pid": process.pid, "started": process.started}
        write_private(self._state, self._described)

    def _wait_ready(self) -> None:
        deadline = time.monotonic() + START_SECONDS
        while time.monotonic() < deadline and self.is_alive:
            try:
                self.admin.check()
            except NotAnswering:
                time.sleep(0.1)
                continue
            return
        raise AssertionError(f"RabbitMQ does not start: {self._log_end()}")

    def _log_end(self) -> str:
        return self.log_path.read_text(errors="replace")[-3000:]

    def _node(self) -> str:
        return f"ni-test-{self.port('amqp')}@localhost"

    def _environment(self) -> dict[str, str]:
        folder = self._folder
        kept = {name: os.environ[name] for name in ("PATH", "LANG", "LC_ALL") if name in os.environ}
        own = f"-kernel inet_dist_use_interface {{127,0,0,1}} {_QUIET}"
        return kept | {
            "HOME": str(folder),
            "ERL_EPMD_PORT": str(self.port("epmd")),
            "ERL_EPMD_ADDRESS": LOOPBACK,
            "RABBITMQ_ALLOW_INPUT": "1",
            "RABBITMQ_NODENAME": self._node(),
            "RABBITMQ_DIST_PORT": str(self.port("distribution")),
            "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS": own,
            "RABBITMQ_CONF_ENV_FILE": str(folder / "none"),
            "RABBITMQ_ADVANCED_CONFIG_FILE": str(folder / "none.config"),
            "RABBITMQ_CONFIG_FILE": str(folder / "rabbitmq.conf"),
            "RABBITMQ_ENABLED_PLUGINS_FILE": str(folder / "plugins"),
            "RABBITMQ_MNESIA_BASE": str(folder / "data"),
            "RABBITMQ_LOG_BASE": str(folder / "logs"),
            "RABBITMQ_GENERATED_CONFIG_DIR": str(folder / "generated"),
            "RABBITMQ_SCHEMA_DIR": str(folder / "schema"),
            "RABBITMQ_PID_FILE": str(folder / "pid"),
        }


def _child_of(process: Process) -> subprocess.Popen[bytes] | None:
    return next((child for child in _children if child.pid == process.pid), None)
