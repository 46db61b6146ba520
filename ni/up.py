"""`ni up` and `ni down`: NI with everything it needs, on one machine, in the foreground.

Order of starting: PostgreSQL, Valkey, migrations, demo, API, workers; run.json when the API is
ready. Order of stopping: API, workers, Valkey, PostgreSQL. What dies in between is started again
at the same address. What a killed `ni up` left behind is found by the next one.
"""

from __future__ import annotations

import asyncio
import importlib.util
import ipaddress
import os
import signal
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Final

from ni.clock import monotonic
from ni.demo import add_demo_clients, load_demo_bank
from ni.embedded import EmbeddedPostgres, EmbeddedValkey
from ni.errors import NiError
from ni.migrate import is_night, migrate
from ni.private_file import Secrets
from ni.processes import LOOPBACK, free_port, is_port_free
from ni.run_file import Run, remove_run, write_run
from ni.schedule import schedule_of
from ni.server_home import ServerHome, Tell
from ni.session import connected
from ni.settings import RUN_FILE, Settings
from ni.supervisor import Child, ChildList
from ni.up_lock import only_one, stop_holder
from ni.up_servers import Addresses, UpServers
from ni.worker_names import WORKERS

END_OF_DAY: Final = "end-of-day"
"""Runs where a schedule is set."""

SMS: Final = "sms"
"""Runs where its role's address is known; it gets no other, and nobody else gets this one."""

CHILDREN: Final = "processes"
"""NI_HOME of the children, a folder in that of `ni up`."""

READY_S: Final = 60.0
READY_TIMEOUT_S: Final = 5.0
DEATHS_BEFORE_READY_MAX: Final = 3
PORTS_TRIED_MAX: Final = 100
LOOK_S: Final = 0.1
DOWN_EXTRA_S: Final = 60.0
SIGNALS: Final = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class StopAsked(NiError):
    """Somebody asked `ni up` to stop."""


class StopSignal:
    """Notes Ctrl-C, SIGTERM and the end of the terminal; whoever can stop asks it."""

    def __init__(self) -> None:
        self._asked = False

    @contextmanager
    def installed(self) -> Iterator[None]:
        """Takes the signals for the time of the block."""
        # Under nohup the end of the terminal is to be ignored, and stays so.
        taken = [number for number in SIGNALS if number != signal.SIGHUP or not _is_ignored(number)]
        before = {number: signal.signal(number, self._note) for number in taken}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def check(self) -> None:
        """Raises StopAsked when a signal has come."""
        if self._asked:
            raise StopAsked

    def _note(self, _number: int, _frame: FrameType | None) -> None:
        self._asked = True


@dataclass(frozen=True, slots=True)
class Ready:
    """What to show when NI is ready. The keys stand in `run_file`, never on the screen."""

    base_url: str
    run_file: Path
    logs: Path
    clients: tuple[str, ...]


class Up:
    """One `ni up`. `demo`: add the demo clients and bank; None: to the embedded database only."""

    def __init__(self, settings: Settings, *, tell: Tell, demo: bool | None = None) -> None:
        self._settings = settings
        self._tell = tell
        self._demo = demo
        self._home = ServerHome(settings.home)
        self._signal = StopSignal()
        self._children: list[Child] = []
        self._has_schedule = schedule_of(settings) is not None
        self._has_sms = bool(settings.sms_database_url)

    @contextmanager
    def running(self) -> Iterator[Ready]:
        """NI, ready within the block; call `serve` in it. Afterwards everything is stopped.

        Raises StopAsked when a signal comes before it is ready, NiError with what to do when
        something cannot be started; what was started by then is stopped.
        """
        home = self._home.path
        with only_one(home), self._signal.installed(), ExitStack() as stack:
            remove_run(home)
            for name in ChildList(home).end_leftovers():
                self._tell(f"{name}, left behind by an NI that was killed, is stopped")
            servers = UpServers(home, self._settings, self._tell)
            stack.callback(servers.stop)
            addresses = servers.start(self._signal.check)
            wanted = servers.has_own_database if self._demo is None else self._demo
            keys = self._prepare(addresses, demo=wanted)
            self._signal.check()
            stack.callback(self._stop_children)
            base_url = self._start_children(addresses)
            self._servers = servers
            write_run(home, self._run(addresses, base_url, keys))
            yield Ready(base_url, home / RUN_FILE, home / "logs", tuple(keys))

    def serve(self) -> None:
        """Watches over everything until somebody asks it to stop."""
        try:
            while True:
                self._look()
                self._servers.watch()
        except StopAsked:
            return

    def _prepare(self, addresses: Addresses, *, demo: bool) -> dict[str, str]:
        """Migrates and adds the demo; returns the demo clients' keys."""
        applied = asyncio.run(migrate(addresses.owner, buckets=self._settings.buckets))
        if applied:
            self._tell(f"Database brought up to date ({len(applied)} steps)")
        if not demo:
            return {}
        secrets = Secrets(self._home.path)
        keys = asyncio.run(add_demo_clients(addresses.owner, secrets, self._tell))
        if asyncio.run(_is_night(addresses.owner)):
            self._tell("It is night: the core is closed, its demo bank is not looked at")
        elif asyncio.run(load_demo_bank(addresses.core)):
            self._tell("Demo bank loaded into the reference core")
        return keys

    def _start_children(self, addresses: Addresses) -> str:
        """Starts API and workers and waits for the API; returns its address."""
        host, port = self._settings.api_host, self._api_port()
        self._has_sms = bool(addresses.sms)
        environment = {
            "NI_HOME": str(self._children_home()),
            "NI_DATABASE_URL": addresses.engine,
            "NI_CORE_DATABASE_URL": "",
            "NI_OWNER_DATABASE_URL": "",
            "NI_SMS_DATABASE_URL": "",
            "NI_SMS_GATEWAY_TOKEN": "",
            "NI_REDIS_URL": addresses.redis,
            "NI_API_HOST": host,
            "NI_API_PORT": str(port),
        }
        commands: dict[str, tuple[str, ...]] = {"api": ("-m", "api")}
        commands |= {name: ("-m", "workers", name) for name in self.workers()}
        for name, arguments in commands.items():
            known = environment | (self._of_sms(addresses) if name == SMS else {})
            child = Child(name, arguments, known, self._home, self._tell)
            self._children.append(child)
            child.start()
        base_url = _base_url(host, port)
        self._wait_ready(self._children[0], base_url)
        return base_url

    def _children_home(self) -> Path:
        """A folder without run.json: what a child shall not know must not be found there, either,
        by one that is started again."""
        folder = self._home.path / CHILDREN
        folder.mkdir(mode=0o700, exist_ok=True)
        return folder

    def _of_sms(self, addresses: Addresses) -> dict[str, str]:
        """What the notifier knows and the others do not, and the other way round."""
        return {
            "NI_DATABASE_URL": "",
            "NI_REDIS_URL": "",
            "NI_SMS_DATABASE_URL": addresses.sms,
            "NI_SMS_GATEWAY_TOKEN": self._settings.sms_gateway_token.get_secret_value(),
        }

    def workers(self) -> list[str]:
        """The workers to start: some only where what they need is set."""
        wanted = {END_OF_DAY: self._has_schedule, SMS: self._has_sms}
        return [name for name in _workers() if wanted.get(name, True)]

    def _wait_ready(self, api: Child, base_url: str) -> None:
        deadline = monotonic() + READY_S
        while not _is_ready(base_url):
            self._look()
            if api.deaths >= DEATHS_BEFORE_READY_MAX or monotonic() > deadline:
                raise NiError(
                    f"the API does not become ready: {api.log.complaint()} (more in {api.log.path})"
                )

    def _look(self) -> None:
        """One round of watching: a stop that was asked for, then the children."""
        time.sleep(LOOK_S)
        self._signal.check()
        for child in self._children:
            child.watch()

    def _stop_children(self) -> None:
        """API first, so that no worker is missed by a decision; then nobody is told of NI."""
        self._tell("Stopping the API")
        for child in self._children:
            child.stop()
        remove_run(self._home.path)
        ChildList(self._home.path).remove_all()

    def _api_port(self) -> int:
        """The port that is set, if it is free; by default the first free one from 8080 on."""
        host, wanted = self._settings.api_host, self._settings.api_port
        if wanted == 0:
            return free_port(host)
        if "api_port" in self._settings.model_fields_set:
            if not is_port_free(wanted, host):
                raise NiError(f"port {wanted} of {host} is taken: set NI_API_PORT to another, or 0")
            return wanted
        for port in range(wanted, wanted + PORTS_TRIED_MAX):
            if is_port_free(port, host):
                return port
        return free_port(host)

    def _run(self, addresses: Addresses, base_url: str, keys: dict[str, str]) -> Run:
        return Run(
            base_url=base_url,
            postgres_dsn=addresses.owner,
            engine_dsn=addresses.engine,
            core_dsn=addresses.core,
            sms_dsn=addresses.sms,
            redis_url=addresses.redis,
            keys=keys,
            pid=os.getpid(),
        )


def _is_ignored(number: signal.Signals) -> bool:
    return signal.getsignal(number) is signal.SIG_IGN


async def _is_night(owner_dsn: str) -> bool:
    async with connected(owner_dsn) as session:
        return await is_night(session)


def down(settings: Settings, tell: Tell) -> bool:
    """Stops the NI of this home from elsewhere, or what a killed one left; False: nothing ran.

    Raises NiError when it cannot be stopped.
    """
    if not settings.home.is_dir():
        return False
    home = ServerHome(settings.home).path
    if stop_holder(home, settings.embedded_stop_timeout_s + DOWN_EXTRA_S):
        return True
    with only_one(home):
        stopped = ChildList(home).end_leftovers()
        for server in (
            EmbeddedValkey(home, settings, tell),
            EmbeddedPostgres(home, settings, tell),
        ):
            if server.find():
                server.stop(found_too=True)
                stopped.append(type(server).__name__)
        remove_run(home)
    return bool(stopped)


def _workers() -> tuple[str, ...]:
    """The workers of this version; none while the package `workers` is not installed."""
    found = importlib.util.find_spec("workers")
    folders = found.submodule_search_locations if found else None
    return (
        WORKERS if any((Path(folder) / "__main__.py").exists() for folder in folders or ()) else ()
    )


def _base_url(host: str, port: int) -> str:
    """The address by which this machine reaches a server that listens on `host`."""
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return f"http://{host}:{port}"
    if address.is_unspecified:
        return f"http://{LOOPBACK}:{port}"
    return f"http://[{address}]:{port}" if address.version == 6 else f"http://{address}:{port}"


def _is_ready(base_url: str) -> bool:
    # No proxy of the environment stands between us and our own loopback.
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(f"{base_url}/readyz", timeout=READY_TIMEOUT_S) as answer:
            return bool(answer.status == 200)
    except (urllib.error.URLError, OSError):
        return False
