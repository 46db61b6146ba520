"""POST requests to NI's REST door over kept connections, one a thread.

The standard library's client costs a fraction of a full asynchronous one, and a replay shall
measure NI and not itself.
"""

from __future__ import annotations

import asyncio
import json
import socket
import threading
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from http.client import (
    HTTPConnection,
    HTTPException,
    HTTPResponse,
    HTTPSConnection,
    IncompleteRead,
)
from typing import Final, Protocol
from urllib.parse import urlsplit

from ni.clock import monotonic
from ni.errors import NiError

ANSWER_TIMEOUT_S: Final = 30
ANSWER_BYTES_MAX: Final = 1 << 20

_PATH: Final = "/v1/postings"


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


class Door(Protocol):
    """What takes a posting and answers, or raises NoAnswer."""

    async def post(self, body: Mapping[str, str], key: str) -> Reply:
        """One request, tried once."""


class RestDoor:
    """NI at `base_url` with a client's key, at most `connections` requests at once."""

    def __init__(self, base_url: str, api_key: str, *, connections: int) -> None:
        address = urlsplit(base_url)
        if address.scheme not in ("http", "https") or not address.hostname:
            raise NiError(f"{base_url!r} is not an address such as http://127.0.0.1:8080")
        self._kind = HTTPSConnection if address.scheme == "https" else HTTPConnection
        self._host = address.hostname
        self._port = address.port
        self._path = address.path.rstrip("/") + _PATH
        self._headers = {
            "Authorization": f"Bearer {api_key}",
            "Content-Type": "application/json",
        }
        self._threads = ThreadPoolExecutor(connections, "replay")
        self._own = threading.local()
        self._connections: list[HTTPConnection] = []

    async def post(self, body: Mapping[str, str], key: str) -> Reply:
        """One request, tried once. Raises NoAnswer when nothing or no HTTP came back."""
        content = json.dumps(body).encode()
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._threads, self._post, content, key)

    def close(self) -> None:
        """Closes the connections; a request that still waits ends without an answer."""
        for connection in self._connections:
            if connection.sock is not None:
                with suppress(OSError):
                    connection.sock.shutdown(socket.SHUT_RDWR)
        self._threads.shutdown(cancel_futures=True)
        for connection in self._connections:
            connection.close()

    def _post(self, content: bytes, key: str) -> Reply:
        connection = self._connection()
        started = monotonic()
        try:
            connection.request(
                "POST", self._path, content, self._headers | {"Idempotency-Key": key}
            )
            response = connection.getresponse()
            answer = _content(response)
        except (OSError, HTTPException) as error:
            connection.close()
            raise NoAnswer(f"{type(error).__name__}: {error}") from error
        return _reply(response, answer, int((monotonic() - started) * 1_000_000))

    def _connection(self) -> HTTPConnection:
        connection: HTTPConnection | None = getattr(self._own, "connection", None)
        if connection is None:
            connection = self._kind(self._host, self._port, timeout=ANSWER_TIMEOUT_S)
            self._own.connection = connection
            self._connections.append(connection)
        return connection


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
