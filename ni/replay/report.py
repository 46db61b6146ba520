"""What a replay has done so far: counts, the first faults, latencies; and what came of it."""

from __future__ import annotations

from array import array
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from ni.money import format_amount
from ni.replay.statement import Row

FAULTS_KEPT: Final = 20
"""Faults of each kind that are shown; all of them are counted."""


@dataclass(slots=True)
class Outcome:
    """What NI and the core say at the end, when everything is unloaded; money in minor units.

    `posted` is what NI has in the packets, once for both sides of each posting; `debits` and
    `credits` are the sums of the core's entries of these packets.
    """

    packets: int = 0
    unbooked_packets: int = 0
    problems: int = 0
    accounts: int = 0
    pending_accounts: int = 0
    different_balances: int = 0
    posted: int = 0
    debits: int = 0
    credits: int = 0

    @property
    def is_clean(self) -> bool:
        """Whether everything is in the core, once, and both sides are equal."""
        return (
            not self.unbooked_packets
            and not self.problems
            and not self.pending_accounts
            and not self.different_balances
            and self.posted == self.debits == self.credits
        )


@dataclass(slots=True)
class DaysReport:
    """What became of a statement's dates when each of them is closed.

    `took_us` has microseconds by step; `waited_us` is the part of closing and opening in which NI
    or the core was not ready. `by_night`: the replay was left in a night.
    """

    dates: int
    ended_before: int = 0
    done: int = 0
    closes: int = 0
    opens: int = 0
    night_rows: int = 0
    by_night: bool = False
    waited_us: int = 0
    took_us: Counter[str] = field(default_factory=Counter)


@dataclass(slots=True)
class ReplayReport:
    """Counts of rows; latencies in microseconds of the answers, retries left out."""

    rows_in_file: int
    rows: int = 0
    replayed: int = 0
    retries: int = 0
    refusals: int = 0
    mismatches: int = 0
    packets: int = 0
    packet_refusals: int = 0
    interrupted: bool = False
    outcome: Outcome | None = None
    days: DaysReport | None = None
    faults: list[str] = field(default_factory=list)
    latencies_us: array[int] = field(default_factory=lambda: array("Q"))
    _told: Counter[str] = field(default_factory=Counter)

    @property
    def is_clean(self) -> bool:
        """Whether every row of the file was answered, booked and equal to the bank's balance.

        Once the outcome is known, whether that is clean too.
        """
        return (
            not self.refusals
            and not self.mismatches
            and not self.packet_refusals
            and self.rows == self.rows_in_file
            and (self.outcome is None or self.outcome.is_clean)
        )

    def refuse(self, row: Row, code: str, detail: str) -> None:
        """Counts a row that NI refused."""
        self.refusals += 1
        self.fault("refusal", f"line {row.line}, {row.account}: refused {code}: {detail}")

    def mismatch(self, row: Row, balance: int, currency: str) -> None:
        """Counts a row after which NI's balance, in minor units, is not the bank's."""
        self.mismatches += 1
        self.fault(
            "mismatch",
            f"line {row.line}, {row.account}: the bank recorded "
            f"{format_amount(row.balance_after, currency)}, NI says "
            f"{format_amount(balance, currency)}",
        )

    def refuse_packet(self, packet: str, code: str, detail: str) -> None:
        """Counts an unload that NI refused."""
        self.packet_refusals += 1
        self.fault("packet", f"packet {packet}: refused {code}: {detail}")

    def problem(self, packet: str, problem: Mapping[str, Any]) -> None:
        """Tells a posting that the core could not book."""
        self.fault(
            "problem",
            f"packet {packet}, posting {problem.get('posting_id')}: {problem.get('code')}: "
            f"{problem.get('detail')}",
        )

    def fault(self, kind: str, text: str) -> None:
        """Keeps a fault to be shown, unless enough of its kind are."""
        self._told[kind] += 1
        if self._told[kind] <= FAULTS_KEPT:
            self.faults.append(text)

    def latency_ms(self, percent: int, last: int | None = None) -> float:
        """The latency that `percent` of the (last) answers did not exceed, in milliseconds."""
        chosen = sorted(self.latencies_us if last is None else self.latencies_us[-last:])
        return chosen[(len(chosen) - 1) * percent // 100] / 1000 if chosen else 0.0
