"""The replay's HTTP client on real sockets: kept connections, and every way to get no answer."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import closing

import pytest

from ni.errors import NiError
from ni.replay.rest import RestDoor
from ni.rest_client import NoAnswer

Serve = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]
PATH = "/v1/postings"
BODY = {"amount": "1.00"}
ANSWER = (
    b"HTTP/1.1 201 Created\r\nContent-Type: application/json\r\nContent-Length: 2\r\n"
    b"Idempotent-Replayed: true\r\nRetry-After: 7\r\n\r\n{}"
)


class Server:
    """A server of a few lines that does with each connection what a test wants."""

    def __init__(self, serve: Serve) -> None:
        self._serve = serve
        self.connections = 0
        self.requests: list[bytes] = []

    async def __aenter__(self) -> Server:
        self._server = await asyncio.start_server(self._take, "127.0.0.1", 0)
        return self

    async def __aexit__(self, *_: object) -> None:
        self._server.close()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.sockets[0].getsockname()[1]}"

    async def _take(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        try:
            await self._serve(reader, writer)
        finally:
            writer.close()

    async def request(self, reader: asyncio.StreamReader) -> bool:
        """Reads one request; False when the caller has gone."""
        try:
            head = await reader.readuntil(b"\r\n\r\n")
        except asyncio.IncompleteReadError:
            return False
        _, _, length = head.lower().partition(b"content-length: ")
        self.requests.append(head + await reader.readexactly(int(length.split(b"\r\n")[0] or 0)))
        return True


async def test_a_connection_is_kept() -> None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while await server.request(reader):
            writer.write(ANSWER)

    async with Server(serve) as server:
        with closing(RestDoor(server.url + "/prefix/", "ni_key", connections=1)) as door:
            replies = [await door.send("POST", PATH, BODY, f"key-{number}") for number in range(3)]
    assert server.connections == 1
    assert [(one.status, one.content, one.replayed, one.retry_after) for one in replies] == [
        (201, b"{}", True, "7")
    ] * 3
    assert all(one.latency_us > 0 for one in replies)
    head, _, body = server.requests[2].partition(b"\r\n\r\n")
    lines = head.split(b"\r\n")
    assert lines[0] == b"POST /prefix/v1/postings HTTP/1.1"
    for line in (
        b"Authorization: Bearer ni_key",
        b"Idempotency-Key: key-2",
        b"Content-Type: application/json",
    ):
        assert line in lines
    assert body == b'{"amount": "1.00"}'


async def test_a_question_has_neither_body_nor_key() -> None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await server.request(reader)
        writer.write(ANSWER)

    async with Server(serve) as server:
        with closing(RestDoor(server.url, "ni_key", connections=1)) as door:
            assert (await door.send("GET", "/v1/packets", None, None)).status == 201
    head, _, body = server.requests[0].partition(b"\r\n\r\n")
    assert head.startswith(b"GET /v1/packets HTTP/1.1\r\n")
    assert b"Idempotency-Key" not in head
    assert b"Content-Type" not in head
    assert body == b""


@pytest.mark.parametrize(
    "answer",
    [b"", ANSWER[:20], ANSWER[:-1], b"SSH-2.0-OpenSSH\r\n\r\n"],
    ids=["nothing", "half a head", "half a body", "no HTTP"],
)
async def test_what_is_no_answer_and_the_next_try(answer: bytes) -> None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await server.request(reader)
        writer.write(ANSWER if server.connections == 2 else answer)
        await writer.drain()

    async with Server(serve) as server:
        with closing(RestDoor(server.url, "ni_key", connections=1)) as door:
            with pytest.raises(NoAnswer):
                await door.send("POST", PATH, BODY, "key")
            assert (await door.send("POST", PATH, BODY, "key")).status == 201


async def test_nobody_there() -> None:
    with (
        closing(RestDoor("http://127.0.0.1:1", "ni_key", connections=1)) as door,
        pytest.raises(NoAnswer, match="ConnectionRefusedError"),
    ):
        await door.send("POST", PATH, BODY, "key")


async def test_a_server_that_is_silent(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ni.replay.rest.ANSWER_TIMEOUT_S", 0.1)

    async def serve(reader: asyncio.StreamReader, _: asyncio.StreamWriter) -> None:
        while await server.request(reader):
            pass

    async with Server(serve) as server:
        with (
            closing(RestDoor(server.url, "ni_key", connections=1)) as door,
            pytest.raises(NoAnswer, match="TimeoutError"),
        ):
            await door.send("POST", PATH, BODY, "key")


async def test_closing_ends_what_still_waits() -> None:
    waits = asyncio.Event()

    async def serve(reader: asyncio.StreamReader, _: asyncio.StreamWriter) -> None:
        await server.request(reader)
        waits.set()
        await reader.read()

    async with Server(serve) as server:
        door = RestDoor(server.url, "ni_key", connections=1)
        posting = asyncio.create_task(door.send("POST", PATH, BODY, "key"))
        await waits.wait()
        await asyncio.to_thread(door.close)
        with pytest.raises(NoAnswer):
            await posting


@pytest.mark.parametrize("url", ["localhost:8080", "ftp://x", "http://", "8080", ""])
def test_what_is_no_address(url: str) -> None:
    with pytest.raises(NiError, match="is not an address such as"):
        RestDoor(url, "ni_key", connections=1)
