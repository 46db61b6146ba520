"""`ni up` brings the notifier: a movement becomes a text that `ni sms list` shows."""

from __future__ import annotations

import time
from pathlib import Path
from urllib.parse import urlsplit

import httpx
import pytest

from tests.embedded.up_process import UpProcess, ni, running

pytestmark = pytest.mark.timeout(240)
ACCOUNT = "CZ1100002378"
HOLD = {"account": ACCOUNT, "amount": "5.00", "currency": "CZK"}
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
        log = (home / "logs" / "sms.log").read_text()
        assert "error" not in log, log
        assert ACCOUNT not in log
