"""The report's section about packets."""

from statistics import median

from bench import plan as plans
from bench.markdown import table
from bench.packet_figures import PacketFigures
from bench.plan import Plan


def packets_section(plan: Plan, found: PacketFigures) -> str:
    """Return the section; empty if nothing of it was measured."""
    parts = [_unloads(plan, found), _beside(found), _straight_through(found), _late(found)]
    shown = [part for part in parts if part]
    return "\n\n".join(["## Packets", *shown]) if shown else ""


def _unloads(plan: Plan, found: PacketFigures) -> str:
    rows = []
    for size, repeats in plan.packets:
        times = found.unloads.get(size, [])
        if times:
            middle = median(times)
            each = " ".join(f"{seconds:.3f}" for seconds in times)
            rows.append((f"{size:,}", f"{repeats}", f"{middle:.3f}", f"{middle / size * 1e6:.1f}",
                         f"{size / middle:,.0f}", each))  # fmt: skip
    if not rows:
        return ""
    head = ["(p) postings", "a round", "s", "µs a posting", "postings /s", "s of each round"]
    note = (
        f"Two postings an account, against one internal account, by `POST …/unload`, request to "
        f"answer. A round books {plan.one_by_one:,} postings with a commit each."
    )
    return table(head, rows) + "\n\n" + note


def _beside(found: PacketFigures) -> str:
    if found.locks is None:
        return ""
    each = " ".join(f"{seconds:.1f}" for seconds in found.beside)
    return (
        f"(q) offered {found.offered:,.0f} debits a second, {plans.OFFERED_SHARE:.0%} of (a). The "
        f"packets beside them took {each} s. The locks were looked at {found.locks.samples:,} "
        f"times meanwhile, at most {found.locks.longest_gap_ms:.0f} ms apart; a decision waited "
        f"for an unload in {found.locks.with_locks:,} of them{found.locks.told}."
    )


def _straight_through(found: PacketFigures) -> str:
    lags = found.lags
    if lags is None:
        return ""
    return (
        f"(s) {lags.postings:,} straight-through postings at {plans.STRAIGHT_THROUGH_RATE} a "
        f"second reached the core in {found.straight_packets:,} packets. From `created_at` until "
        f"another session saw the packet's commit: median {lags.p50_s:.2f} s, p99 "
        f"{lags.p99_s:.2f} s, longest {lags.max_s:.2f} s."
    )


def _late(found: PacketFigures) -> str:
    if not found.arrivals:
        return ""
    return (
        f"Of {found.arrivals:,} requests that were due on a schedule, {found.late:,} left late; "
        "their time counts from when they were due."
    )
