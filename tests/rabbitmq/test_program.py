"""Where RabbitMQ comes from, and that nothing of it is left running on the machine."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support import rabbitmq_program
from tests.support.broker import Broker
from tests.support.rabbitmq_program import NoRabbitMQ, programs, services_kept_off


def script(path: Path, text: str) -> Path:
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)
    return path


def answer_of(policy: Path) -> int:
    return subprocess.run([policy, "rabbitmq-server", "start"], check=False).returncode


def test_the_programs_are_there() -> None:
    """The server and its command line tool, themselves and not the service's wrappers."""
    folder = programs()
    for name in ("rabbitmq-server", "rabbitmqctl"):
        assert os.access(folder / name, os.X_OK)
    assert "Only root or rabbitmq" not in (folder / "rabbitmq-server").read_text()


def test_without_a_way_to_get_it_the_run_says_what_to_do(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(rabbitmq_program, "find_programs", lambda: None)
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    with pytest.raises(NoRabbitMQ, match=r"apt install rabbitmq-server.*NI_TEST_AMQP_URL"):
        programs()


def test_an_apt_that_fails_is_told_with_its_words(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    script(tmp_path / "apt-get", "echo 'E: no such mirror'; exit 100")
    monkeypatch.setattr(rabbitmq_program, "_SYSTEM_BIN", f"{tmp_path}:/usr/bin:/bin")
    monkeypatch.setattr(rabbitmq_program, "POLICY", tmp_path / "policy")
    with pytest.raises(NoRabbitMQ, match=r"(?s)no such mirror.*NI_TEST_AMQP_URL"):
        rabbitmq_program.install()


@pytest.mark.parametrize("before", [None, 0, 104], ids=["none", "allows", "allows-restart"])
def test_no_service_is_started_meanwhile(tmp_path: Path, before: int | None) -> None:
    """The machine's own policy is back afterwards, whatever happens in between."""
    policy = tmp_path / "policy-rc.d"
    if before is not None:
        script(policy, f"exit {before}")
    with contextlib.suppress(ZeroDivisionError), services_kept_off(policy):
        assert answer_of(policy) == 101
        raise ZeroDivisionError
    assert (answer_of(policy) if policy.exists() else None) == before
    assert len(list(tmp_path.iterdir())) == (before is not None)


def test_a_policy_that_forbids_already_is_left_alone(tmp_path: Path) -> None:
    policy = script(tmp_path / "policy-rc.d", "exit 101 # the machine's")
    with services_kept_off(policy):
        assert "the machine's" in policy.read_text()


def test_a_foreign_broker_without_its_management_is_refused(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("NI_TEST_AMQP_URL", "amqp://someone:word@127.0.0.1:1/x")
    monkeypatch.setenv("NI_TEST_AMQP_HTTP_PORT", "1")
    with pytest.raises(NoRabbitMQ, match="management plugin on port 1 of 127") as told:
        Broker.of_run(tmp_path)
    assert "word" not in str(told.value)


def test_the_command_before_a_test_run_finds_it() -> None:
    """What `make test` runs first, so that no test's time limit waits for a package."""
    command = [sys.executable, "-m", "tests.support.rabbitmq_program"]
    assert subprocess.run(command, check=False, timeout=60).returncode == 0
