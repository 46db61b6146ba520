"""What one batch of decisions reads and what it changes.

`Snapshot` is read under the locks, `Effects` is written before the commit, and `BatchState` is
the working state between the two: the rules (`ni.posting_rules`, `ni.hold_rules`) ask it for
accounts and tell it what moves.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import date, datetime, timedelta
from functools import lru_cache
from typing import Literal
from uuid import UUID

from ni.clock import EPOCH
from ni.decisions import Decision
from ni.documents import refusal_document
from ni.identifiers import bucket_of, make_id
from ni.money import SUM_LIMIT_MINOR
from ni.movements import AccountFigures, Event, Hold, Posting, RefusedDebit, Resolution


@dataclass(slots=True, eq=False)
class Answer:
    """What a command's caller hears: the decision, its document, whether it was said before."""

    decision: Decision
    document: str
    replayed: bool = False


@dataclass(slots=True, eq=False)
class StoredRequest:
    """What was answered to a key before."""

    fingerprint: bytes
    decision: Decision
    document: str


@dataclass(slots=True, eq=False)
class NewRequest:
    """An answer to keep under its key."""

    bucket: int
    client: str
    key: str
    fingerprint: bytes
    answer: Answer
    decided_at: datetime


@dataclass(slots=True, eq=False)
class Snapshot:
    """Everything that a batch of decisions may look at, read after its locks.

    `instant_us` is the one instant of the batch, microseconds since 1970 UTC. `busy` are named
    movements that somebody else has locked: a packet is taking them. By night
    the core takes nothing.
    """

    instant_us: int
    epoch: int
    business_date: date
    next_business_date: date
    buckets: int
    salt: int
    accounts: dict[str, AccountFigures] = field(default_factory=dict)
    holds: dict[UUID, Hold] = field(default_factory=dict)
    postings: dict[UUID, Posting] = field(default_factory=dict)
    requests: dict[tuple[int, str, str], StoredRequest] = field(default_factory=dict)
    expired: list[Hold] = field(default_factory=list)
    busy: frozenset[UUID] = frozenset()
    mode: Literal["day", "night"] = "day"
    tell_refused: bool = False
    """Whether refused debits are told as events."""


@dataclass(slots=True, eq=False)
class PostingChange:
    """A changed posting beside its status and customers' accounts before the change."""

    from_status: str
    customers_before: tuple[str, ...]
    posting: Posting


@dataclass(slots=True, eq=False)
class Effects:
    """What a batch changes. Changed movements stand beside the status that was decided on."""

    accounts: dict[str, tuple[AccountFigures, datetime]] = field(default_factory=dict)
    new_holds: list[Hold] = field(default_factory=list)
    changed_holds: dict[UUID, tuple[str, Hold]] = field(default_factory=dict)
    new_postings: list[Posting] = field(default_factory=list)
    changed_postings: dict[UUID, PostingChange] = field(default_factory=dict)
    resolutions: list[Resolution] = field(default_factory=list)
    events: list[Event] = field(default_factory=list)
    refused: list[RefusedDebit] = field(default_factory=list)
    requests: list[NewRequest] = field(default_factory=list)

    @property
    def any(self) -> bool:
        """Whether there is anything to write."""
        return bool(
            self.accounts
            or self.requests
            or self.new_postings
            or self.changed_postings
            or self.refused
        )


@lru_cache(maxsize=4)  # a change asks again and again for its own
def instant_of(instant_us: int) -> datetime:
    """The UTC instant that is `instant_us` microseconds after 1970."""
    return EPOCH + timedelta(microseconds=instant_us)


def refuse(
    decision: Decision, account: AccountFigures | str | None = None, requested: int | None = None
) -> Answer:
    """A refusal that names the account; with `requested`, what was asked and what is available."""
    if account is None or isinstance(account, str):
        return Answer(decision, refusal_document(account))
    available = account.available if requested is not None else None
    currency = account.currency if available is not None else None
    return Answer(decision, refusal_document(account.account, currency, available, requested))


class BatchState:
    """The snapshot's records as the decisions so far have left them."""

    def __init__(self, snapshot: Snapshot) -> None:
        self.snapshot = snapshot
        self.effects = Effects()
        self.instant = instant_of(snapshot.instant_us)
        """The instant of the whole batch: the clock of expiries and validations."""
        self._next_us = snapshot.instant_us
        self._salt = snapshot.salt

    def account(self, name: str) -> AccountFigures | None:
        """The account as the decisions so far have left it; None: the core does not know it."""
        figures = self.snapshot.accounts[name]
        return figures if figures.kind is not None else None

    def next_change(self) -> int:
        """The instant of the next change, in microseconds: each lies 1 µs after the one before."""
        change_us = self._next_us
        self._next_us += 1
        return change_us

    def new_id(self, change_us: int, account: str) -> UUID:
        """An id made from the change's instant that names the bucket of `account`."""
        self._salt += 1
        return make_id(change_us, self._salt, bucket_of(account, self.snapshot.buckets))

    def fits(self, account: AccountFigures, created: int, held: int = 0) -> bool:
        """Whether a customer's sums stay in range after the change; NI keeps none of others."""
        return not account.is_customer or self.in_range(account, created, held)

    def in_range(self, account: AccountFigures, created: int, held: int = 0) -> bool:
        """Whether every sum of the account stays within ± 10^17 minor units after the change."""
        total = account.created + created
        booked = account.base + total - account.applied
        return (
            -SUM_LIMIT_MINOR <= total <= SUM_LIMIT_MINOR
            and -SUM_LIMIT_MINOR <= booked <= SUM_LIMIT_MINOR
            and account.held + held <= SUM_LIMIT_MINOR
        )

    def change(
        self, account: AccountFigures, change_us: int, created: int, held: int = 0
    ) -> tuple[int, int]:
        """Move an account's counters; its new available balance and its sequence."""
        account.created += created
        account.held += held
        account.sequence += 1
        self.effects.accounts[account.account] = (account, instant_of(change_us))
        return account.available, account.sequence

    def touch_hold(self, hold: Hold, change_us: int) -> None:
        """Note a hold's change; call it BEFORE the status is changed."""
        if hold.hold_id not in self.effects.changed_holds:
            self.effects.changed_holds[hold.hold_id] = (hold.status, hold)
        hold.changed_at = instant_of(change_us)
        hold.epoch = self.snapshot.epoch

    def touch_posting(self, posting: Posting, change_us: int) -> None:
        """Note a posting's change; call it BEFORE the status is changed."""
        if posting.posting_id not in self.effects.changed_postings:
            self.effects.changed_postings[posting.posting_id] = PostingChange(
                posting.status, posting.customers, posting
            )
        posting.changed_at = instant_of(change_us)
        posting.epoch = self.snapshot.epoch

    def settle(self, posting: Posting, action: str, resolved_by: str) -> None:
        """Note how the problem of `posting` was settled; call it AFTER the posting's change."""
        assert posting.change_reason is not None, "whoever settles a problem says why"
        self.effects.resolutions.append(
            Resolution(
                posting_id=posting.posting_id,
                resolved_at=posting.changed_at,
                action=action,
                reason=posting.change_reason,
                resolved_by=resolved_by,
                actor=posting.change_actor,
            )
        )

    def tell(
        self,
        event_type: str,
        account: AccountFigures,
        movement: Hold | Posting,
        change_us: int,
        amount: int,
        direction: int,
    ) -> Event:
        """Add the event of the account's latest change to the outbox."""
        movement_id = movement.hold_id if isinstance(movement, Hold) else movement.posting_id
        event = Event(
            self.new_id(change_us, account.account),
            event_type,
            account.account,
            account.sequence,
            self.snapshot.epoch,
            movement.client,
            movement_id,
            movement.currency,
            amount,
            direction,
            account.available,
            movement.reference,
            movement.narrative,
        )
        self.effects.events.append(event)
        return event

    def sweep_expired(self) -> None:
        """Let the holds that have expired at the instant go, before anything is decided."""
        for row in self.snapshot.expired:
            account = self.snapshot.accounts[row.account]
            hold = self.snapshot.holds.setdefault(row.hold_id, row)
            change_us = self.next_change()
            self.touch_hold(hold, change_us)
            remaining = hold.remaining
            account.expired -= remaining
            hold.available_after, hold.sequence = self.change(
                account, change_us, created=0, held=-remaining
            )
            hold.status = "expired"
            self.tell("ni.hold.expired", account, hold, change_us, remaining, +1)
        for name in {hold.account for hold in self.snapshot.expired}:
            account = self.snapshot.accounts[name]
            account.next_expiry = account.following_expiry if account.expired == 0 else self.instant
