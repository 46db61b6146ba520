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
    "gate": "(a) with and without the gate",
    "triggers": "unloading a large packet with and without the triggers of the night copy",
    "close": "closing a large bank, and the full copy that it saves",
    "switch": "debits, holds, captures and reads on a schedule while the mode changes",
    "locked": "the same in a night in which the core holds all its tables",
    "morning": "after opening: many changed keys, many postings of the night, debits beside",
    "confirm": "debits, 500 a second, open loop: when the broker has their events",
    "drain": "a backlog of events: the relay, and a bare loop of pika on the same queue",
    "deliver": "debits, 500 a second: nothing delivers, everything does, the broker is dead",
    "outbox": "very many events pass through: how large the outbox is",
    "night": "one night beside the core's open transaction, one account hot, the outbox read",
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
EVENT_RATE = 500
"""Debits a second of (confirm) and (deliver)."""
MIX_RATE = 200
"""Requests a second of the loads of the night, a quarter each: debit, hold, capture, read."""
MIX_ACCOUNTS = 1_000
HOT_SHARE = 5
"""Of ten requests of (night), those that go to one account."""
NEAR_S = 1.0
"""Calls due so near a switch are those that might feel it."""
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
    gate_pairs: int = 15
    gate_s: float = 3.0
    trigger_pairs: int = 3
    copy_accounts: int = 1_000_000
    """The bank grows to so many accounts before (close) and (morning)."""
    closes: int = 5
    close_changed: int = 10_000
    """Accounts that the core changes right before each close."""
    nights: int = 20
    """Of (switch), two switches each."""
    mode_s: float = 2.0
    """How long each mode of (switch) lasts at least."""
    mix_warm_s: float = 5.0
    locked_s: float = 20.0
    morning_keys: int = 200_000
    morning_postings: int = 100_000
    snapshots: int = 2_000
    snapshot_keys: int = 500
    night_s: float = 60.0
    night_edge_s: float = 10.0
    """The start and the end of (night) that are compared."""
    event_s: float = 60.0
    """How long (confirm) offers debits."""
    backlog: int = 200_000
    drain_pairs: int = 3
    deliver_pairs: int = 3
    deliver_s: float = 20.0
    """Each of the three parts of a pair of (deliver)."""
    outbox_events: int = 1_000_000
    outbox_rate: int = 2_000
    """Events a second of (outbox)."""
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
    gate_pairs=6,
    gate_s=0.3,
    trigger_pairs=1,
    copy_accounts=4_000,
    closes=2,
    close_changed=100,
    nights=2,
    mode_s=0.5,
    mix_warm_s=0.5,
    locked_s=2.0,
    morning_keys=1_000,
    morning_postings=500,
    snapshots=20,
    snapshot_keys=100,
    night_s=3.0,
    night_edge_s=1.0,
    event_s=2.0,
    backlog=3_000,
    drain_pairs=1,
    deliver_pairs=1,
    deliver_s=1.0,
    outbox_events=10_000,
    is_quick=True,
)
WHOLE_SWITCHES, WHOLE_LOCKED_S, WHOLE_NIGHT_S = 1_000, 600.0, 3_600.0
"""What the table asks for, hours in all. Other runs measure shorter forms and say so."""


def parse_measures(text: str) -> frozenset[str]:
    """Return the measures of a list such as `a,b,e`.

    Raises ValueError if one is unknown or none is named.
    """
    names = frozenset(name.strip() for name in text.split(",") if name.strip())
    unknown = sorted(names - set(MEASURES))
    if unknown or not names:
        raise ValueError(f"unknown measures {unknown}; there are {', '.join(MEASURES)}")
    return names


def make_plan(
    *,
    quick: bool,
    rounds: int | None,
    measures: frozenset[str] | None,
    whole_nights: bool = False,
) -> Plan:
    """Return the plan of these options; None leaves what is usual."""
    plan = QUICK if quick else Plan()
    if whole_nights:
        plan = dataclasses.replace(
            plan, nights=WHOLE_SWITCHES // 2, mode_s=1.2, locked_s=WHOLE_LOCKED_S,
            night_s=WHOLE_NIGHT_S, night_edge_s=300.0,
        )  # fmt: skip
    if rounds is not None:
        plan = dataclasses.replace(plan, rounds=rounds)
    if measures is not None:
        plan = dataclasses.replace(plan, measures=measures)
    return plan
