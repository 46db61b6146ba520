"""A small HTTP/1.1 client on kept-alive connections.

The tests send hundreds of thousands of requests; with a general client four fifths of the
processor time went into the client. It also sends header bytes that a general client refuses to
send, which is what the hostile tests want.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict, deque
from collections.abc import Sequence
from types import TracebackType
from typing import Final, Self
from urllib.parse import urlsplit

NO_ANSWER: Final = (OSError, EOFError, TimeoutError)
"""What `Wire.request` raises when no answer came; whether the server acted is not known then."""

IDLE_SECONDS: Final = 2.0
"""A connection that was idle for longer is not used again: the server closes it after five."""

Headers = dict[str, str]
Connection = tuple[asyncio.StreamReader, asyncio.StreamWriter]
Reply = tuple[int, Headers, bytes]


class Wire:
    """At most `connections` requests at once, each answered within `timeout_seconds`."""

    def __init__(self, connections: int, timeout_seconds: float) -> None:
        self._room = asyncio.Semaphore(connections)
        self._timeout_seconds = timeout_seconds
        self._idle: defaultdict[tuple[str, int], deque[tuple[float, Connection]]] = defaultdict(
            deque
        )

    async def request(
        self, method: str, url: str, headers: Sequence[tuple[bytes, bytes]], content: bytes
    ) -> Reply:
        """Status, headers (names in small letters) and body. Raises one of NO_ANSWER."""
        parts = urlsplit(url)
        place = (parts.hostname or "", parts.port or 80)
        target = f"{parts.path}?{parts.query}" if parts.query else parts.path
        lines = [f"{method} {target} HTTP/1.1\r\nHost: {place[0]}:{place[1]}\r\n".encode()]
        lines += [name + b": " + value + b"\r\n" for name, value in headers]
        lines.append(b"Content-Length: %d\r\n\r\n" % len(content))
        async with self._room, asyncio.timeout(self._timeout_seconds):
            connection = await self._connect(place)
            try:
                connection[1].write(b"".join(lines) + content)
                status, found, body = await read_reply(connection[0], method)
            except BaseException:
                connection[1].transport.abort()
                raise
        if found.get("connection") == "close":
            connection[1].close()
        else:
            self._idle[place].append((asyncio.get_running_loop().time(), connection))
        return status, found, body

    async def _connect(self, place: tuple[str, int]) -> Connection:
        idle = self._idle[place]
        now = asyncio.get_running_loop().time()
        while idle:
            since, (reader, writer) = idle.pop()
            if now - since < IDLE_SECONDS and not reader.at_eof() and not writer.is_closing():
                return reader, writer
            writer.close()
        return await asyncio.open_connection(*place)

    async def aclose(self) -> None:
        """Close every connection."""
        for idle in self._idle.values():
            for _, (_, writer) in idle:
                writer.transport.abort()
        self._idle.clear()
        await asyncio.sleep(0)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.aclose()


async def read_reply(reader: asyncio.StreamReader, method: str) -> Reply:
    """One response with a Content-Length; NI sends no other kind."""
    head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
    headers: Headers = {}
    for line in head[1:-2]:
        name, _, value = line.partition(":")
        headers[name.lower()] = value.strip()
    status = int(head[0].split(" ", 2)[1])
    if status in (204, 304) or method == "HEAD":
        return status, headers, b""
    return status, headers, await reader.readexactly(int(headers["content-length"]))
