"""A client system that calls NI over HTTP, as one of the bank's systems would."""

from __future__ import annotations

import itertools
import json
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlencode
from uuid import uuid4

from tests.support.wire import Headers, Wire

_RUN = uuid4().hex[:12]
_numbers = itertools.count()


def fresh_key() -> str:
    """An idempotency key that no other call of any test uses."""
    return f"{_RUN}-{next(_numbers)}"


@dataclass(frozen=True)
class Answer:
    """What came back: status, bytes and the headers that matter."""

    status: int
    content: bytes
    headers: Headers

    @property
    def body(self) -> dict[str, Any]:
        """The JSON object of the answer."""
        parsed = json.loads(self.content)
        assert isinstance(parsed, dict), self.content[:200]
        return parsed

    @property
    def code(self) -> str | None:
        """The code of a problem document; None for an approval."""
        return self.body.get("code") if self.status >= 400 else None

    @property
    def replayed(self) -> bool:
        return bool(self.headers.get("idempotent-replayed") == "true")


def assert_problem(answer: Answer, code: str | None = None) -> None:
    """The answer is a problem document of RFC 9457 as api.md describes it."""
    assert 400 <= answer.status < 600, (answer.status, answer.content[:300])
    kind = answer.headers.get("content-type", "")
    assert kind.split(";")[0] == "application/problem+json", (kind, answer.content[:300])
    body = answer.body
    assert body["status"] == answer.status
    assert body["type"] == f"urn:ni:problem:{body['code']}"
    assert isinstance(body["title"], str)
    assert body["title"]
    assert isinstance(body["detail"], str)
    if code is not None:
        assert body["code"] == code, body


class Caller:
    """Calls with one client's key; `http` may serve several callers."""

    def __init__(self, http: Wire, base_url: str, api_key: str) -> None:
        self._http = http
        self._base_url = base_url.rstrip("/")
        self._bearer = {"Authorization": f"Bearer {api_key}"}

    def over(self, http: Wire) -> Caller:
        """The same client on other connections."""
        caller = Caller(http, self._base_url, "")
        caller._bearer = self._bearer
        return caller

    @property
    def bearer(self) -> str:
        """What its requests say in the header Authorization."""
        return self._bearer["Authorization"]

    async def post(self, path: str, body: object, key: str | None = None) -> Answer:
        """POST a JSON body; without `key` a fresh idempotency key is used."""
        return await self.send(path, json.dumps(body).encode(), key or fresh_key())

    async def send(self, path: str, content: bytes, key: str) -> Answer:
        """POST exactly these bytes under this idempotency key."""
        headers = {"Content-Type": "application/json", "Idempotency-Key": key}
        return await self.raw("POST", path, content, headers)

    async def get(self, path: str, **params: str | int) -> Answer:
        """GET with query parameters."""
        return await self.raw("GET", f"{path}?{urlencode(params)}" if params else path)

    async def raw(
        self, method: str, path: str, content: bytes = b"", headers: dict[str, str] | None = None
    ) -> Answer:
        """Any request; `headers` come on top of the client's key and may replace it."""
        wanted = self._bearer | (headers or {})
        encoded = [(name.encode(), value.encode("latin-1")) for name, value in wanted.items()]
        status, found, body = await self._http.request(
            method, self._base_url + path, encoded, content
        )
        return Answer(status, body, found)


def http_client(connections: int = 64, timeout_seconds: float = 30.0) -> Wire:
    """A pool of connections kept open, as a busy client system has it."""
    return Wire(connections, timeout_seconds)
