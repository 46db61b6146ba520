"""The containers' commands, run here with nothing but the file's variables in their environment."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

import pytest

from ni.embedded import EmbeddedPostgres, EmbeddedValkey
from ni.processes import free_port
from tests.compose.shape import environment_of, health, ours, sample_environment, services
from tests.support.broker import VirtualHost
from tests.support.databases import Database
from tests.support.rabbitmq import RabbitMQ

ROOT: Final = Path(__file__).parents[2]
HEALTHY_SECONDS: Final = 60.0
STOP_SECONDS: Final = 20.0


class Here:
    """Where this test's servers are, in place of the containers of that name."""

    def __init__(
        self, postgres: EmbeddedPostgres, database: Database, redis: str, amqp: str, home: Path
    ) -> None:
        self._postgres = postgres
        self._database = database
        self._redis = redis
        self._amqp = amqp
        self._home = home
        self.port = str(free_port())

    def environment(self, service: dict[str, Any]) -> dict[str, str]:
        """The container's environment with these addresses; nothing of this process's own."""
        given = environment_of(service, sample_environment())
        told = {name: self._value(name, value) for name, value in given.items()}
        return {"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT), **told}

    def words(self, words: list[str]) -> list[str]:
        """A command as it is called here."""
        program = {"python": [sys.executable], "ni": [sys.executable, "-m", "ni"]}[words[0]]
        given = [word.replace("8080", self.port) for word in words[1:]]
        return [*program, *(word.replace("/run/ni", str(self._home)) for word in given)]

    def _value(self, name: str, value: str) -> str:
        match urlsplit(value).hostname:
            case "postgres":
                role = urlsplit(value).username
                return self._postgres.dsn(str(role), self._database.name)
            case "valkey":
                return self._redis
            case "rabbitmq":
                return self._amqp
        return {
            "NI_HOME": str(self._home), "NI_API_PORT": self.port, "NI_API_HOST": "127.0.0.1"
        }.get(name, value)  # fmt: skip


@contextmanager
def started(here: Here, name: str, log: Path) -> Iterator[subprocess.Popen[bytes]]:
    """The container's process; it ends by itself when it is asked to, with code 0."""
    service = ours()[name]
    with log.open("wb") as output:
        process = subprocess.Popen(
            here.words(service["command"]),
            cwd="/",
            env=here.environment(service),
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
        )
    try:
        yield process
        process.terminate()
        assert process.wait(STOP_SECONDS) == 0, log.read_text()[-2000:]
    finally:
        if process.poll() is None:
            process.kill()
            process.wait()


def healthy(here: Here, name: str) -> bool:
    """What the container's own health check says."""
    service = ours()[name]
    done = subprocess.run(
        here.words(health(service)), cwd="/", env=here.environment(service),
        capture_output=True, check=False, timeout=STOP_SECONDS,
    )  # fmt: skip
    return done.returncode == 0


@pytest.mark.timeout(240)
def test_containers_start_become_healthy_and_end(
    postgres: EmbeddedPostgres,
    database: Database,
    valkey: EmbeddedValkey,
    amqp: VirtualHost,
    tmp_path: Path,
) -> None:
    """The migration first, then everybody at once, as docker compose would do it."""
    here = Here(postgres, database, valkey.url, amqp.url, tmp_path)
    with started(here, "migrate", tmp_path / "migrate.log") as migration:
        assert migration.wait(HEALTHY_SECONDS) == 0
    assert "up to date" in (tmp_path / "migrate.log").read_text()
    waiting = set(ours()) - {"migrate"}
    assert not [name for name in waiting if healthy(here, name)], "healthy before they run"
    with ExitStack() as stack:
        processes = {
            name: stack.enter_context(started(here, name, tmp_path / f"{name}.log"))
            for name in waiting
        }
        deadline = time.monotonic() + HEALTHY_SECONDS
        while waiting and time.monotonic() < deadline:
            ended = [name for name in waiting if processes[name].poll() is not None]
            assert not ended, [(tmp_path / f"{name}.log").read_text()[-2000:] for name in ended]
            waiting = {name for name in waiting if not healthy(here, name)}
        assert not waiting, f"not healthy after {HEALTHY_SECONDS} s: {waiting}"


@pytest.mark.timeout(240)
def test_the_brokers_health_check_is_a_command_of_rabbitmq() -> None:
    """Asked of the run's own server, at its port; at another port it is not healthy."""
    server = RabbitMQ(Path(os.environ["NI_TEST_RUN_HOME"])).start()
    program, *words, _port = health(services()["rabbitmq"])
    server.control(*words, str(server.port("amqp")), program=program)
    with pytest.raises(AssertionError, match=program):
        server.control(*words, str(free_port()), program=program)
