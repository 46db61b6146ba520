"""The report's section about day and night. What was not measured is not in it."""

from statistics import median

from bench import plan as plans
from bench.markdown import table
from bench.night_figures import (
    Closes,
    Locked,
    LongNight,
    MixedLoad,
    Morning,
    NightFigures,
    Switches,
)
from bench.plan import Plan

WHOLE = "the whole form"


def nights_section(plan: Plan, found: NightFigures) -> str:
    """Return the section; empty if nothing of it was measured."""
    parts = [
        _loads(found),
        _switches(found.switches),
        _locked(found.locked),
        _closes(found.closes),
        _triggers(plan, found),
        _gate(plan, found),
        _morning(found.morning),
        _night(found.night),
    ]
    shown = [part for part in parts if part]
    return "\n\n".join(["## Day and night", *shown]) if shown else ""


def form(measured: float, whole: float, unit: str) -> str:
    """Return whether a measure was as long as the table asks for."""
    if measured >= whole:
        return WHOLE
    return f"a short form; the whole one has {whole:,.0f} {unit}"


def _loads(found: NightFigures) -> str:
    loads = {
        "(switch) without switches": found.switches and found.switches.equal,
        "(switch) with switches": found.switches and found.switches.switched,
        "(locked) core held": found.locked and found.locked.load,
        "(night) core held, one hot account": found.night and found.night.load,
    }
    rows = [_load_row(name, load) for name, load in loads.items() if load]
    if not rows:
        return ""
    head = ["load", "s", "calls", "p99 ms", "longest ms", "failed", "tested", "mixed"]
    note = (
        f"Offered on a schedule, {plans.MIX_RATE} a second over {plans.MIX_ACCOUNTS:,} accounts, a "
        "quarter each: debit, hold, capture, read. Every answer was tested: epoch, mode, business "
        "date and base must belong together. Failed and mixed count the warm-up, too. The workers "
        "`packets`, `night-copy` and `housekeeping` ran beside."
    )
    faults = [sample for load in loads.values() if load for sample in load.samples]
    told = "".join(f"\n\n    {sample}" for sample in faults)
    return table(head, rows) + "\n\n" + note + told


def _load_row(name: str, load: MixedLoad) -> tuple[str, ...]:
    return (
        name, f"{load.seconds:,.0f}", f"{load.calls:,}", f"{load.p99_ms:.2f}",
        f"{load.longest_ms:.1f}", f"{load.failures:,}", f"{load.checked:,}", f"{load.mixed:,}",
    )  # fmt: skip


def _switches(found: Switches | None) -> str:
    if found is None:
        return ""
    length = form(found.switches, plans.WHOLE_SWITCHES, "of them")
    return (
        f"(switch) {found.switches:,} switches ({length}). "
        f"Of the calls {found.near_calls:,} were due within {plans.NEAR_S:g} s of a switch: p99 "
        f"{found.near_p99_ms:.2f} ms. A close took {median(found.close_ms):.0f} ms (median) and "
        f"{max(found.close_ms):.0f} ms at most, request to answer without the wait for unloads, an "
        f"open {median(found.open_ms):.0f} and {max(found.open_ms):.0f} ms; at most "
        f"{found.gate_tries} tries for the gate. The longest call was due "
        f"{found.longest_after_s:+.2f} s from the nearest switch."
    )


def _locked(found: Locked | None) -> str:
    if found is None:
        return ""
    locks = found.locks
    return (
        f"(locked) The core held all its tables for {found.held_s:,.0f} s "
        f"({form(found.held_s, plans.WHOLE_LOCKED_S, 's')}); {found.served_percent():.4f} % of the "
        f"calls were served. The locks were looked at {locks.samples:,} times, at most "
        f"{locks.longest_gap_ms:.0f} ms apart; NI had or wanted one on the core in "
        f"{locks.with_locks:,} of them{locks.told}."
    )


def _closes(found: Closes | None) -> str:
    if found is None:
        return ""
    each = " ".join(f"{close:.0f}" for close in found.close_ms)
    drains = " ".join(f"{drain}" for drain in found.drain_ms)
    return (
        f"(close) With a copy of {found.accounts:,} accounts, kept by triggers; right before each "
        f"close the core changed {found.changed:,} of them. Request to answer without the drain: "
        f"{each} ms; the drains {drains} ms. A full copy instead, from an empty one by "
        f"`ni night-copy rebuild`, took {found.copy_s:.1f} s ({found.copy_told})."
    )


def _triggers(plan: Plan, found: NightFigures) -> str:
    if not found.triggers:
        return ""
    each = ", ".join(f"{one:.3f} and {other:.3f}" for one, other in found.triggers)
    return (
        f"(triggers) Packets of {plan.largest_packet:,} postings, unloaded with the triggers and "
        f"without, in turn: {each} s."
    )


def _gate(plan: Plan, found: NightFigures) -> str:
    interval = found.gate_interval()
    if interval is None:
        return ""
    lower, middle, upper = interval
    each = " ".join(f"{ratio:.3f}" for ratio in found.gate_ratios())
    return (
        f"(gate) (a) for {plan.gate_s:g} s with the gate ÷ without, {len(found.gate)} pairs, the "
        f"first of a pair in turn: median {middle:.3f}, interval of 95 % from {lower:.3f} to "
        f"{upper:.3f}. Each: {each}. Without: `ni.lock_v1` without its `LOCK TABLE`, in this "
        "database alone."
    )


def _morning(found: Morning | None) -> str:
    if found is None:
        return ""
    keys = f" ({', '.join(found.unnoted_keys)})" if found.unnoted_keys else ""
    return (
        f"(morning) {found.changed:,} changed keys and {found.postings:,} postings of the night: "
        f"the copy was exact {found.exact_s:.1f} s after the opening, with straight-through "
        f"processing and debits beside. Then {found.snapshots:,} snapshots in "
        f"{found.snapshot_nights} more mornings of {found.changed:,} changed keys, each a range of "
        f"{found.snapshot_keys:,} keys in one statement, while the core charged accounts: "
        f"{found.noted:,} rows differed with a note, {found.unnoted:,} without{keys}. For the "
        "snapshots alone the notes had an index by key."
    )


def _night(found: LongNight | None) -> str:
    if found is None:
        return ""
    seconds = found.load.seconds
    return (
        f"(night) {seconds:,.0f} s beside the core's open transaction "
        f"({form(seconds, plans.WHOLE_NIGHT_S, 's')}), {found.hot_share} of 10 requests on one "
        f"account: p99 of the first {found.edge_s:g} s {found.first_p99_ms:.2f} ms, of the last "
        f"{found.last_p99_ms:.2f} ms. A reader took and removed {found.events:,} events in "
        f"{found.polls:,} polls: {found.first_poll_ms:.2f} ms at the start, "
        f"{found.last_poll_ms:.2f} ms at the end."
    )
