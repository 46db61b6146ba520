"""What an unload must say of a posting, told again from the contract alone.

The core as it was at a snapshot is put together from the log of its changes; the verdict follows
the contract's order of tests: accounts exist (debit, then credit), kinds, currency, closed, blocks
(debit, then credit). Limits and funds are never asked: the money has moved.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final
from uuid import UUID

import asyncpg

LINKED: Final = "linked_problem"


@dataclass(frozen=True)
class Snapshot:
    """PostgreSQL's own words for what a statement sees, e.g. `10:14:11,12`."""

    lowest: int
    next: int
    running: frozenset[int]

    @classmethod
    def parse(cls, words: str) -> Snapshot:
        lowest, following, running = words.split(":")
        return cls(
            int(lowest), int(following), frozenset(map(int, filter(None, running.split(","))))
        )

    def sees(self, xid: int) -> bool:
        """Whether what this transaction has committed is seen."""
        return xid < self.lowest or (xid < self.next and xid not in self.running)


@dataclass(frozen=True)
class Line:
    """One change of the core."""

    xid: int
    seen: Snapshot
    made_by: str
    relation: str
    key: str
    account: str
    row: dict[str, Any] | None

    @classmethod
    def of(cls, row: asyncpg.Record) -> Line:
        after = None if row["row_after"] is None else json.loads(row["row_after"])
        seen = Snapshot.parse(row["seen"])
        return cls(
            int(row["xid"]),
            seen,
            row["made_by"],
            row["relation"],
            row["key"],
            row["account"],
            after,
        )


@dataclass
class Core:
    """The core at one moment."""

    accounts: dict[str, dict[str, Any]] = field(default_factory=dict)
    blocks: defaultdict[str, list[dict[str, Any]]] = field(
        default_factory=lambda: defaultdict(list)
    )

    @classmethod
    def at(cls, log: Iterable[Line], snapshot: Snapshot) -> Core:
        """The last change of each row that the snapshot sees."""
        last: dict[tuple[str, str], Line] = {}
        for line in log:
            if snapshot.sees(line.xid):
                last[line.relation, line.key] = line
        core = cls()
        for line in last.values():
            if line.row is not None and line.relation == "account":
                core.accounts[line.account] = line.row
            elif line.row is not None:
                core.blocks[line.account].append(line.row)
        return core

    def blocked(self, account: str, side: str, at: datetime) -> bool:
        """Whether a block of this side is in force at an instant."""
        return any(
            block["side"] in (side, "all")
            and datetime.fromisoformat(block["valid_from"]) <= at
            and (block["valid_to"] is None or at < datetime.fromisoformat(block["valid_to"]))
            for block in self.blocks[account]
        )


@dataclass(frozen=True)
class Asked:
    """A posting as the unload takes it; each side is an account and whether it is a customer's."""

    posting_id: UUID
    debit: tuple[str, bool]
    credit: tuple[str, bool]
    currency: str
    link_id: UUID | None
    override: bool

    @classmethod
    def of(cls, row: asyncpg.Record) -> Asked:
        return cls(
            row["posting_id"],
            (row["debit_account"], row["debit_customer"]),
            (row["credit_account"], row["credit_customer"]),
            row["currency"],
            row["link_id"],
            row["legal_reference"] is not None,
        )


def faults(asked: Asked, core: Core, at: datetime) -> list[tuple[str, str]]:
    """Everything that is wrong with a posting by itself: code and account, the first one first."""
    sides = (("debit", *asked.debit), ("credit", *asked.credit))
    known = [(side, name, customer) for side, name, customer in sides if name in core.accounts]
    found = [("account_not_found", name) for _, name, _ in sides if name not in core.accounts]
    for _, name, customer in known:
        if (core.accounts[name]["kind"] == "customer") is not customer:
            found.append(("account_kind_mismatch", name))
    for _, name, _ in known:
        if core.accounts[name]["currency"] != asked.currency:
            found.append(("currency_mismatch", name))
    for _, name, _ in known:
        if core.accounts[name]["status"] == "closed":
            found.append(("account_closed", name))
    for side, name, _ in known:
        if core.blocked(name, side, at) and not asked.override:
            found.append(("account_blocked", name))
    return found


def verdicts(taken: Iterable[Asked], core: Core, at: datetime) -> dict[UUID, list[tuple[str, str]]]:
    """What is wrong with each posting of a run; a link goes together or not at all."""
    taken = list(taken)
    found = {asked.posting_id: faults(asked, core, at) for asked in taken}
    broken = {asked.link_id for asked in taken if found[asked.posting_id]} - {None}
    for asked in taken:
        if asked.link_id in broken and not found[asked.posting_id]:
            found[asked.posting_id] = [(LINKED, str(asked.link_id))]
    return found
