"""What a run has found so far, and the medians and ratios made of it."""

from collections import defaultdict
from dataclasses import dataclass, field
from statistics import median

from bench.event_figures import EventFigures
from bench.load_spec import LoadResult
from bench.night_figures import NightFigures
from bench.packet_figures import PacketFigures


@dataclass(frozen=True, slots=True)
class Sample:
    """One measure of one round. The rate is a second's; times are in ms, 0 where not known."""

    rate: float
    p50_ms: float = 0.0
    p99_ms: float = 0.0
    max_ms: float = 0.0
    mean_ms: float = 0.0


@dataclass(frozen=True, slots=True)
class MemoryReading:
    """The API process's resident memory after so many approved commands since the start."""

    commands: int
    rss_bytes: int


@dataclass(slots=True)
class Figures:
    """All that one run measured."""

    samples: dict[str, list[Sample]] = field(default_factory=lambda: defaultdict(list))
    """By series, the keys of the report's `SERIES`; one sample a round or, of q, a pair."""
    packets: PacketFigures = field(default_factory=PacketFigures)
    nights: NightFigures = field(default_factory=NightFigures)
    events: EventFigures = field(default_factory=EventFigures)
    boot_rss_bytes: int = 0
    warm_up_commands: int = 0
    memory: list[MemoryReading] = field(default_factory=list)
    single_commands: int = 0
    batch_commands: int = 0
    open_per_second: list[int] = field(default_factory=list)
    """Debits of each second while the long transaction was open."""
    open_edge_s: int = 1
    postings_acknowledged: int = 0
    postings_stored: int = 0
    pgbench_transactions: int = 0
    pgbench_stored: int = 0

    def add(self, series: str, result: LoadResult) -> None:
        """Keep the figures of one load."""
        sample = Sample(result.rate, result.p50_ms, result.p99_ms, result.max_ms)
        self.samples[series].append(sample)

    def rates(self, series: str) -> list[float]:
        """Return the rate of each round."""
        return [sample.rate for sample in self.samples.get(series, [])]

    def ratios(self, above: str, below: str) -> list[float]:
        """Return, round by round, the rate of one series over that of another."""
        pairs = zip(self.rates(above), self.rates(below), strict=False)
        return [upper / lower for upper, lower in pairs if lower > 0]

    def batch_ratios(self) -> list[float]:
        """Return, round by round, the items of (d) over the better of pgbench's two."""
        best = [max(pair) for pair in zip(self.rates("f8"), self.rates("f32"), strict=False)]
        return [rate / other for rate, other in zip(self.rates("d"), best, strict=False)]

    def tail_ratios(self, series: str) -> list[float]:
        """Return, round by round, p99 over p50."""
        known = [sample for sample in self.samples.get(series, []) if sample.p50_ms > 0]
        return [sample.p99_ms / sample.p50_ms for sample in known]

    def p50s(self, series: str) -> list[float]:
        """Return the median latency of each round, in ms."""
        return [sample.p50_ms for sample in self.samples.get(series, [])]

    def p99s(self, series: str) -> list[float]:
        """Return the 99th percentile of each round, in ms."""
        return [sample.p99_ms for sample in self.samples.get(series, [])]

    def p99_ratios(self, above: str, below: str) -> list[float]:
        """Return, round by round, the 99th percentile of one series over that of another."""
        pairs = zip(self.p99s(above), self.p99s(below), strict=False)
        return [upper / lower for upper, lower in pairs if lower > 0]

    def open_edges(self) -> tuple[float, float] | None:
        """Return the median rate at the start and at the end of the long transaction."""
        seconds = self.open_per_second
        if len(seconds) < 2 * self.open_edge_s:
            return None
        start, end = seconds[: self.open_edge_s], seconds[-self.open_edge_s :]
        return float(median(start)), float(median(end))

    def open_ratios(self) -> list[float]:
        """Return the rate at the end over that at the start; one value, or none."""
        edges = self.open_edges()
        return [edges[1] / edges[0]] if edges and edges[0] > 0 else []

    def memory_growth_mib(self, commands: int) -> list[float]:
        """Return how much more memory is used after so many commands, in MiB."""
        later = [reading for reading in self.memory if reading.commands >= commands]
        if not later:
            return []
        return [(later[0].rss_bytes - self.memory[0].rss_bytes) / 2**20]
