"""The arithmetic of packets: goals, growth and the report."""

from __future__ import annotations

import dataclasses

import pytest

from bench.figures import Figures, Sample
from bench.goals import GROWTH_BOUND, goals
from bench.packet_figures import Lags, LockCount, PacketFigures
from bench.packet_report import packets_section
from bench.plan import QUICK, Plan
from bench.report import Circumstances, render

WHERE = Circumstances("1993-01-04 12:00 UTC", 1.0, "0", "0", 0.1, [("fsync", "on", True)])


def verdicts(figures: Figures) -> dict[str, str]:
    """The verdicts on packets by the measure's letter and the bound."""
    return {
        f"{goal.text[:3]} {goal.bound:g}{goal.unit} {goal.text.split()[-1]}": goal.verdict(figures)
        for goal in goals(Plan())
        if goal.text[:3] in ("(p)", "(q)", "(s)")
    }


def one(text: str, figures: Figures, plan: Plan | None = None) -> str:
    """The verdict on the goal whose text holds this."""
    [goal] = [goal for goal in goals(plan or Plan()) if text in goal.text]
    return goal.verdict(figures)


def test_nothing_measured_is_no_verdict() -> None:
    assert set(verdicts(Figures()).values()) == {"not measured"}
    assert len(verdicts(Figures())) == 7


@pytest.mark.parametrize(("seconds", "verdict"), [(5.0, "reached"), (5.01, "missed")])
def test_the_large_packet_has_five_seconds(seconds: float, verdict: str) -> None:
    figures = Figures()
    figures.packets.unloads[100_000] = [4.0, seconds, 9.0]
    assert one("unloading 100,000 postings over 50,000 accounts", figures) == verdict


def test_a_commit_a_posting_is_compared_within_its_round() -> None:
    figures = Figures()
    figures.packets.unloads[100_000] = [5.0, 10.0]
    figures.samples["p one"] = [Sample(2_000), Sample(1_000)]
    assert figures.packets.rate_ratios(100_000, figures.rates("p one")) == [10, 10]
    assert one("one commit a posting", figures) == "reached"
    figures.samples["p one"] = [Sample(2_001), Sample(1_001)]
    assert one("one commit a posting", figures) == "missed"


def test_growth_compares_the_time_of_one_posting() -> None:
    figures = Figures()
    figures.packets.unloads[1_000] = [0.01]
    figures.packets.unloads[10_000] = [0.1]
    figures.packets.unloads[100_000] = [0.9]
    assert figures.packets.growth_ratios(10_000, 1_000) == [pytest.approx(1)]
    assert figures.packets.growth_ratios(100_000, 10_000) == [pytest.approx(0.9)]
    assert one("100,000 ÷ of 10,000", figures) == one("10,000 ÷ of 1,000", figures) == "reached"
    figures.packets.unloads[100_000] = [GROWTH_BOUND + 0.01]
    assert one("100,000 ÷ of 10,000", figures) == "missed"
    assert one("10,000 ÷ of 1,000", figures) == "reached"


def test_debits_beside_packets_are_compared_with_those_before() -> None:
    figures = Figures()
    figures.samples["q before"] = [Sample(500, p99_ms=10), Sample(500, p99_ms=20)]
    figures.samples["q beside"] = [Sample(500, p99_ms=30), Sample(500, p99_ms=20)]
    assert figures.p99_ratios("q beside", "q before") == [3, 1]
    assert one("÷ p99 before", figures) == "reached"
    figures.samples["q beside"][1] = Sample(500, p99_ms=21)
    assert one("÷ p99 before", figures) == "missed"


def test_one_sample_with_a_waiting_decision_is_too_many() -> None:
    figures = Figures()
    assert one("waits for an unload", figures) == "not measured"
    figures.packets.locks = LockCount(1_000, 0, 12)
    assert one("waits for an unload", figures) == "reached"
    figures.packets.locks.add(LockCount(500, 1, 30))
    assert figures.packets.locks == LockCount(1_500, 1, 30)
    assert one("waits for an unload", figures) == "missed"


def test_no_look_at_the_locks_proves_nothing() -> None:
    assert PacketFigures(locks=LockCount()).lock_waits() == []


@pytest.mark.parametrize(("p99_s", "verdict"), [(2.0, "reached"), (2.001, "missed")])
def test_straight_through_has_two_seconds(p99_s: float, verdict: str) -> None:
    figures = Figures()
    figures.packets.lags = Lags(15_000, 0.3, p99_s, 9)
    assert one("(s) straight-through at 500/s", figures) == verdict


def test_a_quick_run_names_its_own_sizes() -> None:
    figures = Figures()
    figures.packets.unloads[2_000] = [0.1]
    assert one("unloading 2,000 postings over 1,000 accounts", figures, QUICK) == "reached"
    assert one("2,000 ÷ of 200", figures, QUICK) == "not measured"


def test_the_report_tells_what_was_measured_and_nothing_else() -> None:
    figures, plan = Figures(), dataclasses.replace(Plan(), rounds=2)
    assert packets_section(plan, figures.packets) == ""
    assert "## Packets" not in render(plan, figures, WHERE)
    figures.packets.unloads[100_000] = [4.0, 2.0]
    figures.packets.locks, figures.packets.beside = LockCount(700, 3, 14), [5.25]
    figures.packets.offered, figures.packets.arrivals, figures.packets.late = 541.0, 900, 7
    figures.packets.lags, figures.packets.straight_packets = Lags(15_000, 0.25, 0.75, 1.5), 60
    figures.samples["p one"] = [Sample(1_250, mean_ms=0.8)]
    figures.samples["q beside"] = [Sample(541, 5, 12.5)]
    figures.packets.booked_told = figures.packets.booked_stored = 115_000
    figures.packets.entries_stored = 230_000
    report = render(plan, figures, WHERE)
    for line in (
        "| 100,000 | 1 | 3.000 | 30.0 | 33,333 | 4.000 2.000 |",
        "(q) offered 541 debits a second, 30% of (a). The packets beside them took 5.2 s.",
        "700 times meanwhile, at most 14 ms apart; a decision waited for an unload in 3 of them",
        "(s) 15,000 straight-through postings at 500 a second reached the core in 60 packets.",
        "median 0.25 s, p99 0.75 s, longest 1.50 s",
        "Of 900 requests that were due on a schedule, 7 left late",
        "| (p) booking with pgbench, one commit a posting, 1 connection | 1,250 | mean 0.80 |  |",
        "| (q) the same beside packets of 100,000 | 541 | 5.00 | 12.50 |",
        "Postings told to be booked: 115,000; found booked: 115,000; their entries in the core: "
        "230,000",
        "| (p) unloading 100,000 postings over 50,000 accounts | 3.00 s | ≤ 5 s | reached |",
    ):
        assert line in report, line
