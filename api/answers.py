"""What the answers of the REST contract look like, for its description at `/openapi.json`.

Answers are written by ni/documents.py; a test holds each of them against these models.
"""

from __future__ import annotations

from datetime import date, datetime
from typing import Annotated, Any, Final, Literal
from uuid import UUID

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter

from api.fields import Check
from api.postings import PostingType
from ni.commands import ProblemAction

Money = Annotated[str, Field(pattern=r"^-?[0-9]+(\.[0-9]+)?$")]
"""A decimal string with the currency's digits, credit-positive."""
Kind = Literal["customer", "internal", "off_balance"]
HoldStatus = Literal["active", "captured", "released", "expired"]
RunStatus = Literal["booked", "partly_booked", "none_booked", "awaiting_acceptance", "rejected"]
ProblemCode = Literal[
    "account_not_found", "account_closed", "account_blocked", "currency_mismatch",
    "account_kind_mismatch", "linked_problem", "core_error",
]  # fmt: skip
PostingStatus = Literal["pending", "awaiting_acceptance", "booked", "problem", "cancelled"]


class Answer(BaseModel):
    """A document of the contract: every field is always there unless it has a default."""

    model_config = ConfigDict(extra="forbid")


class BlockAnswer(Answer):
    """A block of an account; `to` null: until it is taken away."""

    side: Literal["debit", "credit", "all"]
    legal_reference: str
    since: datetime = Field(alias="from")
    to: datetime | None


class BalanceAnswer(Answer):
    """available = booked + credit_limit + pending - held."""

    account: str
    kind: Kind
    currency: str
    available: Money | None
    booked: Money
    pending: Money
    held: Money
    credit_limit: Money
    status: Literal["active", "closed"]
    blocks: list[BlockAnswer]
    mode: Literal["day", "night"]
    business_date: date
    epoch: int
    sequence: int | None
    as_of: datetime


class HoldAnswer(Answer):
    """A hold as it is now."""

    hold_id: UUID
    account: str
    currency: str
    amount: Money
    captured: Money
    released: Money
    remaining: Money
    status: HoldStatus
    kind: str
    expires_at: datetime | None
    reference: str | None
    narrative: str | None
    actor: str | None
    original_amount: Money | None
    original_currency: str | None
    available_after: Money
    sequence: int
    epoch: int
    created_at: datetime


class SideAnswer(Answer):
    """What the posting left of a customer's account; null on the bank's own."""

    available_after: Money | None
    sequence: int | None


class PostingAnswer(Answer):
    """A posting as it is now."""

    posting_id: UUID
    type: PostingType
    debit_account: str
    credit_account: str
    amount: Money
    currency: str
    packet: str | None
    straight_through: bool
    status: PostingStatus
    check: Check
    value_date: date
    valid_from: datetime
    link_id: UUID | None
    reference: str | None
    narrative: str | None
    actor: str | None
    debit: SideAnswer
    credit: SideAnswer
    epoch: int
    created_at: datetime


class CaptureAnswer(PostingAnswer):
    """The posting of a capture, and what it left of the hold."""

    hold: HoldAnswer


class HoldMovement(HoldAnswer):
    """A hold among an account's movements."""

    movement: Literal["hold"]


class PostingMovement(PostingAnswer):
    """A posting among an account's movements."""

    movement: Literal["posting"]


class PageAnswer(Answer):
    """A page of a list; without a token it is the last."""

    next_page_token: str | None = None


class HoldsAnswer(PageAnswer):
    """An account's holds, the newest first."""

    items: list[HoldAnswer]


class MovementsAnswer(PageAnswer):
    """An account's movements, the newest first."""

    items: list[Annotated[HoldMovement | PostingMovement, Field(discriminator="movement")]]


class PostingsAnswer(PageAnswer):
    """The postings of a packet, the newest first."""

    items: list[PostingAnswer]


class CountsAnswer(Answer):
    """A packet's postings, by status."""

    pending: int
    awaiting_acceptance: int
    booked: int
    problem: int
    cancelled: int


class RunAnswer(Answer):
    """One unload of a packet."""

    number: int
    at: datetime
    booked: int
    problems: int
    accepted: bool
    status: RunStatus


class PacketAnswer(Answer):
    """A packet, its totals by currency, and its newest unloads."""

    packet: str
    client: str
    status: Literal["open", "awaiting_acceptance", "problems", "booked"]
    totals: dict[str, Money]
    counts: CountsAnswer
    unloads: list[RunAnswer]
    created_at: datetime


class PacketsAnswer(PageAnswer):
    """A client's packets, by name."""

    items: list[PacketAnswer]


class FaultAnswer(Answer):
    """A posting that the core could not book, and why."""

    posting_id: UUID
    code: ProblemCode
    detail: str | None


class UnloadAnswer(Answer):
    """What a run did; `problems` shows the first thousand of `problems_total`."""

    packet: str
    number: int
    status: RunStatus
    booked: int
    problems: list[FaultAnswer]
    problems_total: int


class OpenProblemAnswer(Answer):
    """A posting that the core could not book, and how that was settled, if it was."""

    posting_id: UUID
    client: str
    packet: str
    number: int
    status: Literal["open", "resolved"]
    code: ProblemCode
    detail: str | None
    debit_account: str
    credit_account: str
    amount: Money
    currency: str
    raised_at: datetime
    resolved_at: datetime | None
    action: ProblemAction | None
    reason: str | None
    resolved_by: str | None
    actor: str | None


class ProblemsAnswer(PageAnswer):
    """Problems, the oldest first."""

    items: list[OpenProblemAnswer]


class SettledAnswer(Answer):
    """How, why and by whom a problem was settled."""

    posting_id: UUID
    action: ProblemAction
    reason: str
    resolved_by: str
    actor: str | None
    resolved_at: datetime


class ResolvedAnswer(Answer):
    """The posting as it is now, and how its problem was settled."""

    posting: PostingAnswer
    problem: SettledAnswer


class NightCopyAnswer(Answer):
    """Whether the copy that serves by night says what the core says, and what it lacks."""

    exact: bool
    changed_keys: int
    copied_at: datetime | None


class UnfinishedAnswer(Answer):
    """A packet that owes the core something; null: postings that have no packet yet."""

    client: str
    packet: str | None
    status: Literal["open", "awaiting_acceptance", "problems"]


class BelowLimitAnswer(Answer):
    """An account that the core's own bookings of the last night left below its limit."""

    account: str
    available: Money
    credit_limit: Money


class BusinessDayAnswer(Answer):
    """How the day stands; dates are null while the core shows none."""

    mode: Literal["day", "night"]
    business_date: date | None
    next_business_date: date | None
    epoch: int
    since: datetime
    night_copy: NightCopyAnswer
    unloading: int
    unfinished_packets: list[UnfinishedAnswer]
    accounts_below_limit: list[BelowLimitAnswer]


class ProblemAnswer(BaseModel):
    """RFC 9457, with the code of the refusal and what helps (account, available, errors, ...)."""

    model_config = ConfigDict(extra="allow")

    type: Annotated[str, Field(pattern=r"^urn:ni:problem:[a-z_]+$")]
    title: str
    status: int
    code: str
    detail: str | None = None


class ResultAnswer(Answer):
    """What became of a batch's item; `body` is what the item alone would have been answered."""

    status: int
    replayed: bool
    body: CaptureAnswer | PostingAnswer | HoldAnswer | ProblemAnswer


class BatchAnswer(Answer):
    """The results of a batch, in the order of its items."""

    results: list[ResultAnswer]
    approved: int
    refused: int


def schema_of(answer: Any) -> dict[str, Any]:
    """The JSON schema of an answer, with its definitions in `$defs`."""
    return TypeAdapter(answer).json_schema(mode="serialization")


PROBLEM_SCHEMA: Final = ProblemAnswer.model_json_schema()
