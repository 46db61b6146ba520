"""The arithmetic of day and night: goals, traces, intervals and the report."""

from __future__ import annotations

from array import array
from pathlib import Path

import pytest

from bench.figures import Figures, Sample
from bench.goals import goals, length
from bench.night_figures import (
    Closes,
    Locked,
    LongNight,
    MixedLoad,
    Morning,
    Switches,
    interval_of_median,
)
from bench.night_report import nights_section
from bench.night_trace import Trace
from bench.packet_figures import LockCount
from bench.plan import QUICK, WHOLE_LOCKED_S, WHOLE_NIGHT_S, WHOLE_SWITCHES, Plan, make_plan
from bench.report import render
from tests.bench.test_packet_figures import WHERE

NAMES = ("switch", "locked", "close", "triggers", "gate", "morning", "night")


def one(text: str, figures: Figures) -> str:
    """The verdict on the goal whose text holds this."""
    [goal] = [goal for goal in goals(Plan()) if text in goal.text]
    return goal.verdict(figures)


def load(
    *, failures: int = 0, mixed: int = 0, p99_ms: float = 10, longest_ms: float = 20
) -> MixedLoad:
    return MixedLoad(
        seconds=80, calls=16_000, failures=failures, mixed=mixed, checked=16_200, p99_ms=p99_ms,
        longest_ms=longest_ms,
    )  # fmt: skip


def switches(equal: MixedLoad, switched: MixedLoad, near_p99_ms: float = 10) -> Figures:
    figures = Figures()
    figures.nights.switches = Switches(
        equal=equal, switched=switched, switches=40, near_calls=900, near_p99_ms=near_p99_ms,
        close_ms=[30, 50], open_ms=[20], gate_tries=2, longest_after_s=-0.25,
    )  # fmt: skip
    return figures


def test_nothing_measured_is_no_verdict() -> None:
    nightly = [
        goal for goal in goals(Plan()) if goal.text.startswith(tuple(f"({n})" for n in NAMES))
    ]
    assert len(nightly) == 13
    assert {goal.verdict(Figures()) for goal in nightly} == {"not measured"}
    assert nights_section(Plan(), Figures().nights) == ""


def test_one_failed_call_and_one_mixed_answer_are_too_many() -> None:
    good = switches(load(), load())
    assert one("failed calls", good) == one("(switch) answers of a mixed", good) == "reached"
    assert one("failed calls", switches(load(), load(failures=1))) == "missed"
    assert one("(switch) answers of a mixed", switches(load(), load(mixed=1))) == "missed"


@pytest.mark.parametrize(
    ("equal_ms", "longest_ms", "verdict"),
    [
        (20, 250, "reached"), (20, 250.1, "missed"), (166, 250, "reached"), (200, 300, "reached"),
        (200, 300.1, "missed"),
    ],
)  # fmt: skip
def test_a_stall_may_last_250_ms_or_half_as_long_again(
    equal_ms: float, longest_ms: float, verdict: str
) -> None:
    figures = switches(load(longest_ms=equal_ms), load(longest_ms=longest_ms))
    assert one("longest call", figures) == verdict


@pytest.mark.parametrize(("near_ms", "verdict"), [(20, "reached"), (20.1, "missed")])
def test_calls_near_a_switch_are_compared_with_the_equal_load(near_ms: float, verdict: str) -> None:
    assert one("of a switch ÷", switches(load(), load(), near_ms)) == verdict


def test_a_trace_is_cut_around_instants_and_at_its_ends(tmp_path: Path) -> None:
    file = tmp_path / "trace"
    made = array("d")
    for second in (5, 1, 2, 3, 4):
        made.extend((second, second / 1000))
    file.write_bytes(made.tobytes())
    trace = Trace.read(file)
    assert trace.calls == [(1, 1), (2, 2), (3, 3), (4, 4), (5, 5)]
    assert trace.near([1.5, 2.5], 0.6).calls == [(1, 1), (2, 2), (3, 3)]
    assert trace.near([9], 1).calls == []
    assert trace.longest_after_s([1, 5.5, 9]) == -0.5
    first, last = trace.edges(1.5)
    assert (first.calls, last.calls) == ([(1, 1), (2, 2)], [(4, 4), (5, 5)])
    assert (trace.p99_ms(), trace.longest_ms(), Trace([]).longest_ms()) == (5, 5, 0)


@pytest.mark.parametrize(
    ("count", "ends"),
    [(5, None), (6, (1, 6)), (8, (1, 8)), (9, (2, 8)), (15, (4, 12)), (20, (6, 15))],
)
def test_the_interval_of_a_median_is_as_wide_as_the_tables_say(
    count: int, ends: tuple[int, int] | None
) -> None:
    found = interval_of_median([float(value) for value in range(count, 0, -1)])
    assert (found and (found[0], found[2])) == ends
    assert found is None or found[1] == (count + 1) / 2


def test_the_gate_is_judged_by_the_upper_end() -> None:
    figures = Figures()
    figures.nights.gate = [(96.0, 100.0)] * 11 + [(97.0, 100.0)] * 4
    assert figures.nights.gate_interval() == (0.96, 0.96, 0.97)
    assert one("(gate)", figures) == "reached"
    figures.nights.gate = [(96.0, 100.0)] * 12 + [(97.0, 100.0)] * 3
    assert one("(gate)", figures) == "missed"


def test_triggers_and_closes_have_their_bounds() -> None:
    figures = Figures()
    figures.nights.triggers = [(3, 2), (4, 2), (1, 2)]
    assert figures.nights.trigger_ratios() == [1.5, 2, 0.5]
    assert one("(triggers)", figures) == "reached"
    figures.nights.triggers = [(3.1, 2)]
    assert one("(triggers)", figures) == "missed"
    figures.nights.closes = Closes(1_000_001, 10_000, [40, 500], [0, 0], 9.5, "done")
    assert one("(close)", figures) == "reached"
    figures.nights.closes.close_ms.append(500.1)
    assert one("(close)", figures) == "missed"


@pytest.mark.parametrize(("failures", "mixed"), [(1, 0), (0, 1)])
def test_every_call_of_a_held_core_must_be_served(failures: int, mixed: int) -> None:
    figures = Figures()
    figures.nights.locked = Locked(load(), 20, LockCount(2_000))
    assert one("calls served", figures) == "reached"
    figures.nights.locked.load = load(failures=failures, mixed=mixed)
    assert one("calls served", figures) == "missed"


def test_one_lock_on_the_core_is_too_many_and_no_look_proves_nothing() -> None:
    figures = Figures()
    figures.nights.locked = Locked(load(), 20)
    assert one("a lock on the core", figures) == "not measured"
    figures.nights.locked.locks.samples = 2_000
    assert one("a lock on the core", figures) == "reached"
    figures.nights.locked.locks.with_locks = 1
    assert one("a lock on the core", figures) == "missed"


def test_one_row_without_a_note_is_too_many_and_idle_snapshots_prove_nothing() -> None:
    figures = Figures()
    figures.nights.morning = Morning(200_000, 100_000, 20, snapshots=2_000)
    assert one("without a note", figures) == "not measured"
    figures.nights.morning.noted = 7
    assert one("without a note", figures) == "reached"
    figures.nights.morning.unnoted = 1
    assert one("without a note", figures) == "missed"


@pytest.mark.parametrize(("last_ms", "verdict"), [(13, "reached"), (13.1, "missed")])
def test_the_end_of_a_night_is_compared_with_its_start(last_ms: float, verdict: str) -> None:
    figures = Figures()
    figures.nights.night = LongNight(load(), 10, 5, 10, last_ms)
    assert one("p99 of the last", figures) == verdict
    assert one("(night) calls without", figures) == "reached"
    figures.nights.night.load.mixed = 1
    assert one("(night) calls without", figures) == "missed"


def test_debits_of_the_morning_are_compared_with_those_before() -> None:
    figures = Figures()
    figures.samples["morning before"] = [Sample(500, p99_ms=10)]
    figures.samples["morning beside"] = [Sample(500, p99_ms=20)]
    assert one("p99 until exact", figures) == "reached"
    figures.samples["morning beside"] = [Sample(500, p99_ms=20.1)]
    assert one("p99 until exact", figures) == "missed"


def test_only_a_whole_night_says_that_it_is_one() -> None:
    whole = make_plan(quick=False, rounds=None, measures=None, whole_nights=True)
    assert (2 * whole.nights, whole.locked_s, whole.night_s) == (1_000, 600, 3_600)
    texts = [goal.text for goal in goals(whole)]
    assert "(switch) 1,000 switches under 200 requests a second: failed calls" in texts
    assert "(locked) the core's tables held for 10 min: calls served" in texts
    assert any("(night) 60 min beside" in text and "last 5 min" in text for text in texts)
    assert any("held for 2 s" in goal.text for goal in goals(QUICK))
    assert [length(seconds) for seconds in (60, 120, 90, 0.5)] == ["60 s", "2 min", "90 s", "0.5 s"]
    assert (WHOLE_SWITCHES, WHOLE_LOCKED_S, WHOLE_NIGHT_S) == (1_000, 600, 3_600)


def test_the_report_tells_what_was_measured_and_how_long() -> None:
    figures = switches(load(longest_ms=90), load(mixed=1), 12.5)
    assert figures.nights.switches is not None
    figures.nights.switches.switched.samples.append("epoch 6 has mode night and shows day: {}")
    figures.nights.locked = Locked(load(), 600, LockCount(58_000, 3, 24))
    figures.nights.closes = Closes(1_000_001, 10_000, [40, 45], [0, 7], 31.5, "2,000,004 keys")
    figures.nights.triggers = [(4.5, 4.0)]
    figures.nights.gate = [(1_440.0, 1_500.0)] * 8 + [(1_500.0, 1_500.0)] * 7
    figures.nights.morning = Morning(200_000, 100_000, 25.5, 2_000, 500, 2, 1, ["CZ7"], 90_000)
    figures.nights.night = LongNight(load(), 10, 5, 10, 11, 9_000, 600, 1.5, 2.5)
    report = render(Plan(), figures, WHERE)
    for line in (
        "| (switch) without switches | 80 | 16,000 | 10.00 | 90.0 | 0 | 16,200 | 0 |",
        "    epoch 6 has mode night and shows day: {}",
        "(switch) 40 switches (a short form; the whole one has 1,000 of them). Of the calls 900",
        "A close took 40 ms (median) and 50 ms at most",
        "The longest call was due -0.25 s from the nearest switch.",
        "held all its tables for 600 s (the whole form); 100.0000 % of the calls were served",
        "at most 24 ms apart; NI had or wanted one on the core in 3 of them",
        "With a copy of 1,000,001 accounts, kept by triggers",
        "40 45 ms; the drains 0 7 ms. A full copy instead, from an empty one by ",
        "`ni night-copy rebuild`, took 31.5 s (2,000,004 keys)",
        "with the triggers and without, in turn: 4.500 and 4.000 s.",
        "median 0.960, interval of 95 % from 0.960 to 1.000",
        "| 1.00 (median 0.96) | ≥ 0.97 | reached |",
        "the copy was exact 25.5 s after the opening",
        "2,000 snapshots in 2 more mornings of 200,000 changed keys",
        "90,000 rows differed with a note, 1 without (CZ7)",
        "(night) 80 s beside the core's open transaction (a short form; the whole one has 3,600 s)",
        "took and removed 9,000 events in 600 polls: 1.50 ms at the start, 2.50 ms at the end",
        "| (switch) answers of a mixed state | 1.00 | ≤ 0 | missed | 1.00 |",
    ):
        assert line in report, line
