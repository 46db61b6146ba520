"""What an endpoint returns, and how it is sent."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

from starlette.responses import Response
from starlette.types import Send

from api.problems import PROBLEMS, RETRY_AFTER_S, problem_body
from ni.decisions import Decision

JSON: Final = b"application/json"
PROBLEM_JSON: Final = b"application/problem+json"
REPLAYED: Final = (b"idempotent-replayed", b"true")


@dataclass(slots=True)
class Reply:
    """Status, body and headers of an answer."""

    status: int
    body: bytes
    media_type: bytes = JSON
    headers: tuple[tuple[bytes, bytes], ...] = ()

    async def send(self, send: Send) -> None:
        """Send it over ASGI."""
        headers = [
            (b"content-type", self.media_type),
            (b"content-length", b"%d" % len(self.body)),
            *self.headers,
        ]
        await send({"type": "http.response.start", "status": self.status, "headers": headers})
        await send({"type": "http.response.body", "body": self.body})

    def response(self) -> Response:
        """The same as a response of the web framework."""
        headers = {name.decode(): value.decode() for name, value in self.headers}
        return Response(self.body, self.status, headers, self.media_type.decode())


def problem(decision: Decision, **extra: Any) -> Reply:
    """The reply that carries a problem document."""
    headers: tuple[tuple[bytes, bytes], ...] = ()
    status = PROBLEMS[decision][0]
    if decision in (Decision.overloaded, Decision.rate_limited):
        headers = ((b"retry-after", b"%d" % RETRY_AFTER_S),)
    elif decision is Decision.unauthorized:
        headers = ((b"www-authenticate", b"Bearer"),)
    return Reply(status, problem_body(decision, extra), PROBLEM_JSON, headers)
