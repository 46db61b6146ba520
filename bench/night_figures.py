"""What a run has found about day and night, and the ratios made of it."""

from dataclasses import dataclass, field
from math import comb
from statistics import median

from bench.packet_figures import LockCount

STALL_MS = 250.0
STALL_GROWTH = 1.5


@dataclass(slots=True)
class MixedLoad:
    """A load of debits, holds, captures and reads; times in ms."""

    seconds: float = 0.0
    calls: int = 0
    failures: int = 0
    mixed: int = 0
    checked: int = 0
    p99_ms: float = 0.0
    longest_ms: float = 0.0
    samples: list[str] = field(default_factory=list)
    of_kind: dict[str, int] = field(default_factory=dict)


@dataclass(slots=True)
class Switches:
    """(switch): the same load with switches and, before, without."""

    equal: MixedLoad
    switched: MixedLoad
    switches: int
    near_calls: int
    """Due within a second of a switch."""
    near_p99_ms: float
    close_ms: list[float]
    """Of each close, request to answer without the drain."""
    open_ms: list[float]
    gate_tries: int
    """The most that one switch needed."""
    longest_after_s: float
    """From the nearest switch until the longest call was due; negative before it."""

    def stall_ratio(self) -> float:
        """Return the longest stall over what is allowed."""
        allowed = max(STALL_MS, STALL_GROWTH * self.equal.longest_ms)
        return self.switched.longest_ms / allowed


@dataclass(slots=True)
class Locked:
    """(locked): the core's tables held as a whole."""

    load: MixedLoad
    held_s: float
    locks: LockCount = field(default_factory=LockCount)
    """Those that a session of NI had, or wanted, on something of the core."""

    def served_percent(self) -> float:
        """Return how many of the calls had an answer that was right, in per cent."""
        served = self.load.calls - self.load.failures - self.load.mixed
        return 100 * served / self.load.calls


@dataclass(slots=True)
class Closes:
    """(close): of a large bank."""

    accounts: int
    changed: int
    """Accounts that the core changed in one statement right before each close."""
    close_ms: list[float]
    drain_ms: list[int]
    copy_s: float
    copy_told: str
    """What `ni night-copy rebuild` said."""


@dataclass(slots=True)
class Morning:
    """(morning): after opening."""

    changed: int
    postings: int
    exact_s: float
    """From the answer of the open until the copy was exact."""
    snapshots: int = 0
    snapshot_keys: int = 0
    """Of one snapshot."""
    snapshot_nights: int = 0
    unnoted: int = 0
    """Rows that differed from the core without a note."""
    unnoted_keys: list[str] = field(default_factory=list)
    noted: int = 0
    """Rows that differed and had a note: proof that the snapshots look where work is going on."""


@dataclass(slots=True)
class LongNight:
    """(night): one night beside the core's open transaction."""

    load: MixedLoad
    edge_s: float
    hot_share: int
    first_p99_ms: float = 0.0
    last_p99_ms: float = 0.0
    events: int = 0
    """That the reader of the outbox took."""
    polls: int = 0
    first_poll_ms: float = 0.0
    """Median of the first and of the last hundredth of the polls."""
    last_poll_ms: float = 0.0

    def ratio(self) -> float:
        """Return the p99 of the end over that of the start."""
        return self.last_p99_ms / self.first_p99_ms


@dataclass(slots=True)
class NightFigures:
    """All that one run measured about day and night."""

    switches: Switches | None = None
    locked: Locked | None = None
    closes: Closes | None = None
    morning: Morning | None = None
    night: LongNight | None = None
    triggers: list[tuple[float, float]] = field(default_factory=list)
    """Seconds of an unload with the triggers and without, pair by pair."""
    gate: list[tuple[float, float]] = field(default_factory=list)
    """Debits a second with the gate and without, pair by pair."""

    def trigger_ratios(self) -> list[float]:
        """Return, pair by pair, the time with triggers over that without."""
        return [with_them / without for with_them, without in self.triggers if without > 0]

    def gate_ratios(self) -> list[float]:
        """Return, pair by pair, the rate with the gate over that without."""
        return [with_it / without for with_it, without in self.gate if without > 0]

    def gate_upper_ends(self) -> list[float]:
        """Return the upper end of the interval of the median; one value, or none."""
        interval = self.gate_interval()
        return [interval[2]] if interval else []

    def gate_medians(self) -> list[float]:
        """Return the median of which that is the upper end; one value, or none."""
        interval = self.gate_interval()
        return [interval[1]] if interval else []

    def failed_calls(self) -> list[float]:
        """Return the failed calls of (switch); one value, or none."""
        return [float(self.switches.switched.failures)] if self.switches else []

    def mixed_answers(self) -> list[float]:
        """Return the mixed answers of (switch); one value, or none."""
        return [float(self.switches.switched.mixed)] if self.switches else []

    def stall_ratios(self) -> list[float]:
        """Return the longest call of (switch) over what is allowed; one value, or none."""
        return [self.switches.stall_ratio()] if self.switches else []

    def near_ratios(self) -> list[float]:
        """Return p99 near switches over that of the equal load; one value, or none."""
        found = self.switches
        if not found or not found.near_calls or found.equal.p99_ms <= 0:
            return []
        return [found.near_p99_ms / found.equal.p99_ms]

    def served_percents(self) -> list[float]:
        """Return the share of (locked)'s calls that was served; one value, or none."""
        found = self.locked
        return [found.served_percent()] if found and found.load.calls else []

    def core_locks(self) -> list[float]:
        """Return the samples with a lock on the core; one value, or none without samples."""
        return self.locked.locks.counted() if self.locked else []

    def longest_close(self) -> list[float]:
        """Return the longest close, in ms; one value, or none."""
        return [max(self.closes.close_ms)] if self.closes and self.closes.close_ms else []

    def unnoted_rows(self) -> list[float]:
        """Return the rows that differed without a note; none if no snapshot saw any work."""
        found = self.morning
        return [float(found.unnoted)] if found and (found.noted or found.unnoted) else []

    def night_ratios(self) -> list[float]:
        """Return p99 at the end of (night) over that at its start; one value, or none."""
        return [self.night.ratio()] if self.night and self.night.first_p99_ms > 0 else []

    def night_faults(self) -> list[float]:
        """Return the faults of (night)'s calls; one value, or none."""
        load = self.night.load if self.night else None
        return [float(load.failures + load.mixed)] if load and load.calls else []

    def gate_interval(self) -> tuple[float, float, float] | None:
        """Return the median of the gate's ratios between the ends of its interval of 95 %."""
        return interval_of_median(self.gate_ratios())


def interval_of_median(values: list[float]) -> tuple[float, float, float] | None:
    """Return lower end, median and upper end; None of fewer than 6 values, which prove nothing.

    The ends are values that were measured, as far out as 95 % of certainty asks for, whatever the
    distribution is: a median lies below the k-th value as seldom as a coin falls on one side fewer
    than k times.
    """
    count, ordered = len(values), sorted(values)
    place = 0
    while 2 * sum(comb(count, k) for k in range(place + 1)) <= 0.05 * 2**count:
        place += 1
    if place == 0:
        return None
    return ordered[place - 1], median(ordered), ordered[count - place]
