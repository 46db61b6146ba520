"""What a run has found about packets, and the ratios made of it."""

from collections import Counter, defaultdict
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Lags:
    """From a straight-through posting's acceptance until it was seen in the core, in seconds."""

    postings: int
    p50_s: float
    p99_s: float
    max_s: float


@dataclass(slots=True)
class LockCount:
    """What the samples of the server's locks have shown."""

    samples: int = 0
    with_locks: int = 0
    """Samples in which there was a lock that must not be."""
    longest_gap_ms: float = 0.0
    """Between two samples: how long nobody looked."""
    kinds: Counter[str] = field(default_factory=Counter)
    """In how many samples there was which lock."""

    @property
    def told(self) -> str:
        """Which locks there were, in words for the report; nothing when there were none."""
        parts = [f"{kind}: {count:,}" for kind, count in sorted(self.kinds.items())]
        return f" ({'; '.join(parts)})" if parts else ""

    def counted(self) -> list[float]:
        """Return the samples with a lock; one value, or none when nobody looked."""
        return [float(self.with_locks)] if self.samples else []

    def add(self, other: "LockCount") -> None:
        """Take in what another watch has counted."""
        self.samples += other.samples
        self.with_locks += other.with_locks
        self.kinds += other.kinds
        self.longest_gap_ms = max(self.longest_gap_ms, other.longest_gap_ms)


@dataclass(slots=True)
class PacketFigures:
    """All that one run measured about packets; times in seconds where no unit is named."""

    unloads: dict[int, list[float]] = field(default_factory=lambda: defaultdict(list))
    """By size: one time a round, the median of the round's packets."""
    beside: list[float] = field(default_factory=list)
    """The times of the packets that were unloaded beside (q)'s debits."""
    offered: float = 0.0
    """Debits a second that (q) offers."""
    arrivals: int = 0
    late: int = 0
    """Of all open loops: requests that were due, and those that left late."""
    locks: LockCount | None = None
    lags: Lags | None = None
    straight_packets: int = 0
    booked_told: int = 0
    """Postings that unloads answered, pgbench or straight-through processing was seen to book."""
    booked_stored: int = 0
    entries_stored: int = 0

    def rate_ratios(self, size: int, one_by_one: list[float]) -> list[float]:
        """Return, round by round, a packet's rate over that of a commit a posting."""
        pairs = zip(self.unloads.get(size, []), one_by_one, strict=False)
        return [size / seconds / rate for seconds, rate in pairs if seconds > 0 and rate > 0]

    def growth_ratios(self, large: int, small: int) -> list[float]:
        """Return, round by round, the time per posting of one size over that of a smaller."""
        pairs = zip(self.unloads.get(large, []), self.unloads.get(small, []), strict=False)
        return [(upper / large) / (lower / small) for upper, lower in pairs if lower > 0]

    def lock_waits(self) -> list[float]:
        """Return how many samples showed a decision waiting for an unload; one value, or none."""
        return self.locks.counted() if self.locks else []

    def lag_p99s(self) -> list[float]:
        """Return the 99th percentile of the lag, in seconds; one value, or none."""
        return [self.lags.p99_s] if self.lags and self.lags.postings else []
