"""The table that NI must reach: each figure, its bound, and whether this run kept it."""

from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise
from statistics import median
from typing import Literal

from bench import plan as plans
from bench.figures import Figures
from bench.plan import Plan

GROWTH_BOUND = 1.1
"""Linear is 1; the rest is what the median of a few rounds may stray."""

Values = Callable[[Figures], list[float]]


@dataclass(frozen=True, slots=True)
class Goal:
    """One line of the table; the measured value is the median over the rounds."""

    text: str
    sign: Literal["≥", "≤"]
    bound: float
    unit: str
    values: Values
    middle: Values | None = None
    """Where the value is an end of an interval: the median that is told beside it."""

    def verdict(self, figures: Figures) -> str:
        """Return `reached`, `missed` or `not measured`."""
        values = self.values(figures)
        if not values:
            return "not measured"
        measured = median(values)
        kept = measured >= self.bound if self.sign == "≥" else measured <= self.bound
        return "reached" if kept else "missed"


def goals(plan: Plan) -> list[Goal]:
    """Return the table, as it is for a run of this plan."""
    return [
        *_decision_goals(plan.memory_commands),
        *_packet_goals(plan),
        *_event_goals(plan),
        *_night_goals(plan),
    ]


def _decision_goals(memory_commands: int) -> list[Goal]:

    def memory(figures: Figures) -> list[float]:
        return figures.memory_growth_mib(memory_commands)

    return [
        Goal("(a) ÷ (e): durable checked debit against an endpoint that does nothing",
             "≥", 0.70, "", lambda f: f.ratios("a", "e")),
        Goal("(b) ÷ (a): one hot account against all accounts",
             "≥", 0.90, "", lambda f: f.ratios("b", "a")),
        Goal("(d) items ÷ (f) best: batches against one commit a movement",
             "≥", 1.8, "", Figures.batch_ratios),
        Goal("(c) with 1 connection: p50", "≤", 5.0, " ms", lambda f: f.p50s("c1")),
        Goal("(a) p99 ÷ p50 at 32 connections", "≤", 5.0, "", lambda f: f.tail_ratios("a")),
        Goal("GET balance, 1 connection, 1,000 movements pending: p99",
             "≤", 5.0, " ms", lambda f: f.p99s("g1")),
        Goal("one hot account beside an open transaction: rate at the end ÷ at the start",
             "≥", 0.85, "", Figures.open_ratios),
        Goal(f"memory growth over {memory_commands:,} commands", "≤", 20.0, " MiB", memory),
    ]  # fmt: skip


def _packet_goals(plan: Plan) -> list[Goal]:
    size = plan.largest_packet
    accounts = size // plans.POSTINGS_PER_ACCOUNT
    sizes = [size for size, _ in plan.packets]
    return [
        Goal(f"(p) unloading {size:,} postings over {accounts:,} accounts",
             "≤", 5.0, " s", lambda f: f.packets.unloads.get(size, [])),
        Goal("(p) its rate ÷ that of one commit a posting on one connection",
             "≥", 10.0, "", lambda f: f.packets.rate_ratios(size, f.rates("p one"))),
        *[_growth_goal(large, small) for small, large in pairwise(sizes)],
        Goal(f"(q) debits at {plans.OFFERED_SHARE:.0%} of (a): p99 beside packets ÷ p99 before",
             "≤", 2.0, "", lambda f: f.p99_ratios("q beside", "q before")),
        Goal("(q) samples of the locks in which a decision waits for an unload",
             "≤", 0, "", lambda f: f.packets.lock_waits()),
        Goal(f"(s) straight-through at {plans.STRAIGHT_THROUGH_RATE}/s: accepted → booked, p99",
             "≤", 2.0, " s", lambda f: f.packets.lag_p99s()),
    ]  # fmt: skip


def _event_goals(plan: Plan) -> list[Goal]:
    rate = f"at {plans.EVENT_RATE}/s"
    return [
        Goal(f"(confirm) debits {rate}: decision → the broker has the event, p99",
             "≤", 500.0, " ms", lambda f: f.events.confirm_p99s()),
        Goal(f"(drain) the relay with a backlog of {plan.backlog:,} events ÷ a bare loop",
             "≥", 0.7, "", lambda f: f.events.drain_ratios()),
        Goal(f"(deliver) debits {rate}: p99 with relay, broker and notifier ÷ without",
             "≤", 1.5, "", lambda f: f.p99_ratios("events alive", "events without")),
        Goal(f"(deliver) debits {rate}: p99 with the broker dead ÷ alive",
             "≤", 1.1, "", lambda f: f.p99_ratios("events dead", "events alive")),
        Goal(f"(outbox) its size over the last fifth of {plan.outbox_events:,} events ÷ the first",
             "≤", GROWTH_BOUND, "", lambda f: f.events.outbox_growth()),
    ]  # fmt: skip


def _night_goals(plan: Plan) -> list[Goal]:
    return [
        *_switch_goals(plan),
        *_core_goals(plan),
        Goal(f"(morning) {plan.morning_keys:,} changed keys, {plan.morning_postings:,} postings: "
             f"debits at {plans.OFFERED_SHARE:.0%} of (a), p99 until exact ÷ before",
             "≤", 2.0, "", lambda f: f.p99_ratios("morning beside", "morning before")),
        Goal(f"(morning) rows that differ without a note in {plan.snapshots:,} snapshots",
             "≤", 0, "", lambda f: f.nights.unnoted_rows()),
        Goal(f"(night) {length(plan.night_s)} beside the core's transaction: p99 of the last "
             f"{length(plan.night_edge_s)} ÷ of the first",
             "≤", 1.3, "", lambda f: f.nights.night_ratios()),
        Goal("(night) calls without the expected answer, and answers of a mixed state",
             "≤", 0, "", lambda f: f.nights.night_faults()),
    ]  # fmt: skip


def _switch_goals(plan: Plan) -> list[Goal]:
    name = f"(switch) {2 * plan.nights:,} switches under {plans.MIX_RATE} requests a second"
    return [
        Goal(f"{name}: failed calls", "≤", 0, "", lambda f: f.nights.failed_calls()),
        Goal("(switch) answers of a mixed state", "≤", 0, "", lambda f: f.nights.mixed_answers()),
        Goal("(switch) longest call ÷ max(250 ms, 1.5 times the longest without switches)",
             "≤", 1.0, "", lambda f: f.nights.stall_ratios()),
        Goal(f"(switch) p99 of calls within ±{plans.NEAR_S:g} s of a switch ÷ p99 without switches",
             "≤", 2.0, "", lambda f: f.nights.near_ratios()),
    ]  # fmt: skip


def _core_goals(plan: Plan) -> list[Goal]:
    return [
        Goal(f"(locked) the core's tables held for {length(plan.locked_s)}: calls served",
             "≥", 100.0, " %", lambda f: f.nights.served_percents()),
        Goal("(locked) samples in which NI had or wanted a lock on the core",
             "≤", 0, "", lambda f: f.nights.core_locks()),
        Goal(f"(close) the longest close of a bank of {plan.copy_accounts:,} accounts, no drain",
             "≤", 500.0, " ms", lambda f: f.nights.longest_close()),
        Goal(f"(triggers) unloading {plan.largest_packet:,} postings with ÷ without",
             "≤", 1.5, "", lambda f: f.nights.trigger_ratios()),
        Goal(f"(gate) (a) with ÷ without, {plan.gate_pairs} pairs: upper end of the median's "
             "interval of 95 %", "≥", 0.97, "", lambda f: f.nights.gate_upper_ends(),
             lambda f: f.nights.gate_medians()),
    ]  # fmt: skip


def length(seconds: float) -> str:
    """Return a length of time as people say it."""
    return f"{seconds / 60:g} min" if seconds >= 120 else f"{seconds:g} s"


def _growth_goal(large: int, small: int) -> Goal:
    return Goal(
        f"(p) time per posting of {large:,} ÷ of {small:,}",
        "≤", GROWTH_BOUND, "", lambda f: f.packets.growth_ratios(large, small),
    )  # fmt: skip
