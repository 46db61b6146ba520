"""The report of one run, as Markdown."""

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median

from bench import machine
from bench import plan as plans
from bench.event_report import events_section
from bench.figures import Figures
from bench.goals import Goal, goals
from bench.markdown import table
from bench.night_report import nights_section
from bench.packet_report import packets_section
from bench.plan import Plan

SERIES = {
    "a": "(a) debits, 32 connections, random accounts",
    "b": "(b) debits, 32 connections, one account",
    "c1": "(c) debits, 1 connection",
    "c8": "(c) debits, 8 connections",
    "c64": "(c) debits, 64 connections",
    "c256": "(c) debits, 256 connections",
    "d": "(d) batches of 1,000 items, 4 connections: items",
    "e": "(e) ceiling, 32 connections",
    "f8": "(f) pgbench, 8 clients",
    "f32": "(f) pgbench, 32 clients",
    "g1": "(g) GET balance, 1 connection, 1,000 movements pending",
    "g32": "(g) GET balance, 32 connections, random accounts",
    "p one": "(p) booking with pgbench, one commit a posting, 1 connection",
    "q before": "(q) debits offered on a schedule, before packets",
    "q beside": "(q) the same beside packets of {largest:,}",
    "s": "(s) straight-through postings offered on a schedule",
    "confirm": "(confirm) debits offered on a schedule, their events delivered",
    "events without": "(deliver) debits offered on a schedule, nothing delivers events",
    "events alive": "(deliver) the same with relay, broker and notifier",
    "events dead": "(deliver) the same, the broker killed",
    "morning before": "(morning) debits offered on a schedule, before the night",
    "morning beside": "(morning) the same from the opening until the copy was exact",
}
MEMORY_LINES = 12


@dataclass(frozen=True, slots=True)
class Circumstances:
    """Where and when the run took place."""

    date: str
    minutes: float
    load_before: str
    load_after: str
    sync_ms: float
    settings: Sequence[tuple[str, str, bool]]
    """Name, value, whether it is the server's default."""


def render(plan: Plan, figures: Figures, where: Circumstances, failure: str = "") -> str:
    """Return the whole report; the table that must be reached comes last.

    `failure` is why the run ended early, when nothing was counted afterwards.
    """
    parts = [
        _heading(plan, where),
        _failure(failure),
        _machine(where),
        _rates(plan, figures),
        _open_transaction(figures),
        _memory(plan, figures),
        packets_section(plan, figures.packets),
        events_section(figures.events),
        nights_section(plan, figures.nights),
        "" if failure else _stored(figures),
        _goals(plan, figures),
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def _heading(plan: Plan, where: Circumstances) -> str:
    quick = "\n\n**A quick run: it shows that everything works; its figures are no measurement.**"
    return (
        f"# Benchmark of {where.date}\n\n"
        f"One run of {where.minutes:.1f} minutes, {plan.rounds} round(s), medians of the rounds; "
        f"{plan.accounts:,} customer accounts; one API process; load generator in its own process; "
        f"durable commits." + (quick if plan.is_quick else "")
    )


def _failure(failure: str) -> str:
    if not failure:
        return ""
    return (
        f"**The run failed: {failure.strip()}**\n\n"
        "What had been measured stands below; what was stored has not been counted."
    )


def _machine(where: Circumstances) -> str:
    versions = ", ".join(f"{name} {value}" for name, value in machine.versions().items())
    settings = ", ".join(
        f"{name} = {value}" + ("" if is_default else " (set)")
        for name, value, is_default in where.settings
    )
    rows = [
        ("processor", f"{machine.cpu_model()}, {machine.cpus()} cores"),
        ("memory", f"{machine.memory_gib():.1f} GiB"),
        ("system", machine.system()),
        ("8 KiB written and synced to disk", f"{where.sync_ms:.2f} ms (median)"),
        ("load average before, after", f"{where.load_before}, {where.load_after}"),
        ("versions", versions),
        ("commit", machine.commit() or "unknown"),
        ("PostgreSQL", settings),
    ]
    return "## Machine\n\n" + table(["", ""], rows)


def _rates(plan: Plan, figures: Figures) -> str:
    rows = [
        _rate_row(title.format(largest=plan.largest_packet), figures, name)
        for name, title in SERIES.items()
    ]
    shown = [row for row in rows if row]
    if not shown:
        return ""
    head = ["measure", "rate /s", "p50 ms", "p99 ms", "rate of each round"]
    note = (
        f"A round measures {plan.single_s:g} s of (a), (b) and (e), {plan.batch_s:g} s of (d), "
        f"{plan.pgbench_s} s of each (f), {plan.connections_s:g} s of each (c) and "
        f"{plan.balance_s:g} s of each (g), after {plan.warm_s:g} s of warm-up each. "
        "Times of (d) are of whole batches; pgbench tells a mean only."
    )
    return "## Rates\n\n" + table(head, shown) + "\n\n" + note


def _rate_row(title: str, figures: Figures, name: str) -> Sequence[str]:
    samples = figures.samples.get(name, [])
    if not samples:
        return ()
    rates = [sample.rate for sample in samples]
    p50, p99 = _ms(figures.p50s(name)), _ms(figures.p99s(name))
    if samples[0].mean_ms:
        p50, p99 = f"mean {median(sample.mean_ms for sample in samples):.2f}", ""
    return title, f"{median(rates):,.0f}", p50, p99, " ".join(f"{rate:,.0f}" for rate in rates)


def _ms(values: list[float]) -> str:
    return f"{median(values):.2f}"


def _open_transaction(figures: Figures) -> str:
    edges = figures.open_edges()
    if edges is None:
        return ""
    seconds, edge = figures.open_per_second, figures.open_edge_s
    step = max(len(seconds) // 12, 1)
    means = [
        f"{sum(part) / len(part):,.0f}"
        for part in (seconds[at : at + step] for at in range(0, len(seconds), step))
    ]
    return (
        f"## One hot account beside a transaction open for {len(seconds)} s\n\n"
        f"Median debits a second of the first {edge} s: {edges[0]:,.0f}; of the last {edge} s: "
        f"{edges[1]:,.0f}. Mean of each {step} s: {' '.join(means)}."
    )


def _memory(plan: Plan, figures: Figures) -> str:
    readings = figures.memory
    if not readings:
        return ""
    step = max(-(-len(readings) // MEMORY_LINES), 1)
    reached = [item for item in readings if item.commands >= plan.memory_commands][:1]
    last = reached or readings[-1:]
    shown = sorted({*readings[::step], *last}, key=lambda item: item.commands)
    rows = [(f"{item.commands:,}", f"{item.rss_bytes / 2**20:.1f}") for item in shown]
    return (
        "## Memory of the API process (h)\n\n"
        f"Resident memory when it was ready: {figures.boot_rss_bytes / 2**20:.1f} MiB. The start "
        f"is after a warm-up of {figures.warm_up_commands:,} commands (balances and debits over "
        f"{max(plans.OTHER_CONNECTIONS)} connections, batches over {plans.BATCH_CONNECTIONS}). "
        f"All later commands of this run count: {figures.single_commands:,} single ones, "
        f"{figures.batch_commands:,} in batches.\n\n"
    ) + table(["commands since the start", "MiB"], rows)


def _stored(figures: Figures) -> str:
    booked = figures.packets
    return (
        "## Nothing lost\n\n"
        f"Postings acknowledged by NI: {figures.postings_acknowledged:,}; found in the database "
        f"afterwards: {figures.postings_stored:,}. Every answer of every load was checked. "
        f"Debits of pgbench: {figures.pgbench_transactions:,}, found: {figures.pgbench_stored:,}. "
        f"Postings told to be booked: {booked.booked_told:,}; found booked: "
        f"{booked.booked_stored:,}; their entries in the core: {booked.entries_stored:,}, two for "
        "each, which cancel out; NI's `applied` agrees with the customers' entries."
    )


def _goals(plan: Plan, figures: Figures) -> str:
    rows = [_goal_row(goal, figures) for goal in goals(plan)]
    head = ["figure", "measured", "bound", "", "each round"]
    return "## What it must reach\n\n" + table(head, rows)


def _goal_row(goal: Goal, figures: Figures) -> Sequence[str]:
    values = goal.values(figures)
    bound = f"{goal.sign} {goal.bound:g}{goal.unit}"
    measured = f"{median(values):.2f}{goal.unit}" if values else ""
    if values and goal.middle is not None:
        measured += f" (median {median(goal.middle(figures)):.2f})"
    each = " ".join(f"{value:.2f}" for value in values)
    return goal.text, measured, bound, goal.verdict(figures), each
