"""A real HTTP server in place of an SMS gateway, which can fail in every way that one can."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, Final

HEAD_MAX: Final = 65_536


@dataclass(frozen=True)
class Received:
    """A request as it came in."""

    id: str
    to: str
    text: str
    headers: dict[str, str]
    at: float


@dataclass(frozen=True)
class Reply:
    """What to answer. `body` None: the id, as a gateway accepts. `cut`: bytes, then hang up."""

    status: int = 200
    body: bytes | None = None
    headers: dict[str, str] = field(default_factory=dict)
    delay_s: float = 0
    cut: int | None = None
    drip_s: float = 0


Behaviour = Callable[[Received], Reply]


def accept(_: Received) -> Reply:
    """A gateway in order."""
    return Reply()


class GatewayServer:
    """Keeps what it received, in order, and answers as `behaviour` says."""

    def __init__(self) -> None:
        self.received: list[Received] = []
        self.behaviour: Behaviour = accept
        self.port = 0
        self.at_once = 0
        self.most_at_once = 0
        self._server: asyncio.Server | None = None
        self._busy: set[asyncio.Task[None]] = set()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/messages"

    async def start(self) -> None:
        """Listen, on the port of last time if there was one."""
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", self.port)
        self.port = self._server.sockets[0].getsockname()[1]

    async def stop(self) -> None:
        """Go away with all connections, as a dead process does."""
        if self._server is None:
            return
        self._server.close()
        for task in list(self._busy):
            task.cancel()
        await asyncio.gather(*self._busy, return_exceptions=True)
        await self._server.wait_closed()
        self._server = None

    def texts(self, account_mark: str = "") -> list[str]:
        """The texts in the order of their first arrival, those with a mark in them."""
        first = {one.id: one.text for one in reversed(self.received)}
        order = dict.fromkeys(one.id for one in self.received)
        return [first[id_] for id_ in order if account_mark in first[id_]]

    def changed(self) -> set[str]:
        """Ids that came with different texts or to different phones: there must be none."""
        seen: dict[str, set[tuple[str, str]]] = {}
        for one in self.received:
            seen.setdefault(one.id, set()).add((one.text, one.to))
        return {id_ for id_, kinds in seen.items() if len(kinds) > 1}

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._busy.add(task)
        try:
            while await self._one(reader, writer):
                pass
        except (ConnectionError, asyncio.IncompleteReadError, asyncio.CancelledError):
            pass
        finally:
            self._busy.discard(task)
            writer.close()

    async def _one(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        head = (await reader.readuntil(b"\r\n\r\n")).decode()
        lines = head.split("\r\n")
        headers = {
            name.lower(): value.strip()
            for name, _, value in (line.partition(":") for line in lines[1:] if line)
        }
        body: dict[str, Any] = json.loads(await reader.readexactly(int(headers["content-length"])))
        received = Received(
            headers["idempotency-key"], body["to"], body["text"], headers, time.monotonic()
        )
        assert body["id"] == received.id
        self.received.append(received)
        self.at_once += 1
        self.most_at_once = max(self.most_at_once, self.at_once)
        try:
            return await self._answer(received, writer)
        finally:
            self.at_once -= 1

    async def _answer(self, received: Received, writer: asyncio.StreamWriter) -> bool:
        reply = self.behaviour(received)
        await asyncio.sleep(reply.delay_s)
        body = reply.body
        if body is None:
            body = json.dumps({"id": received.id}).encode() if reply.status < 300 else b""
        length = reply.headers.get("Content-Length", str(len(body)))
        lines = [f"HTTP/1.1 {reply.status} X", f"Content-Length: {length}"]
        lines += [f"{k}: {v}" for k, v in reply.headers.items() if k != "Content-Length"]
        answer = "\r\n".join((*lines, "", "")).encode() + body
        for byte in answer if reply.drip_s else ():
            writer.write(bytes([byte]))
            await writer.drain()
            await asyncio.sleep(reply.drip_s)
        if not reply.drip_s:
            writer.write(answer if reply.cut is None else answer[: reply.cut])
        await writer.drain()
        return reply.cut is None


@asynccontextmanager
async def gateway_server() -> AsyncIterator[GatewayServer]:
    """A gateway that listens while the block lasts."""
    server = GatewayServer()
    await server.start()
    try:
        yield server
    finally:
        await server.stop()
