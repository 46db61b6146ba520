"""Postings: create, cancel, read."""

from __future__ import annotations

from typing import Literal

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
    Identifier,
    Instant,
    Narrative,
    Override,
    PacketName,
    Reason,
    Reference,
)
from api.problems import ProblemError
from api.replies import Reply
from ni.commands import CancelPosting, CreatePosting
from ni.decisions import Decision
from ni.documents import posting_document
from ni.money import parse_amount

PostingType = Literal["TRANSFER", "DEPOSIT", "WITHDRAWAL", "FEE", "INTEREST", "FX", "OTHER"]


class Grouping(Body):
    """How a posting reaches the core: in a packet that the client names, or straight through."""

    packet: PacketName | None = None
    straight_through: bool = False

    @model_validator(mode="after")
    def _exactly_one(self) -> Grouping:
        if (self.packet is None) is not self.straight_through:
            raise ValueError("exactly one of packet and straight_through is needed")
        return self


class PostingBody(Grouping):
    """A posting to create."""

    debit_account: AccountName
    credit_account: AccountName
    amount: AmountText
    currency: Currency
    type: PostingType = "TRANSFER"
    check: Check = "available"
    value_date: DateText | None = None
    valid_from: Instant | None = None
    link_id: Identifier | None = None
    reference: Reference | None = None
    narrative: Narrative | None = None
    actor: Actor | None = None
    override: Override | None = None


class CancelBody(Body):
    """Why a posting is taken back."""

    reason: Reason
    check: Check = "available"
    actor: Actor | None = None


def minor_amount(amount: str, currency: str) -> int:
    """Minor units of a body's amount. Raises ProblemError that names the field."""
    try:
        return parse_amount(amount, currency)
    except ValueError as error:
        errors = [{"field": "amount", "message": str(error)}]
        raise ProblemError(Decision.validation_failed, errors=errors) from error


def posting_command(client: Client, key: str, body: PostingBody) -> CreatePosting:
    """The command of a posting. Raises ProblemError for a scope or value that does not fit."""
    if body.check == "none":
        client.require("force")
    if body.override is not None:
        client.require("override")
    if body.debit_account == body.credit_account:
        raise ProblemError(Decision.same_account, account=body.debit_account)
    amount = minor_amount(body.amount, body.currency)
    legal_reference = body.override.legal_reference if body.override else None
    fields = (
        body.debit_account,
        body.credit_account,
        amount,
        body.currency,
        body.packet,
        body.straight_through,
        body.type,
        body.check,
        body.value_date,
        body.valid_from,
        body.link_id,
        body.reference,
        body.narrative,
        body.actor,
        legal_reference,
    )
    return CreatePosting(
        client=client.name,
        key=key,
        fingerprint=fingerprint("posting", *fields),
        any_client=client.is_admin,
        debit_account=body.debit_account,
        credit_account=body.credit_account,
        amount=amount,
        currency=body.currency,
        packet=body.packet,
        straight_through=body.straight_through,
        type=body.type,
        check=body.check,
        value_date=body.value_date,
        valid_from=body.valid_from,
        link_id=body.link_id,
        reference=body.reference,
        narrative=body.narrative,
        actor=body.actor,
        legal_reference=legal_reference,
    )


async def create_posting(call: Call) -> Reply:
    """POST /v1/postings."""
    client = await call.authenticate("posting")
    key = call.idempotency_key()
    command = posting_command(client, key, await call.body(PostingBody))
    return await call.decide(command, 201)


async def cancel_posting(call: Call) -> Reply:
    """POST /v1/postings/{id}/cancel."""
    client = await call.authenticate("cancel")
    key = call.idempotency_key()
    posting_id = call.identifier(Decision.posting_not_found)
    body = await call.body(CancelBody)
    if body.check == "none":
        client.require("force")
    command = CancelPosting(
        client=client.name,
        key=key,
        fingerprint=fingerprint("cancel", posting_id, body.reason, body.check, body.actor),
        any_client=client.is_admin,
        posting_id=posting_id,
        reason=body.reason,
        check=body.check,
        actor=body.actor,
    )
    return await call.decide(command, 200)


async def read_posting(call: Call) -> Reply:
    """GET /v1/postings/{id}."""
    client = await call.authenticate("read_posting")
    posting_id = call.identifier(Decision.posting_not_found)
    posting = await call.services.reads.posting(posting_id)
    if posting is None or not (client.is_admin or posting.client == client.name):
        raise ProblemError(Decision.posting_not_found)
    return Reply(200, posting_document(posting).encode())
