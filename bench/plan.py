"""What a run measures and for how long."""

import dataclasses
from dataclasses import dataclass

MEASURES = {
    "a": "REST debits, check available, 32 connections, random accounts",
    "b": "the same on one account",
    "c": "(a) with 1, 8, 64 and 256 connections",
    "d": "POST /v1/batches, 1,000 independent items, random accounts, 4 connections",
    "e": "the ceiling: a FastAPI endpoint that only answers, 32 connections",
    "f": "pgbench: one conditional debit a transaction, 8 and 32 clients",
    "g": "GET balance",
    "h": "memory of the API process",
    "p": "unloading packets of three sizes; the same with one commit a posting",
    "q": "debits at 30 % of (a)'s rate, open loop, beside packets that unload without pause",
    "s": "straight-through postings, 500 a second, open loop: when they are in the core",
    "long": "one hot account beside a transaction that stays open",
}
CONNECTIONS = 32
OTHER_CONNECTIONS = (1, 8, 64, 256)
PGBENCH_CLIENTS = (8, 32)
BATCH_CONNECTIONS = 4
BATCH_ITEMS = 1_000
PENDING_MOVEMENTS = 1_000
POSTINGS_PER_ACCOUNT = 2
"""In the packets of (p) and (q), each time another way through the accounts."""
OFFERED_SHARE = 0.30
"""What (q) offers, of the rate of (a)."""
STRAIGHT_THROUGH_RATE = 500
OPEN_CONNECTIONS = 128
"""Of an open loop; what finds all of them busy waits in the generator."""


@dataclass(frozen=True, slots=True)
class Plan:
    """Lengths and sizes of one run; times in seconds."""

    rounds: int = 5
    accounts: int = 100_000
    warm_s: float = 1.0
    single_s: float = 8.0
    """Of (a), (b) and (e)."""
    batch_s: float = 8.0
    pgbench_s: int = 6
    connections_s: float = 6.0
    balance_s: float = 4.0
    open_s: float = 180.0
    """How long the long transaction stays open under load."""
    open_edge_s: int = 15
    """The start and the end whose rates are compared."""
    memory_commands: int = 1_000_000
    packets: tuple[tuple[int, int], ...] = ((1_000, 5), (10_000, 3), (100_000, 1))
    """Sizes of the packets of (p) and how many of each a round unloads, the largest last."""
    one_by_one: int = 3_000
    """Postings that a round books with a commit each."""
    beside_pairs: int = 3
    """How often (q) measures before and beside packets."""
    beside_packets: int = 2
    """The largest packets that are unloaded one after the other beside (q)'s debits."""
    before_s: float = 15.0
    """How long (q) measures before the packets."""
    straight_s: float = 30.0
    measures: frozenset[str] = frozenset(MEASURES)
    is_quick: bool = False

    @property
    def largest_packet(self) -> int:
        """Postings of the largest packet."""
        return self.packets[-1][0]

    @property
    def pending_account(self) -> int:
        """The number of the account that has movements pending; no load picks it."""
        return self.accounts

    @property
    def hot_account(self) -> int:
        """The number of the account that (b) and the long transaction use."""
        return self.accounts + 1


QUICK = Plan(
    rounds=1,
    accounts=2_000,
    warm_s=0.2,
    single_s=1.0,
    batch_s=1.0,
    pgbench_s=1,
    connections_s=0.5,
    balance_s=0.5,
    open_s=4.0,
    open_edge_s=1,
    memory_commands=10_000,
    packets=((20, 2), (200, 2), (2_000, 1)),
    one_by_one=100,
    beside_pairs=1,
    before_s=1.0,
    straight_s=2.0,
    is_quick=True,
)


def parse_measures(text: str) -> frozenset[str]:
    """Return the measures of a list such as `a,b,e`.

    Raises ValueError if one is unknown or none is named.
    """
    names = frozenset(name.strip() for name in text.split(",") if name.strip())
    unknown = sorted(names - set(MEASURES))
    if unknown or not names:
        raise ValueError(f"unknown measures {unknown}; there are {', '.join(MEASURES)}")
    return names


def make_plan(*, quick: bool, rounds: int | None, measures: frozenset[str] | None) -> Plan:
    """Return the plan of these options; None leaves what is usual."""
    plan = QUICK if quick else Plan()
    if rounds is not None:
        plan = dataclasses.replace(plan, rounds=rounds)
    if measures is not None:
        plan = dataclasses.replace(plan, measures=measures)
    return plan
