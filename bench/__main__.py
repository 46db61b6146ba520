"""`python -m bench`: measures, prints the report as Markdown, says on stderr what it is doing."""

import argparse
import asyncio
import signal
import sys
import time
from pathlib import Path

import asyncpg

from bench import machine
from bench.goals import goals
from bench.measures import Bench
from bench.plan import MEASURES, Plan, make_plan, parse_measures
from bench.processes import BenchError
from bench.queries import query
from bench.report import Circumstances, render
from bench.steps import AFTERWARDS, ROUND, Step
from bench.world import World, open_world
from ni.clock import utc_now

INTERRUPTED = 130
SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
NEEDS_API = frozenset(MEASURES) - {"e", "f"}


def say(line: str) -> None:
    """Tell the person who waits what is going on."""
    print(line, file=sys.stderr, flush=True)


async def run(plan: Plan) -> tuple[str, bool, str]:
    """Make one run; return its report, whether no bound was missed, and why it failed, or "".

    A run that fails is not thrown away: its report has what was measured until then.
    """
    started, load_before = time.monotonic(), machine.load_average()
    async with open_world(
        with_ceiling="e" in plan.measures, accounts=plan.accounts, used_wal=not plan.is_quick
    ) as world:
        bench = Bench(plan, world, say)
        failure = await _measure(bench)
        where = Circumstances(
            date=f"{utc_now():%Y-%m-%d %H:%M} UTC",
            minutes=(time.monotonic() - started) / 60,
            load_before=load_before,
            load_after=machine.load_average(),
            sync_ms=machine.sync_ms(world.home),
            settings=await _settings(world),
        )
    missed = [goal for goal in goals(plan) if goal.verdict(bench.figures) == "missed"]
    return render(plan, bench.figures, where, failure), not missed, failure


async def _measure(bench: Bench) -> str:
    """All that the plan says; why it could not be done, or ""."""
    rounds = bench.plan.rounds
    try:
        if bench.plan.measures & NEEDS_API:
            await _prepare(bench)
        for number in range(1, rounds + 1):
            await _steps(bench, ROUND, f"round {number} of {rounds}")
        await _steps(bench, AFTERWARDS, "afterwards")
        say("counting what was stored")
        await bench.verify()
    except BenchError as error:
        return str(error)
    return ""


async def _prepare(bench: Bench) -> None:
    say(f"every one of {bench.plan.accounts:,} accounts moves once")
    await bench.world.start_api()
    await bench.touch_accounts()
    # A fresh process: the memory of loading the bank is not the memory at start.
    await bench.world.stop_api()
    await bench.world.start_api()
    say("warming up")
    await bench.warm_up()


async def _steps(bench: Bench, steps: dict[str, Step], where: str) -> None:
    for name, step in steps.items():
        if name not in bench.plan.measures:
            continue
        say(f"{where}: ({name}) {MEASURES[name]}")
        await step(bench)
        if bench.figures.memory:
            bench.read_memory()


async def _settings(world: World) -> list[tuple[str, str, bool]]:
    connection: asyncpg.Connection = await asyncpg.connect(world.owner_dsn)
    try:
        rows = await connection.fetch(query("server_settings"))
    finally:
        await connection.close()
    return [(row["name"], row["value"], row["is_default"]) for row in rows]


async def _interruptible(plan: Plan) -> tuple[str, bool, str]:
    """Run, and on the first signal cancel: every child ends and every folder goes."""
    loop = asyncio.get_running_loop()
    task = asyncio.create_task(run(plan))

    def cancel() -> None:
        say("stopping")
        for number in SIGNALS:  # impatience must not interrupt the tidying up
            loop.add_signal_handler(number, lambda: None)
        task.cancel()

    for number in SIGNALS:
        loop.add_signal_handler(number, cancel)
    return await task


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="seconds in all, to see that it works")
    parser.add_argument(
        "--whole-nights", action="store_true",
        help="(switch), (locked) and (night) as long as the table says, which takes hours",
    )  # fmt: skip
    names = "; ".join(f"{name}: {title}" for name, title in MEASURES.items()).replace("%", "%%")
    parser.add_argument("--only", type=parse_measures, help=f"a list such as a,b,e. {names}")
    parser.add_argument("--rounds", type=int, help="how many rounds (5; quick 1)")
    parser.add_argument("--output", type=Path, help="a file to write the report to as well")
    parser.add_argument("--strict", action="store_true", help="exit with 1 if a bound is missed")
    return parser.parse_args()


def main() -> int:
    """Return the exit code: 0, 1 for a failed run (or a missed bound with --strict), 130."""
    options = _arguments()
    plan = make_plan(
        quick=options.quick, rounds=options.rounds, measures=options.only,
        whole_nights=options.whole_nights,
    )  # fmt: skip
    try:
        report, is_reached, failure = asyncio.run(_interruptible(plan))
    except (asyncio.CancelledError, KeyboardInterrupt):
        say("interrupted; everything that was started has been stopped")
        return INTERRUPTED
    except BenchError as error:
        say(f"the run failed: {error}")
        return 1
    print(report)
    if options.output:
        options.output.write_text(report)
    if failure:
        say(f"the run failed: {failure}")
        return 1
    return 0 if is_reached or not options.strict else 1


if __name__ == "__main__":
    sys.exit(main())
