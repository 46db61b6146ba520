"""The records that decisions read and write: an account's figures, holds, postings, events.

All amounts are minor units of the record's currency; every balance is credit-positive.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date, datetime
from uuid import UUID

ERA_SHIFT = 7
"""An era of `ni.state` has 2**7 = 128 changes: bounds the dead row versions of one look-up."""


@dataclass(slots=True, eq=False)
class AccountFigures:
    """An account as read under its lock, in the columns' order of `ni.account_view_v1`.

    `kind` None: the core does not know the account; it has no money there, and only what NI itself
    counts is left of it. `expired` is what unswept holds, whose expiry has passed, still weigh in
    `held`.
    """

    account: str
    kind: str | None
    currency: str
    status: str
    base: int
    credit_limit: int
    debit_blocked: bool | None
    credit_blocked: bool | None
    applied: int
    era: int | None
    created: int
    held: int
    sequence: int
    next_expiry: datetime | None
    following_expiry: datetime | None
    expired: int

    def __post_init__(self) -> None:
        self.base = self.base or 0
        self.credit_limit = self.credit_limit or 0
        self.applied = self.applied or 0
        self.created = self.created or 0
        self.held = self.held or 0
        self.sequence = self.sequence or 0
        self.expired = self.expired or 0

    @property
    def is_customer(self) -> bool:
        """Whether the available balance of this account is checked."""
        return self.kind == "customer"

    @property
    def available(self) -> int:
        """base + credit limit + pending - active holds."""
        return (
            self.base
            + self.credit_limit
            + (self.created - self.applied)
            - (self.held - self.expired)
        )


@dataclass(slots=True, eq=False)
class Hold:
    """A hold, in the columns' order of `ni.hold` after its bucket."""

    hold_id: UUID
    client: str
    account: str
    currency: str
    amount: int
    captured: int
    released: int
    status: str
    kind: str
    expires_at: datetime | None
    reference: str | None
    narrative: str | None
    actor: str | None
    original_amount: int | None
    original_currency: str | None
    legal_reference: str | None
    available_after: int
    sequence: int
    epoch: int
    created_at: datetime
    changed_at: datetime

    @property
    def remaining(self) -> int:
        """What is still locked; 0 once more than the hold was captured."""
        return max(0, self.amount - self.captured - self.released)


@dataclass(slots=True, eq=False)
class Posting:
    """A posting, in the columns' order of `ni.posting` after its bucket."""

    posting_id: UUID
    home: bool
    client: str
    type: str
    debit_account: str
    credit_account: str
    debit_customer: bool
    credit_customer: bool
    amount: int
    currency: str
    packet: str | None
    straight_through: bool
    status: str
    check_mode: str
    value_date: date
    valid_from: datetime
    link_id: UUID | None
    hold_id: UUID | None
    reference: str | None
    narrative: str | None
    actor: str | None
    legal_reference: str | None
    debit_available_after: int | None
    debit_sequence: int | None
    credit_available_after: int | None
    credit_sequence: int | None
    epoch: int
    created_at: datetime
    changed_at: datetime
    change_reason: str | None = None
    change_actor: str | None = None
    unload_number: int | None = None
    debit_redirected: bool = False
    """Whether a problem moved this side to another account: no legal reference speaks for it."""
    credit_redirected: bool = False
    debit_event_id: UUID | None = None
    """The event of its creation on the debit account; not a column of the posting."""
    credit_event_id: UUID | None = None

    @property
    def customers(self) -> tuple[str, ...]:
        """The customers' accounts among its two."""
        sides = (
            (self.debit_account, self.debit_customer),
            (self.credit_account, self.credit_customer),
        )
        return tuple(account for account, is_customer in sides if is_customer)


@dataclass(slots=True, eq=False)
class Resolution:
    """How a problem was settled, by whom and why."""

    posting_id: UUID
    resolved_at: datetime
    action: str
    reason: str
    resolved_by: str
    actor: str | None


@dataclass(slots=True, eq=False)
class Event:
    """One change of one customer account, as the outbox keeps it. `direction` is +1 or -1.

    `hold_id` and `hold_remaining` belong to captures, whose `movement_id` is the posting.
    """

    event_id: UUID
    type: str
    account: str
    sequence: int
    epoch: int
    client: str
    movement_id: UUID
    currency: str
    amount: int
    direction: int
    available_after: int
    reference: str | None
    narrative: str | None
    hold_id: UUID | None = None
    hold_remaining: int | None = None


@dataclass(slots=True, eq=False)
class RefusedDebit:
    """A debit that was refused, as the outbox keeps it: a change of nothing, without a sequence."""

    event_id: UUID
    account: str
    epoch: int
    client: str
    movement_id: UUID | None
    currency: str
    amount: int
    available_after: int
    reference: str | None
    narrative: str | None
    reason: str
