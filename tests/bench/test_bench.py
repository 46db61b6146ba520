"""The benchmark works: a quick run against real servers, and the arithmetic of its report."""

import contextlib
import itertools
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from bench.figures import Figures, MemoryReading, Sample
from bench.goals import goals
from bench.load import content_length, percentile
from bench.load_requests import account_name, request_maker
from bench.load_spec import Kind, LoadResult, LoadSpec
from bench.plan import MEASURES, make_plan, parse_measures

ROOT = Path(__file__).resolve().parents[2]
QUICK = [sys.executable, "-m", "bench", "--quick"]


def spec(kind: Kind, *, account: str | None = None, items: int = 3) -> LoadSpec:
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
        sweep=account is None,
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
    command = [*QUICK, "--only", "a,b,d,e,f,g,h", "--output", str(output)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "## What it must reach" in done.stdout
    assert done.stdout.count("| reached |") + done.stdout.count("| missed |") == 6
    assert output.read_text().strip() == done.stdout.strip()


@pytest.mark.timeout(60)
def test_an_interrupted_run_leaves_nothing_behind(tmp_path: Path) -> None:
    env = {**os.environ, "TMPDIR": str(tmp_path)}
    process = subprocess.Popen(
        [*QUICK, "--only", "e"], cwd=ROOT, env=env, stderr=subprocess.PIPE, text=True
    )
    assert process.stderr is not None
    with process.stderr as lines:
        assert any("(e)" in line for line in lines)
        process.send_signal(signal.SIGINT)
        assert process.wait(timeout=40) == 130
    assert list(tmp_path.iterdir()) == []
    assert not commands_naming(str(tmp_path))


def commands_naming(text: str) -> list[str]:
    """Return the command lines of this machine that hold the text."""
    if not Path("/proc/self/cmdline").exists():
        shown = subprocess.run(["ps", "-eo", "args"], capture_output=True, text=True, check=True)
        return [line for line in shown.stdout.splitlines() if text in line]
    found = []
    for file in Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(OSError):  # it has just ended
            found.append(file.read_text(errors="replace").replace("\0", " "))
    return [line for line in found if text in line]


def test_every_request_of_a_load_has_a_key_of_its_own() -> None:
    made = bodies(spec("batch", account="CZ1", items=2))
    keys = b"".join(made).split(b'"idempotency_key":"')[1:]
    assert len({key[:28] for key in keys}) == len(keys) == 14


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
    assert [goal.verdict(figures) for goal in goals(10)][:3] == [
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
    assert goals(10)[-1].verdict(figures) == "missed"


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
