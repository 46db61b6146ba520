"""`ni up` as a person or a script runs it: a process with a terminal's group of its own."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx

from ni.processes import Process, find_process, is_alive

ROOT = Path(__file__).parents[2]
READY_SECONDS = 60.0
STOP_SECONDS = 60.0


def ni(
    home: Path, *arguments: str, cwd: Path = ROOT, **environment: str
) -> subprocess.CompletedProcess[str]:
    """A command of `ni` run to its end."""
    return subprocess.run(
        [sys.executable, "-m", "ni", *arguments],
        cwd=cwd,
        env=os.environ | {"NI_HOME": str(home), "COLUMNS": "80"} | environment,
        capture_output=True,
        text=True,
        timeout=READY_SECONDS,
        check=False,
    )


@dataclass
class UpProcess:
    """One `ni up` of a home; the API on any free port."""

    home: Path
    environment: dict[str, str] = field(default_factory=dict)
    arguments: tuple[str, ...] = ()
    process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start it and return at once."""
        settings = {"NI_HOME": str(self.home), "NI_API_PORT": "0"} | self.environment
        with self.output_path.open("ab") as output:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "ni", "up", *self.arguments],
                cwd=ROOT,
                env=os.environ | settings,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,
            )

    def wait_ready(self) -> dict[str, Any]:
        """What run.json says once it is there."""
        deadline = time.monotonic() + READY_SECONDS
        while time.monotonic() < deadline:
            if self.run_path.exists():
                run = json.loads(self.run_path.read_text())
                assert isinstance(run, dict)
                return run
            assert self.process is not None
            assert self.process.poll() is None, self.output
            time.sleep(0.05)
        raise AssertionError(f"not ready: {self.output}")

    def wait_said(self, text: str) -> None:
        """Wait until the output has the text."""
        deadline = time.monotonic() + READY_SECONDS
        while text not in self.output:
            assert time.monotonic() < deadline, self.output
            time.sleep(0.05)

    def stop(self, number: signal.Signals = signal.SIGTERM, *, group: bool = False) -> int:
        """Send a signal, to the whole group as a terminal does if told so; the exit code."""
        assert self.process is not None
        send = os.killpg if group else os.kill
        send(self.process.pid, number)
        return self.process.wait(STOP_SECONDS)

    @property
    def run_path(self) -> Path:
        return self.home / "run.json"

    @property
    def output_path(self) -> Path:
        return self.home.with_name(f"{self.home.name}.out")

    @property
    def output(self) -> str:
        """Everything that it has said."""
        return self.output_path.read_text()

    def named(self, name: str) -> Process:
        """What runs now: `postgres`, `valkey`, the `api` or a worker."""
        if name == "postgres":
            lock_file = self.home / "postgres/data/postmaster.pid"
            return living(int(lock_file.read_text().split()[0]))
        folder = "embedded" if name == "valkey" else "processes"
        noted = json.loads((self.home / f"{folder}.json").read_text())[name]
        return Process(noted["pid"], noted["started"])

    def everything(self) -> list[Process]:
        """All that runs of this home but the supervisor."""
        noted = json.loads((self.home / "processes.json").read_text())
        return [self.named(name) for name in (*noted, "valkey", "postgres")]


def living(pid: int) -> Process:
    process = find_process(pid)
    assert process is not None, f"no process {pid}"
    return process


@contextmanager
def running(home: Path, *arguments: str, **environment: str) -> Iterator[UpProcess]:
    """A `ni up` that is ready; killed afterwards if the test has not stopped it."""
    up = UpProcess(home, environment, arguments)
    up.start()
    assert up.process is not None
    try:
        up.wait_ready()
        yield up
    finally:
        if up.process.poll() is None:
            up.process.terminate()
            try:
                up.process.wait(STOP_SECONDS)
            except subprocess.TimeoutExpired:
                up.process.kill()
                up.process.wait()
        up.output_path.unlink()


def wait_until_ended(processes: list[Process], seconds: float = 10.0) -> list[Process]:
    """Those that still live after the seconds; empty as soon as all have ended."""
    deadline = time.monotonic() + seconds
    while alive := [process for process in processes if is_alive(process)]:
        if time.monotonic() > deadline:
            break
        time.sleep(0.05)
    return alive


def balance(run: dict[str, Any], account: str, seconds: float = 30.0) -> dict[str, Any]:
    """An account's balance by the key of `cash`; asked again while the API does not serve."""
    deadline = time.monotonic() + seconds
    url = f"{run['base_url']}/v1/accounts/{account}/balance"
    key = {"Authorization": f"Bearer {run['keys']['cash']}"}
    said: object = None
    while time.monotonic() < deadline:
        try:
            answer = httpx.get(url, headers=key, timeout=5, trust_env=False)
        except httpx.HTTPError as error:
            said = error
        else:
            if answer.status_code == 200:
                body = answer.json()
                assert isinstance(body, dict)
                return body
            said = answer.text
        time.sleep(0.1)
    raise AssertionError(f"no balance within {seconds} s: {said}")
