"""The report's section about events."""

from bench import plan as plans
from bench.event_figures import EventFigures
from bench.markdown import table


def events_section(found: EventFigures) -> str:
    """Return the section; empty if nothing of it was measured."""
    parts = [_confirm(found), _drain(found), _deliver(found), _outbox(found)]
    shown = [part for part in parts if part]
    return "\n\n".join(["## Events", *shown]) if shown else ""


def _confirm(found: EventFigures) -> str:
    if not found.confirmed:
        return ""
    return (
        f"(confirm) {found.confirmed:,} debits at {plans.EVENT_RATE} a second. From the instant of "
        "the decision until a consumer of a quorum queue had the event: median "
        f"{found.p50_ms:.1f} ms, p99 {found.p99_ms:.1f} ms, longest {found.max_ms:.1f} ms. Every "
        f"event came, {found.copies:,} of them more than once."
    )


def _drain(found: EventFigures) -> str:
    if not found.relay_rates:
        return ""
    rows = [
        (f"{number}", f"{relay:,.0f}", f"{loop:,.0f}", f"{relay / loop:.2f}")
        for number, (relay, loop) in enumerate(
            zip(found.relay_rates, found.loop_rates, strict=True), start=1
        )
    ]
    return table(["(drain) pair", "relay, events /s", "bare loop, events /s", "ratio"], rows)


def _deliver(found: EventFigures) -> str:
    if not found.held:
        return ""
    held = " ".join(f"{events:,}" for events in found.held)
    return (
        f"(deliver) Events that waited in the outbox after each time without a broker: {held}, as "
        f"many as debits were approved. The notifier made {found.texts:,} texts, for every tenth "
        "customer wants them."
    )


def _outbox(found: EventFigures) -> str:
    edges = found.outbox_edges()
    if edges is None:
        return ""
    first, last = (f"{size / 2**20:.1f} MiB" for size in edges)
    return (
        f"(outbox) {found.outbox_events:,} events passed through the outbox and came out, each of "
        f"them. Its size with all indexes, looked at {len(found.outbox_bytes):,} times: median of "
        f"the first fifth {first}, of the last {last}, most {max(found.outbox_bytes) / 2**20:.1f} "
        "MiB."
    )
