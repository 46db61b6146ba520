"""What a run has found about events, and the ratios made of it."""

from dataclasses import dataclass, field
from statistics import median


@dataclass(slots=True)
class EventFigures:
    """All that one run measured about events."""

    confirmed: int = 0
    """Events whose way to the broker was timed, and these times, in ms."""
    p50_ms: float = 0.0
    p99_ms: float = 0.0
    max_ms: float = 0.0
    copies: int = 0
    """Events that came more than once."""
    relay_rates: list[float] = field(default_factory=list)
    loop_rates: list[float] = field(default_factory=list)
    """Events a second of the relay and of the bare loop, pair by pair."""
    texts: int = 0
    """Texts that the notifier made beside debits."""
    held: list[int] = field(default_factory=list)
    """Events that waited in the outbox at the end of each time without the broker."""
    outbox_bytes: list[int] = field(default_factory=list)
    """The size of the outbox, each second."""
    outbox_events: int = 0

    def confirm_p99s(self) -> list[float]:
        """Return the 99th percentile until the broker had an event, in ms; one value, or none."""
        return [self.p99_ms] if self.confirmed else []

    def drain_ratios(self) -> list[float]:
        """Return, pair by pair, the relay's rate over the loop's."""
        pairs = zip(self.relay_rates, self.loop_rates, strict=False)
        return [relay / loop for relay, loop in pairs if loop > 0]

    def outbox_edges(self) -> tuple[float, float] | None:
        """Return the median size over the first and over the last fifth, in bytes."""
        fifth = len(self.outbox_bytes) // 5
        if not fifth:
            return None
        return median(self.outbox_bytes[:fifth]), median(self.outbox_bytes[-fifth:])

    def outbox_growth(self) -> list[float]:
        """Return the size over the last fifth over that over the first; one value, or none."""
        edges = self.outbox_edges()
        return [edges[1] / edges[0]] if edges and edges[0] > 0 else []
