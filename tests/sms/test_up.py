"""`ni up` brings the notifier: a movement becomes a text that `ni sms list` shows."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from urllib.parse import urlsplit

import httpx
import pytest

from tests.embedded.up_process import ROOT, UpProcess, ni, running

pytestmark = pytest.mark.timeout(240)
ACCOUNT = "CZ1100002378"
HOLD = {"account": ACCOUNT, "amount": "5.00", "currency": "CZK"}
SHOW = """
import json
from ni.settings import load_settings
settings = load_settings()
names = [name for name in type(settings).model_fields if name.endswith("_url")]
found = {name: getattr(settings, name) for name in names}
found["sms_gateway_token"] = settings.sms_gateway_token.get_secret_value()
print(json.dumps(found))
"""
TEXT = "Account *2378: CZK 5.00 held. Available: CZK 95.00."


def environment_of(up: UpProcess, name: str) -> dict[str, str]:
    """What a child of `ni up` was started with."""
    content = Path(f"/proc/{up.named(name).pid}/environ").read_text()
    return dict(line.split("=", 1) for line in content.split("\0") if "=" in line)


def roles_of(up: UpProcess, name: str) -> set[str | None]:
    """The roles whose addresses a child knows."""
    known = environment_of(up, name)
    urls = (known[setting] for setting in known if setting.endswith("DATABASE_URL"))
    return {urlsplit(url).username for url in urls if url}


def priority(up: UpProcess, name: str) -> int:
    """A child's place among the processes; a higher number comes later, 19 last."""
    return os.getpriority(os.PRIO_PROCESS, up.named(name).pid)


def known_to(up: UpProcess, name: str) -> dict[str, str]:
    """The addresses and the token in a child's settings, read as the child reads them."""
    done = subprocess.run(
        [sys.executable, "-c", SHOW], env=environment_of(up, name), capture_output=True, check=True,
        timeout=60, cwd=ROOT,
    )  # fmt: skip
    found: dict[str, str] = json.loads(done.stdout)
    return {setting: value for setting, value in found.items() if value}


def test_nobody_knows_more_than_it_needs_also_when_started_again(home: Path) -> None:
    """When the first ones start there is no run.json yet; the later ones could read all of it."""
    with running(home, NI_SMS_GATEWAY_TOKEN="s3cret") as up:
        up.wait_ready()
        before = {name: up.named(name) for name in ("sms", "housekeeping")}
        for process in before.values():
            os.kill(process.pid, signal.SIGKILL)
        deadline = time.monotonic() + 60
        while any(up.named(name).pid == process.pid for name, process in before.items()):
            assert time.monotonic() < deadline, up.output
            time.sleep(0.05)
        sms = known_to(up, "sms")
        assert set(sms) == {"sms_database_url", "sms_gateway_token"}
        assert sms["sms_gateway_token"] == "s3cret"
        for name in ("housekeeping", "api", "relay"):
            assert set(known_to(up, name)) == {"database_url", "redis_url"}, name


def test_a_movement_becomes_a_text(home: Path) -> None:
    with running(home) as up:
        run = up.wait_ready()
        assert roles_of(up, "sms") == {"ni_sms"}
        assert roles_of(up, "api") == {"ni_engine"}
        words = ("subscribe", ACCOUNT, "--phone", "+420601234567")
        assert ni(home, "sms", *words).returncode == 0
        headers = {"Authorization": f"Bearer {run['keys']['cash']}", "Idempotency-Key": "sms-1"}
        held = httpx.post(
            f"{run['base_url']}/v1/holds", json=HOLD, headers=headers, trust_env=False
        )
        assert held.status_code == 201, held.text
        deadline = time.monotonic() + 30
        while TEXT not in (listed := ni(home, "sms", "list").stdout):
            assert time.monotonic() < deadline, listed
        assert "kept" in listed
        after_decisions = min(19, priority(up, "api") + 5)
        assert priority(up, "relay") == priority(up, "sms") == after_decisions
        log = (home / "logs" / "sms.log").read_text()
        assert "error" not in log, log
        assert ACCOUNT not in log
