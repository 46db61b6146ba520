"""The benchmark works: a quick run against real servers, and the arithmetic of its report."""

import contextlib
import dataclasses
import itertools
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest

import bench.__main__
from bench.figures import Figures, MemoryReading, Sample
from bench.goals import goals
from bench.load import content_length, percentile
from bench.load_requests import account_name, request_maker
from bench.load_spec import Kind, LoadResult, LoadSpec
from bench.plan import MEASURES, QUICK, make_plan, parse_measures
from bench.processes import BenchError
from bench.steps import ROUND

ROOT = Path(__file__).resolve().parents[2]
RUN = [sys.executable, "-m", "bench", "--quick"]
PLAN = dataclasses.replace(QUICK, memory_commands=10)


def spec(
    kind: Kind, *, account: str | None = None, items: int = 3, packet: str | None = "bench"
) -> LoadSpec:
    return LoadSpec(
        kind=kind,
        port=1,
        connections=1,
        seconds=1,
        warm_seconds=0,
        bearer="key",
        accounts=5,
        account=account,
        items=items,
        count=0 if account else 5,
        packet=packet,
    )


def bodies(made: LoadSpec) -> list[bytes]:
    make = request_maker(made)
    requests = itertools.islice(iter(make, None), 7)
    found = []
    for request in requests:
        head, _, body = request.partition(b"\r\n\r\n")
        assert content_length(head.lower() + b"\r\n") == len(body)
        found.append(body)
    return found


@pytest.mark.timeout(90)
def test_a_quick_run_prints_the_table(tmp_path: Path) -> None:
    output = tmp_path / "report.md"
    command = [*RUN, "--only", "a,b,d,e,f,g,h", "--output", str(output)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "## What it must reach" in done.stdout
    assert done.stdout.count("| reached |") + done.stdout.count("| missed |") == 6
    assert output.read_text().strip() == done.stdout.strip()


async def test_a_run_that_fails_tells_what_it_has_measured(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def fail(_bench: object) -> None:
        raise BenchError("the day did not close")

    monkeypatch.setattr(bench.__main__, "ROUND", ROUND | {"g": fail})
    plan = make_plan(quick=True, rounds=1, measures=frozenset("fg"))
    report, is_reached, failure = await bench.__main__.run(plan)
    assert (is_reached, failure) == (True, "the day did not close")
    assert "**The run failed: the day did not close**" in report
    assert "| (f) pgbench, 8 clients | " in report
    assert "Nothing lost" not in report


@pytest.mark.timeout(120)
def test_a_quick_run_measures_packets(tmp_path: Path) -> None:
    output = tmp_path / "report.md"
    command = [*RUN, "--only", "p,q,s", "--output", str(output)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert all(f"({measure})" in done.stderr for measure in "pqs")
    rows = re.findall(
        r"^\| (\([a-s]\)).*\| (?:reached|missed) \|", output.read_text(), re.MULTILINE
    )
    # (a) is measured, too: it gives the rate of (q).
    assert sorted(rows) == ["(a)", *["(p)"] * 4, "(q)", "(q)", "(s)"]
    booked = re.search(r"found booked: ([\d,]+); their entries in the core: ([\d,]+)", done.stdout)
    assert booked is not None
    postings, entries = (int(number.replace(",", "")) for number in booked.groups())
    sizes = sum(size * repeats for size, repeats in QUICK.packets) + QUICK.one_by_one
    assert postings > sizes + QUICK.largest_packet * QUICK.beside_packets
    assert entries == 2 * postings


@pytest.mark.timeout(60)
@pytest.mark.parametrize(
    ("measure", "sign"), [("e", "(e)"), ("p", "(p)"), ("s", "are due"), ("locked", "(locked)")]
)
def test_an_interrupted_run_leaves_nothing_behind(tmp_path: Path, measure: str, sign: str) -> None:
    env = {**os.environ, "TMPDIR": str(tmp_path)}
    process = subprocess.Popen(
        [*RUN, "--only", measure], cwd=ROOT, env=env, stderr=subprocess.PIPE, text=True
    )
    assert process.stderr is not None
    try:
        with process.stderr as lines:
            assert any(sign in line for line in lines)
            process.send_signal(signal.SIGINT)
            assert process.wait(timeout=40) == 130
    finally:
        if process.poll() is None:  # it tidies up when it is told to
            process.terminate()
            process.wait(timeout=40)
    assert list(tmp_path.iterdir()) == []
    assert not processes_naming(str(tmp_path))


def processes_naming(text: str) -> list[str]:
    """Return the command lines of this machine whose words or environment hold the text."""
    if not Path("/proc/self/cmdline").exists():
        shown = subprocess.run(["ps", "-Eeo", "args"], capture_output=True, text=True, check=True)
        return [line for line in shown.stdout.splitlines() if text in line]
    found = []
    for file in Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(OSError):  # it has just ended
            words = file.read_text(errors="replace").replace("\0", " ")
            if text in words or text in file.with_name("environ").read_text(errors="replace"):
                found.append(words)
    return found


def test_every_request_of_a_load_has_a_key_of_its_own() -> None:
    made = bodies(spec("batch", account="CZ1", items=2))
    keys = b"".join(made).split(b'"idempotency_key":"')[1:]
    assert len({key[:28] for key in keys}) == len(keys) == 14


def test_a_count_goes_evenly_through_the_accounts() -> None:
    made = dataclasses.replace(spec("batch"), count=12)
    text = b"".join(bodies(made))
    found = [text.count(account_name(number).encode()) for number in range(6)]
    assert sorted(found) == [0, 2, 2, 2, 3, 3]


def test_a_posting_names_its_packet_or_goes_straight_through() -> None:
    assert all(b.endswith(b',"packet":"p.7"}') for b in bodies(spec("posting", packet="p.7")))
    straight = bodies(spec("posting", packet=None))
    assert all(body.endswith(b',"straight_through":true}') for body in straight)
    assert b"".join(bodies(spec("batch", packet=None))).count(b'"straight_through":true}') == 5


def test_a_sweep_names_every_account_once_and_ends() -> None:
    text = b"".join(bodies(spec("batch")))
    assert [text.count(account_name(number).encode()) for number in range(6)] == [1] * 5 + [0]


def test_single_postings_announce_their_length() -> None:
    assert len(set(bodies(spec("posting")))) == 5
    assert bodies(spec("posting", account="INT-1"))[0].startswith(b'{"debit_account":"INT-1"')


@pytest.mark.parametrize(
    ("values", "percent", "expected"),
    [([], 99, 0.0), ([1.0], 50, 1.0), ([1.0, 2.0], 50, 1.0), ([1.0, 2.0, 3.0], 99, 3.0)],
)
def test_percentile_is_a_value_that_was_measured(
    values: list[float], percent: int, expected: float
) -> None:
    assert percentile(values, percent) == expected


def test_an_answer_without_a_length_is_an_error() -> None:
    with pytest.raises(ValueError, match="content-length"):
        content_length(b"http/1.1 200 ok\r\n")


def test_ratios_are_made_within_a_round() -> None:
    figures = Figures()
    figures.samples["a"] = [Sample(80, 2, 6), Sample(30, 1, 9)]
    figures.samples["e"] = [Sample(100), Sample(50)]
    figures.samples["d"] = [Sample(400)]
    figures.samples["f8"], figures.samples["f32"] = [Sample(100)], [Sample(200)]
    assert figures.ratios("a", "e") == [0.8, 0.6]
    assert figures.tail_ratios("a") == [3, 9]
    assert figures.batch_ratios() == [2]
    assert [goal.verdict(figures) for goal in goals(PLAN)][:3] == [
        "reached",
        "not measured",
        "reached",
    ]


def test_memory_growth_is_taken_when_the_commands_are_complete() -> None:
    start, early = MemoryReading(0, 100 << 20), MemoryReading(9, 101 << 20)
    figures = Figures(memory=[start, early])
    assert figures.memory_growth_mib(10) == []
    figures.memory += [MemoryReading(11, 130 << 20), MemoryReading(20, 140 << 20)]
    assert figures.memory_growth_mib(10) == [30]
    [goal] = [goal for goal in goals(PLAN) if "memory" in goal.text]
    assert goal.verdict(figures) == "missed"


def test_the_edges_of_the_long_transaction_are_compared() -> None:
    figures = Figures(open_per_second=[10, 12, 11, 5, 6, 6], open_edge_s=3)
    assert figures.open_edges() == (11, 6)
    assert Figures(open_per_second=[10, 12], open_edge_s=3).open_ratios() == []


def test_what_a_load_found_crosses_the_pipe_unchanged() -> None:
    result = LoadResult(1.5, 1, 2, 3, 4, 5, ["x"], [6])
    assert LoadResult.from_json(result.to_json()) == result
    assert LoadSpec.from_json(spec("batch").to_json()) == spec("batch")


def test_unknown_measures_are_named() -> None:
    assert make_plan(quick=True, rounds=2, measures=None).measures == frozenset(MEASURES)
    with pytest.raises(ValueError, match="nonsense"):
        parse_measures("a,nonsense")
