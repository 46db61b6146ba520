"""What a load of the night has written down of every call: when it was due and how long it took."""

from array import array
from bisect import bisect_left
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from bench.load import percentile


@dataclass(frozen=True, slots=True)
class Trace:
    """Due instants, on the machine's monotonic clock, and milliseconds of the calls of one load."""

    calls: list[tuple[float, float]]
    """By due instant."""

    @classmethod
    def read(cls, file: Path) -> Self:
        """Read what the generator wrote, in seconds."""
        values = array("d")
        values.frombytes(file.read_bytes())
        return cls(
            sorted((due, took * 1000) for due, took in zip(*[iter(values)] * 2, strict=True))
        )

    def p99_ms(self) -> float:
        """Return the 99th percentile of all calls."""
        return percentile(sorted(took for _, took in self.calls), 99)

    def longest_ms(self) -> float:
        """Return the longest call; 0.0 of none."""
        return max((took for _, took in self.calls), default=0.0)

    def longest_after_s(self, instants: Iterable[float]) -> float:
        """Return when the longest call was due, from the nearest of the instants on."""
        due = max(self.calls, key=lambda call: call[1])[0]
        return min((due - instant for instant in instants), key=abs)

    def near(self, instants: Iterable[float], margin_s: float) -> "Trace":
        """Return the calls that were due within the margin of one of the instants, each once."""
        places: set[int] = set()
        dues = [due for due, _ in self.calls]
        for instant in instants:
            first = bisect_left(dues, instant - margin_s)
            places.update(range(first, bisect_left(dues, instant + margin_s)))
        return Trace([self.calls[place] for place in sorted(places)])

    def edges(self, seconds: float) -> "tuple[Trace, Trace]":
        """Return the calls due in the first and in the last so many seconds."""
        begin, end = self.calls[0][0], self.calls[-1][0]
        return (
            Trace([call for call in self.calls if call[0] <= begin + seconds]),
            Trace([call for call in self.calls if call[0] >= end - seconds]),
        )
