"""A quick run measures day and night; what is no matter of speed is reached by it, too."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
RUN = [sys.executable, "-m", "bench", "--quick"]
ROWS = {"gate": 1, "triggers": 1, "close": 1, "morning": 2, "switch": 4, "locked": 2, "night": 2}
NEVER_MISSED = (
    "failed calls", "answers of a mixed state", "calls served", "lock on the core",
    "without a note", "calls without the expected answer",
)  # fmt: skip


@pytest.mark.timeout(180)
def test_a_quick_run_measures_day_and_night(tmp_path: Path) -> None:
    output = tmp_path / "report.md"
    command = [*RUN, "--only", ",".join(ROWS), "--output", str(output)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    report = output.read_text()
    for name, count in ROWS.items():
        assert f"({name})" in done.stderr
        rows = re.findall(rf"^\| \({name}\).*\| (?:reached|missed) \|", report, re.MULTILINE)
        assert len(rows) == count, report
    for text in NEVER_MISSED:
        assert re.search(rf"^\| \(\w+\) .*{text}.*\| reached \|", report, re.MULTILINE), report
    assert "(switch) 4 switches (a short form" in report
