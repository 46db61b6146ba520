"""The measures of events: a quick run of each, and the arithmetic of their ratios."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import time
from pathlib import Path

import pytest

from bench.event_figures import EventFigures
from bench.event_report import events_section
from bench.event_sink import Sink, decided_us
from bench.figures import Figures, Sample
from bench.goals import goals
from bench.plan import Plan
from ni.identifiers import make_id

ROOT = Path(__file__).resolve().parents[2]
RUN = [sys.executable, "-m", "bench", "--quick"]
MEASURES = {"confirm": 1, "drain": 1, "deliver": 2, "outbox": 1}


def one(text: str, figures: Figures) -> str:
    """The verdict on the goal whose text holds this."""
    [goal] = [goal for goal in goals(Plan()) if text in goal.text]
    return goal.verdict(figures)


@pytest.mark.skipif(
    os.environ.get("NI_TORTURE") != "1", reason="more than a minute: make torture runs it"
)
@pytest.mark.timeout(240)
def test_a_quick_run_measures_events(tmp_path: Path) -> None:
    """Against a real broker, relay and notifier; every event is counted, or the run fails."""
    output = tmp_path / "report.md"
    command = [*RUN, "--only", ",".join(MEASURES), "--output", str(output)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    report = output.read_text()
    for name, count in MEASURES.items():
        rows = re.findall(rf"^\| \({name}\).*\| (?:reached|missed) \|", report, re.MULTILINE)
        assert len(rows) == count, report
    assert re.search(r"\(confirm\) [1-9][\d,]* debits", report)
    assert re.search(r"without a broker: [1-9][\d,]*, as many", report)
    assert re.search(r"The notifier made [1-9][\d,]* texts", report)


def test_nothing_measured_is_no_verdict() -> None:
    events = ("(confirm)", "(drain)", "with relay", "broker dead", "(outbox)")
    assert {one(text, Figures()) for text in events} == {"not measured"}
    assert events_section(EventFigures()) == ""


def test_the_bounds_are_those_of_the_table() -> None:
    figures = Figures()
    found = figures.events
    found.confirmed, found.p99_ms = 10, 500.0
    found.relay_rates, found.loop_rates = [700, 900, 10], [1000, 1000, 1000]
    found.outbox_bytes = [100] * 5 + [1000] + [110] * 5
    for name, p99 in (("without", 10.0), ("alive", 15.0), ("dead", 16.5)):
        figures.samples[f"events {name}"] = [Sample(500, 1, p99)]
    texts = ("(confirm)", "(drain)", "with relay", "broker dead", "(outbox)")
    assert {text: one(text, figures) for text in texts} == dict.fromkeys(texts, "reached")
    found.p99_ms = 500.1
    found.relay_rates[0] = 699
    found.outbox_bytes[-2:] = [111, 111]
    figures.samples["events dead"] = [Sample(500, 1, 16.6)]
    figures.samples["events without"] = [Sample(500, 1, 9.9)]
    assert {text: one(text, figures) for text in texts} == dict.fromkeys(texts, "missed")


def test_a_lag_is_told_from_the_instant_of_the_decision() -> None:
    """The id's own instant: an event that arrives now is not told to have come earlier."""
    now_us = time.time_ns() // 1000
    for offset in range(0, 3000, 7):
        decided = decided_us(str(make_id(now_us + offset, 1, 0)))
        assert now_us + offset - 1 <= decided <= now_us + offset


def test_the_sink_counts_what_is_new_and_what_comes_again() -> None:
    sink = Sink()
    now_us = time.time_ns() // 1000
    identifiers = [str(make_id(now_us + at, at + 1, 0)) for at in (-9_000_000, -1_000, -500)]
    sink.arrived_us = dict.fromkeys(identifiers, now_us)
    found = sink.result(now_us - 5_000_000)
    assert (found.events, found.counted) == (3, 2)
    assert 0.4 < found.p50_ms < found.p99_ms == found.max_ms < 1.1
