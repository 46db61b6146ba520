"""Packets and their problems: read, unload, accept, reject, resolve."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from typing import Final, Literal, TypeVar
from uuid import UUID

from pydantic import model_validator

from api.calls import Call, fingerprint
from api.clients import Client
from api.fields import AccountName, Actor, Body, Check, Reason
from api.paging import invalid, page_of, paged
from api.problems import ProblemError
from api.replies import Reply
from ni.commands import ResolveProblem
from ni.decisions import Decision
from ni.identifiers import parse_id
from ni.packets import Order

_PACKET: Final = re.compile(r"[A-Za-z0-9._-]{1,64}", re.ASCII)
_CLIENT: Final = _PACKET
_POSTING_STATUSES: Final = ("pending", "awaiting_acceptance", "booked", "problem", "cancelled")
_PACKET_STATUSES: Final = ("open", "awaiting_acceptance", "problems", "booked")
_NUMBER_MAX: Final = 2**31 - 1
_FINGERPRINTED: Final = {
    "unload": ("accepted",),
    "accept": ("number", "actor"),
    "reject": ("number", "reason", "actor"),
}
_BodyModel = TypeVar("_BodyModel", bound=Body)


class UnloadBody(Body):
    """Whether the packet counts in the core at once, or waits there for another client."""

    accepted: bool = True


class AcceptBody(Body):
    """Which run to accept; left out: the newest that waits."""

    number: int | None = None
    actor: Actor | None = None

    @model_validator(mode="after")
    def _in_range(self) -> AcceptBody:
        if self.number is not None and not 1 <= self.number <= _NUMBER_MAX:
            raise ValueError("number must be a run's number")
        return self


class RejectBody(AcceptBody):
    """Which run to reject, and why."""

    reason: Reason


class ResolveBody(Body):
    """How to settle a problem; `redirect` names the new account of one side or of both."""

    action: Literal["retry", "cancel", "redirect"]
    reason: Reason
    debit_account: AccountName | None = None
    credit_account: AccountName | None = None
    check: Check = "available"
    actor: Actor | None = None

    @model_validator(mode="after")
    def _accounts_fit(self) -> ResolveBody:
        named = self.debit_account is not None or self.credit_account is not None
        if named is not (self.action == "redirect"):
            raise ValueError("redirect, and only redirect, names an account")
        return self


def _packet(call: Call) -> str:
    packet = call.parameters["packet"]
    if not _PACKET.fullmatch(packet):
        raise ProblemError(Decision.packet_not_found)
    return packet


def _owner(client: Client, query: dict[str, str], *, open_to: str) -> str:
    """Whose packet is meant: one's own, or another's for whoever `open_to` lets."""
    owner = query.get("client", client.name)
    if owner != client.name:
        client.require(open_to)
        if not _CLIENT.fullmatch(owner):
            raise ProblemError(Decision.packet_not_found)
    return owner


async def read_packet(call: Call) -> Reply:
    """GET /v1/packets/{packet}."""
    client = await call.authenticate("read_packet")
    owner = _owner(client, call.query("client"), open_to="other_clients")
    document = await call.services.packet_reads.packet(owner, _packet(call))
    if document is None:
        raise ProblemError(Decision.packet_not_found)
    return Reply(200, document.encode())


async def list_packets(call: Call) -> Reply:
    """GET /v1/packets?status=."""
    client = await call.authenticate("read_packet")
    query = call.query("client", "status", "page_size", "page_token")
    owner = _owner(client, query, open_to="other_clients")
    status = query.get("status")
    if status is not None and status not in _PACKET_STATUSES:
        raise invalid("status", f"must be one of {', '.join(_PACKET_STATUSES)}")
    size, after = page_of(call, query, _name_of)
    documents, last = await call.services.packet_reads.packets(owner, status, after or "", size)
    return paged(documents, None if last is None else last.encode())


async def list_postings(call: Call) -> Reply:
    """GET /v1/packets/{packet}/postings?status=."""
    client = await call.authenticate("read_packet")
    query = call.query("client", "status", "page_size", "page_token")
    owner = _owner(client, query, open_to="other_clients")
    status = query.get("status")
    if status is not None and status not in _POSTING_STATUSES:
        raise invalid("status", f"must be one of {', '.join(_POSTING_STATUSES)}")
    size, before = page_of(call, query, _id_of)
    page = await call.services.packet_reads.postings(owner, _packet(call), status, before, size)
    if page is None:
        raise ProblemError(Decision.packet_not_found)
    return paged(page.documents, None if page.next_id is None else page.next_id.bytes)


async def _ordered(
    call: Call, client: Client, name: str, model: type[_BodyModel], *, open_to: str
) -> tuple[Order, _BodyModel]:
    """What a client asks of a packet, and the body; the fingerprint names `name` and all of it."""
    key = call.idempotency_key()
    owner = _owner(client, call.query("client"), open_to=open_to)
    packet = _packet(call)
    body = await call.body(model)
    fields = (getattr(body, field) for field in _FINGERPRINTED[name])
    order = Order(
        client=owner,
        packet=packet,
        by=client.name,
        key=key,
        fingerprint=fingerprint(name, owner, packet, *fields),
    )
    return order, body


async def unload_packet(call: Call) -> Reply:
    """POST /v1/packets/{packet}/unload."""
    client = await call.authenticate("unload")
    order, body = await _ordered(call, client, "unload", UnloadBody, open_to="other_clients")
    answer = await call.services.packets.unload(order, accepted=body.accepted)
    return call.reply_to(answer, 200)


async def accept_packet(call: Call) -> Reply:
    """POST /v1/packets/{packet}/accept."""
    client = await call.authenticate("accept")
    order, body = await _ordered(call, client, "accept", AcceptBody, open_to="accept")
    return call.reply_to(await call.services.packets.accept(order, body.number, body.actor), 200)


async def reject_packet(call: Call) -> Reply:
    """POST /v1/packets/{packet}/reject."""
    client = await call.authenticate("accept")
    order, body = await _ordered(call, client, "reject", RejectBody, open_to="accept")
    answer = await call.services.packets.reject(order, body.number, body.reason, body.actor)
    return call.reply_to(answer, 200)


async def list_problems(call: Call) -> Reply:
    """GET /v1/problems?status=open&client=."""
    await call.authenticate("problems")
    query = call.query("client", "status", "page_size", "page_token")
    status = query.get("status")
    if status not in (None, "open", "resolved"):
        raise invalid("status", "must be open or resolved")
    size, after = page_of(call, query, _place_of)
    reads = call.services.packet_reads
    documents, last = await reads.problems(query.get("client"), status, after, size)
    return paged(documents, None if last is None else f"{last[0].isoformat()} {last[1]}".encode())


async def resolve_problem(call: Call) -> Reply:
    """POST /v1/problems/{id}/resolve."""
    client = await call.authenticate("problems")
    key = call.idempotency_key()
    posting_id = call.identifier(Decision.posting_not_found)
    body = await call.body(ResolveBody)
    if body.check == "none":
        client.require("force")
    fields = (
        posting_id,
        body.action,
        body.reason,
        body.debit_account,
        body.credit_account,
        body.check,
        body.actor,
    )
    command = ResolveProblem(
        client=client.name,
        key=key,
        fingerprint=fingerprint("resolve", *fields),
        any_client=True,
        posting_id=posting_id,
        action=body.action,
        reason=body.reason,
        debit_account=body.debit_account,
        credit_account=body.credit_account,
        check=body.check,
        actor=body.actor,
    )
    return await call.decide(command, 200)


def _name_of(token: bytes) -> str:
    name = token.decode()
    if not _PACKET.fullmatch(name):
        raise ValueError("no packet's name")
    return name


def _id_of(token: bytes) -> UUID:
    return UUID(bytes=token)


def _place_of(token: bytes) -> tuple[datetime, UUID]:
    instant, _, posting_id = token.decode().partition(" ")
    found, raised_at = parse_id(posting_id), datetime.fromisoformat(instant)
    if found is None or raised_at.tzinfo is None:
        raise ValueError("no problem's place")
    try:
        return raised_at.astimezone(UTC), found
    except OverflowError as error:
        raise ValueError("no year that there is") from error
