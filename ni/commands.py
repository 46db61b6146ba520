"""Commands: what every door submits to the engine, and nothing else.

A door has checked form and scopes before; amounts are minor units of `currency`. Whether the
command is approved is `ni.decide`'s alone.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date, datetime
from enum import Enum
from typing import Final, Literal
from uuid import UUID

Check = Literal["available", "none"]
OverCapture = Literal["reject", "check", "none"]


class Unset(Enum):
    """Tells "left out" from "null" where both mean something."""

    unset = 0


UNSET: Final = Unset.unset


@dataclass(slots=True, kw_only=True, eq=False)
class Command:
    """One request of one client.

    `key` and `fingerprint` make it idempotent: the same key with the same fingerprint gets the
    first answer again. A command without a key is NI's own. `any_client` lets it name movements
    of other clients.
    """

    client: str
    key: str | None
    fingerprint: bytes
    any_client: bool = False


@dataclass(slots=True, kw_only=True, eq=False)
class CreateHold(Command):
    """Lock an amount of a customer account."""

    account: str
    amount: int
    currency: str
    check: Check = "available"
    kind: str = "authorization"
    expires_at: datetime | None = None
    reference: str | None = None
    narrative: str | None = None
    actor: str | None = None
    original_amount: int | None = None
    original_currency: str | None = None
    legal_reference: str | None = None


@dataclass(slots=True, kw_only=True, eq=False)
class CaptureHold(Command):
    """Turn all or part of a hold into a posting.

    `amount` is a decimal string, for the door does not know the hold's currency; None: what
    remains.
    """

    hold_id: UUID
    amount: str | None
    credit_account: str
    packet: str | None
    straight_through: bool
    final: bool = True
    over_capture: OverCapture = "reject"
    value_date: date | None = None
    reference: str | None = None
    narrative: str | None = None
    actor: str | None = None
    legal_reference: str | None = None


@dataclass(slots=True, kw_only=True, eq=False)
class ReleaseHold(Command):
    """Give all or part of a hold back. `amount` is a decimal string; None: what remains."""

    hold_id: UUID
    amount: str | None
    reference: str | None = None
    actor: str | None = None


@dataclass(slots=True, kw_only=True, eq=False)
class AdjustHold(Command):
    """Change a hold's total (a decimal string) or its expiry; `expires_at` None: no expiry."""

    hold_id: UUID
    amount: str | None
    expires_at: datetime | Unset | None = UNSET
    check: Check = "available"
    actor: str | None = None


@dataclass(slots=True, kw_only=True, eq=False)
class CreatePosting(Command):
    """Move money from the debit account to the credit account."""

    debit_account: str
    credit_account: str
    amount: int
    currency: str
    packet: str | None
    straight_through: bool
    type: str = "TRANSFER"
    check: Check = "available"
    value_date: date | None = None
    valid_from: datetime | None = None
    link_id: UUID | None = None
    reference: str | None = None
    narrative: str | None = None
    actor: str | None = None
    legal_reference: str | None = None


@dataclass(slots=True, kw_only=True, eq=False)
class CancelPosting(Command):
    """Take a posting back that the core has not booked."""

    posting_id: UUID
    reason: str
    check: Check = "available"
    actor: str | None = None


ProblemAction = Literal["retry", "cancel", "redirect"]


@dataclass(slots=True, kw_only=True, eq=False)
class ResolveProblem(Command):
    """Settle a posting that the core could not book.

    `retry` makes it pending again, `cancel` takes it back, `redirect` moves the named sides to
    other accounts and makes it pending again.
    """

    posting_id: UUID
    action: ProblemAction
    reason: str
    debit_account: str | None = None
    credit_account: str | None = None
    check: Check = "available"
    actor: str | None = None


@dataclass(slots=True, kw_only=True, eq=False)
class ExpireHolds(Command):
    """Sweep the holds of an account whose expiry has passed. NI's own; it has no key."""

    account: str


def accounts_of(command: Command) -> tuple[str, ...]:
    """The accounts that a command names itself (those of its hold or posting come on top)."""
    match command:
        case CreatePosting():
            return (command.debit_account, command.credit_account)
        case CreateHold() | ExpireHolds():
            return (command.account,)
        case CaptureHold():
            return (command.credit_account,)
        case ResolveProblem():
            sides = (command.debit_account, command.credit_account)
            return tuple(side for side in sides if side is not None)
        case _:
            return ()


def movement_of(command: Command) -> UUID | None:
    """The hold or posting that a command names, if it names one."""
    match command:
        case CaptureHold() | ReleaseHold() | AdjustHold():
            return command.hold_id
        case CancelPosting() | ResolveProblem():
            return command.posting_id
        case _:
            return None
