"""What the documents tell a reader to type works, and prints what they show."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest

from tests.scenarios.documents import examples, masked, run
from tests.support.homes import temporary_home

ROOT: Final = Path(__file__).resolve().parents[2]
DOCUMENTS: Final = ("docs/tutorial.md", "docs/how-to/add-a-client.md", "README.md")
"""The README last: it ends the demo bank's business date."""
READY_SECONDS: Final = 90
STOP_SECONDS: Final = 60


@pytest.fixture(scope="module")
def checkout(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A folder that looks like a checkout after `make run`, while NI runs."""
    folder = tmp_path_factory.mktemp("checkout")
    with temporary_home() as home:
        (folder / ".ni").symlink_to(home)
        (folder / "docs").symlink_to(ROOT / "docs")
        _write_program(folder / ".venv/bin/ni", "-m ni")
        if shutil.which("curl") is None:
            _write_program(folder / ".venv/bin/curl", "-m tests.scenarios.curl_stand_in")
        environment = os.environ | {"NI_HOME": str(home), "NI_API_PORT": "0"}
        with subprocess.Popen(
            [sys.executable, "-m", "ni", "up"], cwd=ROOT, env=environment, stdout=subprocess.PIPE
        ) as up:
            try:
                _wait_for(home / "run.json", up)
                yield folder
            finally:
                up.send_signal(signal.SIGTERM)
                up.wait(STOP_SECONDS)
    assert up.returncode == 0


def _write_program(path: Path, arguments: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f'#!/bin/sh\nPYTHONPATH="{ROOT}" exec "{sys.executable}" {arguments} "$@"\n')
    path.chmod(0o755)


def _wait_for(file: Path, process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + READY_SECONDS
    while not file.exists():
        assert process.poll() is None, "ni up has ended"
        assert time.monotonic() < deadline, "ni up does not become ready"
        time.sleep(0.1)


@pytest.mark.parametrize("document", DOCUMENTS)
def test_examples(checkout: Path, document: str) -> None:
    found = examples(ROOT / document)
    assert found
    path = f"{os.environ['PATH']}:{checkout / '.venv/bin'}"
    outputs = run(found, checkout, {"PATH": path})
    for example, output in zip(found, outputs, strict=True):
        if example.output is not None:
            assert masked(output) == masked(example.output), example.commands


def test_the_readme_begins_with_the_two_commands() -> None:
    readme = (ROOT / "README.md").read_text()
    makefile = (ROOT / "Makefile").read_text()
    for command in ("run", "test"):
        assert f"\nmake {command}" in readme
        assert f"\n{command}:" in makefile
    assert "make test" in (ROOT / ".ci" / "run").read_text()


def test_run_json_has_what_the_documents_read(checkout: Path) -> None:
    document = json.loads((checkout / ".ni/run.json").read_text())
    assert {"base_url", "postgres_dsn", "redis_url", "keys"} <= document.keys()
    assert {"cash", "payments", "cards", "operator", "approver"} == document["keys"].keys()
