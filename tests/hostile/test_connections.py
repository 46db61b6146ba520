"""Connections that a general client would not open: pipelined, half-closed, closed at once."""

from __future__ import annotations

import asyncio
from urllib.parse import urlsplit

import pytest

from tests.hostile.scene import BODY_TIMEOUT_MS, Scene
from tests.support.wire import read_reply

pytestmark = pytest.mark.asyncio(loop_scope="module")

PROBE = b"GET /healthz HTTP/1.1\r\nHost: ni\r\n%s\r\n"


async def _connect(scene: Scene) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    place = urlsplit(scene.api.base_url)
    return await asyncio.open_connection(place.hostname, place.port)


async def test_an_answer_leaves_in_one_piece(scene: Scene) -> None:
    """Head and body are one write, so one read finds both."""
    reader, writer = await _connect(scene)
    whole = 0
    for _ in range(50):
        writer.write(PROBE % b"")
        data = await asyncio.wait_for(reader.read(65_536), 5)
        head, body = data.split(b"\r\n\r\n", 1)
        length = int(head.lower().split(b"content-length: ")[1].split(b"\r\n")[0])
        whole += len(body) == length
        await reader.readexactly(length - len(body))
    writer.close()
    assert whole == 50


async def test_pipelined_requests_are_answered_in_order(scene: Scene) -> None:
    reader, writer = await _connect(scene)
    paths = [b"/healthz", b"/nowhere", b"/healthz", b"/v1/batches", b"/healthz"]
    writer.write(b"".join(b"GET %s HTTP/1.1\r\nHost: ni\r\n\r\n" % path for path in paths))
    found = [(await asyncio.wait_for(read_reply(reader, "GET"), 5))[0] for _ in paths]
    writer.close()
    assert found == [200, 404, 200, 405, 200]


async def test_a_last_answer_arrives_before_the_end(scene: Scene) -> None:
    reader, writer = await _connect(scene)
    writer.write(PROBE % b"Connection: close\r\n")
    status, headers, body = await asyncio.wait_for(read_reply(reader, "GET"), 5)
    assert (status, headers["connection"]) == (200, "close")
    assert body
    assert await asyncio.wait_for(reader.read(), 5) == b""
    writer.close()


async def test_who_leaves_before_the_answer_disturbs_nobody(scene: Scene) -> None:
    for _ in range(20):
        _reader, writer = await _connect(scene)
        writer.write(PROBE % b"")
        writer.transport.abort()
    reader, writer = await _connect(scene)
    writer.write(PROBE % b"")
    assert (await asyncio.wait_for(read_reply(reader, "GET"), 5))[0] == 200
    writer.close()


async def test_a_body_that_does_not_arrive_is_not_waited_for(scene: Scene) -> None:
    """Not all of it, a part every now and then, or nothing: the time is the whole body's."""
    head = (
        b"POST /v1/postings HTTP/1.1\r\nHost: ni\r\nAuthorization: %s\r\n"
        b"Idempotency-Key: slow-%d\r\nContent-Length: 200\r\n\r\n"
    )
    bearer = scene.client.bearer.encode()
    slow = [await _connect(scene) for _ in range(3)]
    for number, (_reader, writer) in enumerate(slow):
        writer.write(head % (bearer, number) + b"{" * (number > 0))
    began = asyncio.get_running_loop().time()
    for _ in range(5):
        await asyncio.sleep(BODY_TIMEOUT_MS / 1000 / 10)
        slow[2][1].write(b" ")
    for reader, writer in slow:
        status, _, body = await asyncio.wait_for(read_reply(reader, "POST"), 10)
        assert (status, b"did not arrive" in body) == (422, True)
        writer.close()
    took = asyncio.get_running_loop().time() - began
    assert BODY_TIMEOUT_MS / 1000 * 0.9 < took < 10
