"""The open loop: what is due is sent and counted from when it was due, whatever the server does."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import pytest

from bench.load_spec import LoadSpec
from bench.open_load import Schedule, run
from bench.processes import BenchError
from bench.tools import open_load

CREATED = b"HTTP/1.1 201 Created\r\nContent-Length: 0\r\n\r\n"
REFUSED = b"HTTP/1.1 409 Conflict\r\nContent-Length: 2\r\n\r\nno"

Answer = Callable[[int], Awaitable[bytes]]


@asynccontextmanager
async def server(answer: Answer) -> AsyncIterator[int]:
    """Answers each request with what `answer` makes of its number; yields the port."""
    asked = 0

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal asked
        try:
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                length = int(head.lower().partition(b"content-length: ")[2].split()[0])
                await reader.readexactly(length)
                asked += 1
                writer.write(await answer(asked))
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()

    made = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with made:
        port: int = made.sockets[0].getsockname()[1]
        yield port


async def at_once(_number: int) -> bytes:
    return CREATED


def spec(port: int, *, connections: int = 8, seconds: float = 0.5, warm: float = 0) -> LoadSpec:
    return LoadSpec(
        kind="posting", port=port, connections=connections, seconds=seconds, warm_seconds=warm,
        bearer="key", accounts=10, rate=100,
    )  # fmt: skip


def never_mind() -> None:
    """What a load calls when it begins."""


def test_the_schedule_hands_out_every_instant_once_and_adds_no_error() -> None:
    schedule = Schedule(10.0, 4)
    assert list(schedule.due(9.9)) == []
    assert list(schedule.due(10.6)) == [10.0, 10.25, 10.5]
    assert schedule.next_at == 10.75
    assert list(schedule.due(10.7)) == []
    many = Schedule(0.0, 3)
    assert list(many.due(1000.0))[-1] == 1000.0


async def test_it_offers_its_rate_and_says_when_it_begins() -> None:
    begun: list[bool] = []
    async with server(at_once) as port:
        made = spec(port, warm=0.2)
        result = await run(made, asyncio.Event(), lambda: begun.append(True))
    assert begun == [True]
    assert result.failures == 0
    assert result.arrivals == pytest.approx(50, abs=1)
    assert result.rate == pytest.approx(100, abs=3)
    assert result.approved == pytest.approx(70, abs=2)


async def test_a_stall_is_charged_to_all_who_came_meanwhile() -> None:
    async def stall_once(number: int) -> bytes:
        if number == 10:
            await asyncio.sleep(0.3)
        return CREATED

    async with server(stall_once) as port:
        result = await run(spec(port, connections=1), asyncio.Event(), never_mind)
    # 30 of 50 came while the only connection was busy: a closed loop would have asked once.
    assert result.arrivals == pytest.approx(50, abs=1)
    assert result.late >= 25
    assert result.max_ms >= 290
    assert result.p50_ms >= 20
    assert result.approved == result.arrivals


async def test_all_connections_take_their_turn() -> None:
    """A server closes a connection that nobody uses for some seconds."""
    asked: dict[asyncio.Task[None] | None, int] = {}

    async def note(_number: int) -> bytes:
        connection = asyncio.current_task()
        asked[connection] = asked.get(connection, 0) + 1
        return CREATED

    async with server(note) as port:
        await run(spec(port, connections=10), asyncio.Event(), never_mind)
    assert sorted(asked.values()) == pytest.approx([5] * 10, abs=1)


async def test_an_answer_after_the_end_is_counted_where_it_was_due() -> None:
    async def slow(_number: int) -> bytes:
        await asyncio.sleep(0.4)
        return CREATED

    async with server(slow) as port:
        result = await run(spec(port, connections=64), asyncio.Event(), never_mind)
    assert result.p50_ms >= 400
    assert result.rate == pytest.approx(100, abs=3)


async def test_it_stops_when_told_and_waits_for_the_last_answer() -> None:
    stop = asyncio.Event()

    async def tell() -> None:
        await asyncio.sleep(0.3)
        stop.set()

    async with server(at_once) as port:
        async with asyncio.timeout(5), asyncio.TaskGroup() as tasks:
            tasks.create_task(tell())
            running = tasks.create_task(run(spec(port, seconds=60), stop, never_mind))
    result = running.result()
    assert result.arrivals == result.approved
    assert 20 <= result.arrivals <= 45
    assert result.rate == pytest.approx(100, rel=0.15)


async def test_a_load_that_is_ended_in_its_warm_up_has_no_figures() -> None:
    stop = asyncio.Event()
    stop.set()
    async with server(at_once) as port:
        with pytest.raises(ValueError, match="warm-up"):
            await run(spec(port, warm=5), stop, never_mind)


async def test_the_process_is_told_to_stop_through_its_pipe() -> None:
    async with server(at_once) as port, open_load(spec(port, seconds=60)) as load:
        await load.begun()
        await asyncio.sleep(0.5)
        async with asyncio.timeout(10):
            result = await load.stop()
    assert result.approved == result.arrivals > 20


async def test_a_refusal_fails_the_load() -> None:
    async def refuse(number: int) -> bytes:
        return REFUSED if number == 5 else CREATED

    async with server(refuse) as port, open_load(spec(port)) as load:
        await load.begun()
        with pytest.raises(BenchError, match="1 answers were not the expected one"):
            await load.result()


async def test_a_load_that_cannot_begin_says_why() -> None:
    async with server(at_once) as port:
        pass
    async with open_load(spec(port)) as load:
        with pytest.raises(BenchError, match=r"did not begin:\n[^$]*refused"):
            await load.begun()
