"""Holds: create, capture, release, adjust, read."""

from __future__ import annotations

from typing import Literal
from uuid import UUID

from pydantic import model_validator

from api.calls import Call, fingerprint
from api.clients import Client
from api.fields import (
    AccountName,
    Actor,
    AmountText,
    Body,
    Check,
    Currency,
    DateText,
    Instant,
    Narrative,
    Override,
    PositiveAmount,
    Reference,
    canonical_decimal,
)
from api.postings import Grouping, minor_amount
from api.problems import ProblemError
from api.replies import Reply
from ni.commands import UNSET, AdjustHold, CaptureHold, CreateHold, ReleaseHold
from ni.decisions import Decision
from ni.documents import hold_document


class HoldBody(Body):
    """A hold to create."""

    account: AccountName
    amount: AmountText
    currency: Currency
    check: Check = "available"
    kind: Literal["authorization", "arrest", "other"] = "authorization"
    expires_at: Instant | None = None
    reference: Reference | None = None
    narrative: Narrative | None = None
    actor: Actor | None = None
    original_amount: AmountText | None = None
    original_currency: Currency | None = None
    override: Override | None = None

    @model_validator(mode="after")
    def _both_originals(self) -> HoldBody:
        if (self.original_amount is None) is not (self.original_currency is None):
            raise ValueError("original_amount and original_currency come together")
        return self


class CaptureBody(Grouping):
    """What of a hold becomes a posting, and to which account."""

    credit_account: AccountName
    amount: PositiveAmount | None = None
    final: bool = True
    over_capture: Literal["reject", "check", "none"] = "reject"
    value_date: DateText | None = None
    reference: Reference | None = None
    narrative: Narrative | None = None
    actor: Actor | None = None
    override: Override | None = None


class ReleaseBody(Body):
    """What of a hold is given back."""

    amount: PositiveAmount | None = None
    reference: Reference | None = None
    actor: Actor | None = None


class AdjustBody(Body):
    """A hold's new total or expiry; `expires_at` null takes the expiry away."""

    amount: PositiveAmount | None = None
    expires_at: Instant | None = None
    check: Check = "available"
    actor: Actor | None = None

    @model_validator(mode="after")
    def _something(self) -> AdjustBody:
        if self.amount is None and "expires_at" not in self.model_fields_set:
            raise ValueError("amount or expires_at is needed")
        return self


def _canonical(amount: str | None) -> str | None:
    """What makes two amounts the same one before the hold's currency is known."""
    return None if amount is None else canonical_decimal(amount)


def hold_command(client: Client, key: str, body: HoldBody) -> CreateHold:
    """The command of a hold. Raises ProblemError for a scope or value that does not fit."""
    if body.check == "none":
        client.require("force")
    if body.override is not None:
        client.require("override")
    amount = minor_amount(body.amount, body.currency)
    original = None
    if body.original_amount is not None and body.original_currency is not None:
        original = minor_amount(body.original_amount, body.original_currency)
    legal_reference = body.override.legal_reference if body.override else None
    fields = (
        body.account,
        amount,
        body.currency,
        body.check,
        body.kind,
        body.expires_at,
        body.reference,
        body.narrative,
        body.actor,
        original,
        body.original_currency,
        legal_reference,
    )
    return CreateHold(
        client=client.name,
        key=key,
        fingerprint=fingerprint("hold", *fields),
        any_client=client.is_admin,
        account=body.account,
        amount=amount,
        currency=body.currency,
        check=body.check,
        kind=body.kind,
        expires_at=body.expires_at,
        reference=body.reference,
        narrative=body.narrative,
        actor=body.actor,
        original_amount=original,
        original_currency=body.original_currency,
        legal_reference=legal_reference,
    )


def capture_command(client: Client, key: str, hold_id: UUID, body: CaptureBody) -> CaptureHold:
    """The command of a capture. Raises ProblemError for a scope that does not fit."""
    if body.over_capture == "none":
        client.require("force")
    if body.override is not None:
        client.require("override")
    legal_reference = body.override.legal_reference if body.override else None
    fields = (
        hold_id,
        _canonical(body.amount),
        body.credit_account,
        body.packet,
        body.straight_through,
        body.final,
        body.over_capture,
        body.value_date,
        body.reference,
        body.narrative,
        body.actor,
        legal_reference,
    )
    return CaptureHold(
        client=client.name,
        key=key,
        fingerprint=fingerprint("capture", *fields),
        any_client=client.is_admin,
        hold_id=hold_id,
        amount=body.amount,
        credit_account=body.credit_account,
        packet=body.packet,
        straight_through=body.straight_through,
        final=body.final,
        over_capture=body.over_capture,
        value_date=body.value_date,
        reference=body.reference,
        narrative=body.narrative,
        actor=body.actor,
        legal_reference=legal_reference,
    )


def release_command(client: Client, key: str, hold_id: UUID, body: ReleaseBody) -> ReleaseHold:
    """The command of a release."""
    return ReleaseHold(
        client=client.name,
        key=key,
        fingerprint=fingerprint(
            "release", hold_id, _canonical(body.amount), body.reference, body.actor
        ),
        any_client=client.is_admin,
        hold_id=hold_id,
        amount=body.amount,
        reference=body.reference,
        actor=body.actor,
    )


async def create_hold(call: Call) -> Reply:
    """POST /v1/holds."""
    client = await call.authenticate("hold")
    key = call.idempotency_key()
    return await call.decide(hold_command(client, key, await call.body(HoldBody)), 201)


async def capture_hold(call: Call) -> Reply:
    """POST /v1/holds/{id}/capture."""
    client = await call.authenticate("capture")
    key = call.idempotency_key()
    hold_id = call.identifier(Decision.hold_not_found)
    body = await call.body(CaptureBody)
    return await call.decide(capture_command(client, key, hold_id, body), 201)


async def release_hold(call: Call) -> Reply:
    """POST /v1/holds/{id}/release."""
    client = await call.authenticate("release")
    key = call.idempotency_key()
    hold_id = call.identifier(Decision.hold_not_found)
    body = await call.body(ReleaseBody)
    return await call.decide(release_command(client, key, hold_id, body), 200)


async def adjust_hold(call: Call) -> Reply:
    """POST /v1/holds/{id}/adjust."""
    client = await call.authenticate("adjust")
    key = call.idempotency_key()
    hold_id = call.identifier(Decision.hold_not_found)
    body = await call.body(AdjustBody)
    if body.check == "none":
        client.require("force")
    expires_at = body.expires_at if "expires_at" in body.model_fields_set else UNSET
    command = AdjustHold(
        client=client.name,
        key=key,
        fingerprint=fingerprint(
            "adjust", hold_id, _canonical(body.amount), expires_at, body.check, body.actor
        ),
        any_client=client.is_admin,
        hold_id=hold_id,
        amount=body.amount,
        expires_at=expires_at,
        check=body.check,
        actor=body.actor,
    )
    return await call.decide(command, 200)


async def read_hold(call: Call) -> Reply:
    """GET /v1/holds/{id}."""
    client = await call.authenticate("read_hold")
    hold_id = call.identifier(Decision.hold_not_found)
    hold = await call.services.reads.hold(hold_id)
    if hold is None or not (client.is_admin or hold.client == client.name):
        raise ProblemError(Decision.hold_not_found)
    return Reply(200, hold_document(hold).encode())
