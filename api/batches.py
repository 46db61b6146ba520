"""Batches: many movements in one request, decided in order."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field

from api.calls import Call, off_loop, parse_body
from api.clients import Client
from api.fields import Body, IdempotencyKey, Identifier
from api.holds import (
    CaptureBody,
    HoldBody,
    ReleaseBody,
    capture_command,
    hold_command,
    release_command,
)
from api.postings import PostingBody, posting_command
from api.problems import ProblemError
from api.replies import Reply
from ni.batch_state import Answer
from ni.commands import CaptureHold, Command, CreateHold, CreatePosting
from ni.decisions import Decision
from ni.settings import Settings


class _Item(Body):
    idempotency_key: IdempotencyKey


class PostingItem(_Item, PostingBody):
    """A posting to create."""

    operation: Literal["posting"]


class HoldItem(_Item, HoldBody):
    """A hold to create."""

    operation: Literal["hold"]


class CaptureItem(_Item, CaptureBody):
    """A hold to capture."""

    operation: Literal["capture"]
    hold_id: Identifier


class ReleaseItem(_Item, ReleaseBody):
    """A hold to release."""

    operation: Literal["release"]
    hold_id: Identifier


Item = Annotated[
    PostingItem | HoldItem | CaptureItem | ReleaseItem, Field(discriminator="operation")
]


class BatchBody(Body):
    """Items decided in order; `atomic`: all of them or none."""

    mode: Literal["independent", "atomic"]
    items: Annotated[list[Item], Field(min_length=1)]


def _command(client: Client, item: Any) -> Command:
    match item:
        case PostingItem():
            client.require("posting")
            return posting_command(client, item.idempotency_key, item)
        case HoldItem():
            client.require("hold")
            return hold_command(client, item.idempotency_key, item)
        case CaptureItem():
            client.require("capture")
            return capture_command(client, item.idempotency_key, item.hold_id, item)
        case _:
            client.require("release")
            return release_command(client, item.idempotency_key, item.hold_id, item)


def _commands(client: Client, items: list[Any]) -> list[Command]:
    commands = []
    for number, item in enumerate(items):
        try:
            commands.append(_command(client, item))
        except ProblemError as error:
            if error.decision is Decision.scope_missing:
                raise
            message = str(error.extra.get("detail") or error.decision.name)
            errors = error.extra.get("errors") or [{"field": "", "message": message}]
            where = [{**e, "field": f"items.{number}.{e['field']}".rstrip(".")} for e in errors]
            raise ProblemError(Decision.validation_failed, errors=where) from error
    return commands


def _parse(raw: bytes, client: Client, settings: Settings) -> tuple[bool, list[Command]]:
    """Whether a batch is atomic, and its commands. Raises ProblemError naming the item."""
    body = parse_body(raw, BatchBody)
    atomic = body.mode == "atomic"
    limit = settings.atomic_items_max if atomic else settings.batch_items_max
    if len(body.items) > limit:
        errors = [{"field": "items", "message": f"has at most {limit} items when {body.mode}"}]
        raise ProblemError(Decision.validation_failed, errors=errors)
    return atomic, _commands(client, body.items)


async def create_batch(call: Call) -> Reply:
    """POST /v1/batches."""
    client = await call.authenticate("batch")
    settings = call.services.settings
    raw = await call.raw_body(settings.batch_body_max_bytes)
    atomic, commands = await off_loop(len(raw), _parse, raw, client, settings)
    answers = await call.services.engine.submit_batch(commands, atomic=atomic)
    return Reply(200, _results(call, commands, answers))


def _results(call: Call, commands: list[Command], answers: list[Answer]) -> bytes:
    results = []
    for command, answer in zip(commands, answers, strict=True):
        creates = isinstance(command, CreatePosting | CreateHold | CaptureHold)
        reply = call.reply_to(answer, 201 if creates else 200)
        replayed = b"true" if answer.replayed else b"false"
        results.append(
            b'{"status":%d,"replayed":%s,"body":%s}' % (reply.status, replayed, reply.body)
        )
    approved = sum(answer.decision is Decision.approved for answer in answers)
    return b'{"results":[%s],"approved":%d,"refused":%d}' % (
        b",".join(results),
        approved,
        len(answers) - approved,
    )
