"""One call: who calls, with which key, and the body, checked before anything is decided."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Callable
from hashlib import blake2b
from typing import TYPE_CHECKING, Any, Final, ParamSpec, TypeVar
from urllib.parse import parse_qsl

from pydantic import BaseModel, ValidationError
from starlette.requests import ClientDisconnect
from starlette.types import Receive, Scope

from api.clients import Client
from api.problems import PROBLEMS, ProblemError, refusal_body
from api.replies import JSON, PROBLEM_JSON, REPLAYED, Reply
from ni.batch_state import Answer
from ni.commands import Command
from ni.decisions import Decision
from ni.identifiers import parse_id

if TYPE_CHECKING:
    from uuid import UUID

    from api.services import Services

_KEY: Final = re.compile(rb"[!-~]{1,64}")
_ERRORS_MAX: Final = 20
_OFF_LOOP_BYTES: Final = 65_536
_Arguments = ParamSpec("_Arguments")
_Result = TypeVar("_Result")
_BodyModel = TypeVar("_BodyModel", bound=BaseModel)


class Call:
    """A request on its way to an endpoint."""

    __slots__ = ("_headers", "_query", "_receive", "client", "parameters", "services")

    def __init__(
        self, services: Services, scope: Scope, receive: Receive, parameters: dict[str, str]
    ) -> None:
        self.services = services
        self.parameters = parameters
        self.client: Client
        self._headers: list[tuple[bytes, bytes]] = scope["headers"]
        self._query: bytes = scope["query_string"]
        self._receive = receive

    def header(self, name: bytes) -> bytes | None:
        """A header's value, or None; a header that comes twice is refused."""
        found = None
        for header, value in self._headers:
            if header == name:
                if found is not None:
                    raise ProblemError(Decision.validation_failed, f"{name.decode()} comes twice")
                found = value
        return found

    async def authenticate(self, operation: str) -> Client:
        """The client, which may do `operation`. Raises ProblemError."""
        self.client = await self.services.clients.find(self.header(b"authorization"))
        if not await self.services.rate_limit.admits(self.client.name):
            raise ProblemError(Decision.rate_limited)
        self.client.require(operation)
        return self.client

    def idempotency_key(self) -> str:
        """The key of this request. Raises ProblemError."""
        keys = [value for name, value in self._headers if name == b"idempotency-key"]
        if not keys:
            raise ProblemError(Decision.idempotency_key_missing)
        if len(keys) > 1 or not _KEY.fullmatch(keys[0]):
            raise ProblemError(
                Decision.idempotency_key_invalid, "it takes one key of 1 to 64 characters ! to ~"
            )
        return keys[0].decode()

    def identifier(self, missing: Decision) -> UUID:
        """The id in the path; a malformed one is a movement that does not exist."""
        found = parse_id(self.parameters["id"])
        if found is None:
            raise ProblemError(missing)
        return found

    async def body(self, model: type[_BodyModel]) -> _BodyModel:
        """The body as `model`; an empty one has no fields.

        Raises ProblemError with errors[] naming the fields.
        """
        raw = await self.raw_body(self.services.settings.body_max_bytes)
        return parse_body(raw or b"{}", model)

    async def raw_body(self, limit: int) -> bytes:
        """The body's bytes, at most `limit`. Raises ProblemError."""
        return await self._read(limit, self.services.settings.body_timeout_ms)

    def query(self, *known: str) -> dict[str, str]:
        """The known query parameters; one that comes twice or has a NUL is refused."""
        found: dict[str, str] = {}
        try:
            pairs = parse_qsl(self._query.decode(), keep_blank_values=True, errors="strict")
        except ValueError as error:
            raise ProblemError(Decision.validation_failed, "the query is not UTF-8") from error
        for name, value in pairs:
            if name in found or "\0" in value:
                raise ProblemError(Decision.validation_failed, "a parameter is malformed")
            if name in known:
                found[name] = value
        return found

    async def decide(self, command: Command, created: int) -> Reply:
        """Submit a command; the reply is sent after its commit."""
        return self.reply_to(await self.services.engine.submit(command), created)

    def reply_to(self, answer: Answer, created: int) -> Reply:
        """The reply to an answer of the engine: `created` is the status of an approval."""
        headers = (REPLAYED,) if answer.replayed else ()
        if answer.decision is Decision.approved:
            return Reply(created, answer.document.encode(), JSON, headers)
        status = PROBLEMS[answer.decision][0]
        body = refusal_body(answer.decision, answer.document)
        return Reply(status, body, PROBLEM_JSON, headers)

    async def _read(self, limit: int, timeout_ms: int) -> bytes:
        length = self.header(b"content-length")
        if length is not None and length.isdigit() and int(length[:20]) > limit:
            raise ProblemError(Decision.body_too_large, f"a body has at most {limit} bytes")
        limit_of_time = _TimeLimit(timeout_ms)
        try:
            return await self._read_all(limit)
        except asyncio.CancelledError:
            if limit_of_time.has_passed():
                detail = "the body did not arrive"
                raise ProblemError(Decision.validation_failed, detail) from None
            raise
        finally:
            limit_of_time.end()

    async def _read_all(self, limit: int) -> bytes:
        chunks: list[bytes] = []
        size = 0
        while True:
            message = await self._receive()
            if message["type"] == "http.disconnect":
                raise ClientDisconnect
            chunk: bytes = message.get("body", b"")
            size += len(chunk)
            if size > limit:
                raise ProblemError(Decision.body_too_large, f"a body has at most {limit} bytes")
            if not message.get("more_body", False):
                return b"".join((*chunks, chunk)) if chunks else chunk
            chunks.append(chunk)


class _TimeLimit:
    """Cancels the running task after some milliseconds.

    What `asyncio.timeout` does, at a quarter of its price: every request with a body has one.
    """

    __slots__ = ("_passed", "_task", "_timer")

    def __init__(self, milliseconds: int) -> None:
        task = asyncio.current_task()
        assert task is not None, "a request has a task of its own"
        self._task = task
        self._passed = False
        loop = asyncio.get_running_loop()
        self._timer = loop.call_later(milliseconds / 1000, self._pass)

    def _pass(self) -> None:
        self._passed = True
        self._task.cancel()

    def has_passed(self) -> bool:
        """Whether it was this limit that cancelled the task, and nobody else besides."""
        return self._passed and self._task.uncancel() == 0

    def end(self) -> None:
        """The limit does not matter any more."""
        self._timer.cancel()


async def off_loop(
    size: int, work: Callable[_Arguments, _Result], *args: _Arguments.args, **kw: _Arguments.kwargs
) -> _Result:
    """Run `work` on a body of `size` bytes beside the event loop when it is large.

    Lanes hold locks while the loop is busy, so a large body must not be parsed on it.
    """
    if size > _OFF_LOOP_BYTES:
        return await asyncio.to_thread(work, *args, **kw)
    return work(*args, **kw)


def parse_body(raw: bytes, model: type[_BodyModel]) -> _BodyModel:
    """`raw` as strict JSON in UTF-8, then as `model`. Raises ProblemError."""
    try:
        parsed = _DECODER.decode(raw.decode())
    except (ValueError, RecursionError) as error:
        detail = str(error) if isinstance(error, _RefusedJsonError) else "the body is not JSON"
        raise ProblemError(Decision.validation_failed, detail) from error
    try:
        return model.model_validate(parsed)
    except ValidationError as error:
        raise ProblemError(Decision.validation_failed, errors=_errors(error)) from error


class _RefusedJsonError(ValueError):
    """JSON that parsers read in different ways."""


def _unique_object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise _RefusedJsonError("the body has a key twice in one object")
    return found


def _no_constant(_text: str) -> Any:
    raise _RefusedJsonError("the body has a number that JSON does not know")


_DECODER: Final = json.JSONDecoder(object_pairs_hook=_unique_object, parse_constant=_no_constant)


def _errors(error: ValidationError) -> list[dict[str, str]]:
    """What is wrong and where; never the value itself, which may be a secret."""
    found = error.errors(include_url=False, include_context=False, include_input=False)
    return [
        {"field": ".".join(map(str, e["loc"])), "message": e["msg"].removeprefix("Value error, ")}
        for e in found[:_ERRORS_MAX]
    ]


def fingerprint(*parts: object) -> bytes:
    """What makes two requests the same one: the operation and its parsed fields."""
    return blake2b(repr(parts).encode("utf-8", "backslashreplace"), digest_size=16).digest()
