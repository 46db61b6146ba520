"""One kept connection to NI's REST door, as a client system has it.

The standard library's client costs a fraction of a full asynchronous one: a replay shall measure NI
and not itself.
"""

from __future__ import annotations

import json
import socket
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from http.client import (
    HTTPConnection,
    HTTPException,
    HTTPResponse,
    HTTPSConnection,
    IncompleteRead,
)
from typing import Final
from urllib.parse import urlsplit

from ni.clock import monotonic
from ni.errors import NiError

ANSWER_BYTES_MAX: Final = 1 << 24


class NoAnswer(Exception):
    """The request was not answered: not connected, broken off, or too late."""


@dataclass(frozen=True, slots=True)
class Reply:
    """What came back: status, content, the two headers that matter, microseconds it took."""

    status: int
    content: bytes
    replayed: bool
    retry_after: str
    latency_us: int


class RestClient:
    """NI at `base_url` with a client's key; an answer must come within `timeout_s`.

    For one thread, but `hang_up`. Raises NiError when `base_url` is no address.
    """

    def __init__(self, base_url: str, api_key: str, *, timeout_s: float) -> None:
        address = urlsplit(base_url)
        if address.scheme not in ("http", "https") or not address.hostname:
            raise NiError(f"{base_url!r} is not an address such as http://127.0.0.1:8080")
        kind = HTTPSConnection if address.scheme == "https" else HTTPConnection
        self._connection = kind(address.hostname, address.port, timeout=timeout_s)
        self._prefix = address.path.rstrip("/")
        self._headers = {"Authorization": f"Bearer {api_key}"}

    def send(
        self,
        method: str,
        path: str,
        body: Mapping[str, object] | None = None,
        key: str | None = None,
    ) -> Reply:
        """One request, tried once. Raises NoAnswer when nothing or no HTTP came back."""
        headers = dict(self._headers)
        content = None
        if body is not None:
            content = json.dumps(body).encode()
            headers["Content-Type"] = "application/json"
        if key is not None:
            headers["Idempotency-Key"] = key
        started = monotonic()
        try:
            self._connection.request(method, self._prefix + path, content, headers)
            response = self._connection.getresponse()
            answer = _content(response)
        except (OSError, HTTPException) as error:
            self._connection.close()
            raise NoAnswer(f"{type(error).__name__}: {error}") from error
        return _reply(response, answer, int((monotonic() - started) * 1_000_000))

    def hang_up(self) -> None:
        """From any thread: a request that still waits ends without an answer."""
        if self._connection.sock is not None:
            with suppress(OSError):
                self._connection.sock.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        """Close the connection; a later request opens another."""
        self._connection.close()


def _content(response: HTTPResponse) -> bytes:
    """The whole body. One that ends with the connection could be half of it."""
    if response.length is None and not response.chunked:
        raise HTTPException("the answer does not say how long it is")
    content = response.read(ANSWER_BYTES_MAX)
    if response.length:
        raise IncompleteRead(content, response.length)
    return content


def _reply(response: HTTPResponse, content: bytes, latency_us: int) -> Reply:
    return Reply(
        response.status,
        content,
        response.headers.get("Idempotent-Replayed") == "true",
        response.headers.get("Retry-After") or "",
        latency_us,
    )
