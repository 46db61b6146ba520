"""What a replay has done so far: counts, the first faults, latencies."""

from __future__ import annotations

from array import array
from dataclasses import dataclass, field
from typing import Final

from ni.money import format_amount
from ni.replay.statement import Row

FAULTS_KEPT: Final = 20
"""Refusals, and mismatches, that are shown; all of them are counted."""


@dataclass(slots=True)
class ReplayReport:
    """Counts of rows; latencies in microseconds of the answers, retries left out."""

    rows_in_file: int
    rows: int = 0
    replayed: int = 0
    retries: int = 0
    refusals: int = 0
    mismatches: int = 0
    interrupted: bool = False
    faults: list[str] = field(default_factory=list)
    latencies_us: array[int] = field(default_factory=lambda: array("Q"))

    @property
    def is_clean(self) -> bool:
        """Whether every row of the file was answered, booked and equal to the bank's balance."""
        return not self.refusals and not self.mismatches and self.rows == self.rows_in_file

    def refuse(self, row: Row, code: str, detail: str) -> None:
        """Counts a row that NI refused."""
        self.refusals += 1
        if self.refusals <= FAULTS_KEPT:
            self.faults.append(f"line {row.line}, {row.account}: refused {code}: {detail}")

    def mismatch(self, row: Row, balance: int, currency: str) -> None:
        """Counts a row after which NI's balance, in minor units, is not the bank's."""
        self.mismatches += 1
        if self.mismatches <= FAULTS_KEPT:
            self.faults.append(
                f"line {row.line}, {row.account}: the bank recorded "
                f"{format_amount(row.balance_after, currency)}, NI says "
                f"{format_amount(balance, currency)}"
            )

    def latency_ms(self, percent: int, last: int | None = None) -> float:
        """The latency that `percent` of the (last) answers did not exceed, in milliseconds."""
        chosen = sorted(self.latencies_us if last is None else self.latencies_us[-last:])
        return chosen[(len(chosen) - 1) * percent // 100] / 1000 if chosen else 0.0
