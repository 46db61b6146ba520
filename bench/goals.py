"""The table that NI must reach: each figure, its bound, and whether this run kept it."""

from collections.abc import Callable
from dataclasses import dataclass
from statistics import median
from typing import Literal

from bench.figures import Figures

Values = Callable[[Figures], list[float]]


@dataclass(frozen=True, slots=True)
class Goal:
    """One line of the table; the measured value is the median over the rounds."""

    text: str
    sign: Literal["≥", "≤"]
    bound: float
    unit: str
    values: Values

    def verdict(self, figures: Figures) -> str:
        """Return `reached`, `missed` or `not measured`."""
        values = self.values(figures)
        if not values:
            return "not measured"
        measured = median(values)
        kept = measured >= self.bound if self.sign == "≥" else measured <= self.bound
        return "reached" if kept else "missed"


def goals(memory_commands: int) -> list[Goal]:
    """Return the table; the memory is compared after `memory_commands` commands."""

    def memory(figures: Figures) -> list[float]:
        return figures.memory_growth_mib(memory_commands)

    return [
        Goal("(a) ÷ (e): durable checked debit against an endpoint that does nothing",
             "≥", 0.70, "", lambda f: f.ratios("a", "e")),
        Goal("(b) ÷ (a): one hot account against all accounts",
             "≥", 0.90, "", lambda f: f.ratios("b", "a")),
        Goal("(d) items ÷ (f) best: batches against one commit a movement",
             "≥", 1.8, "", Figures.batch_ratios),
        Goal("(c) with 1 connection: p50", "≤", 5.0, " ms", lambda f: f.p50s("c1")),
        Goal("(a) p99 ÷ p50 at 32 connections", "≤", 5.0, "", lambda f: f.tail_ratios("a")),
        Goal("GET balance, 1 connection, 1,000 movements pending: p99",
             "≤", 5.0, " ms", lambda f: f.p99s("g1")),
        Goal("one hot account beside an open transaction: rate at the end ÷ at the start",
             "≥", 0.85, "", Figures.open_ratios),
        Goal(f"memory growth over {memory_commands:,} commands", "≤", 20.0, " MiB", memory),
    ]  # fmt: skip
