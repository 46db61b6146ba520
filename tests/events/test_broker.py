"""A broker that says nothing, or nothing about one event."""

from __future__ import annotations

import asyncio
import os
import re
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Final

import asyncpg
import pika
import pytest
from pika.adapters.asyncio_connection import AsyncioConnection

from ni.amqp import Broker
from ni.errors import Unavailable
from ni.settings import Settings
from tests.events.house import RelayProcess, Taker, Teller, assert_complete, until, until_empty
from tests.support.broker import VirtualHost
from tests.support.databases import Database
from tests.support.rabbitmq import RabbitMQ
from tests.support.rabbitmq_program import URL_VARIABLE

ROOT: Final = Path(__file__).parents[2]
RUN_HOME: Final = "NI_TEST_RUN_HOME"
LIMIT_MS: Final = 500
SLOW: Final = "slow"
QUEUE_PROCESS: Final = """
    {{ok, Queue}} = rabbit_amqqueue:lookup(rabbit_misc:r(<<"{}">>, queue, <<"{}">>)),
    sys:{}(amqqueue:get_pid(Queue)).
"""


@pytest.fixture
async def silent() -> AsyncIterator[str]:
    """Host and port of somebody who takes connections and says nothing."""

    async def listen(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while await reader.read(1000):
            pass
        writer.close()

    server = await asyncio.start_server(listen, "127.0.0.1", 0)
    host, port = server.sockets[0].getsockname()
    yield f"{host}:{port}"
    server.close()


@pytest.mark.parametrize("scheme", ["amqp", "amqps"])
async def test_a_silent_broker_is_unavailable_when_the_limit_has_passed(
    scheme: str, silent: str
) -> None:
    settings = Settings(amqp_url=f"{scheme}://{silent}/", amqp_timeout_ms=LIMIT_MS)
    for _ in range(3):
        began = time.monotonic()
        with pytest.raises(Unavailable, match="does not answer"):
            await Broker.open(settings, "test")
        assert 1 <= (time.monotonic() - began) * 1000 / LIMIT_MS < 1.8


async def test_an_opening_that_is_broken_off_ends_at_once(silent: str) -> None:
    settings = Settings(amqp_url=f"amqp://{silent}/", amqp_timeout_ms=60_000)
    began = time.monotonic()
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.2):
            await Broker.open(settings, "test")
    assert time.monotonic() - began < 5


async def test_what_is_said_in_one_turn_goes_out_as_one_piece(
    amqp: VirtualHost, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And in its order; what is said by one who has gone is said to nobody."""
    broker = await Broker.open(Settings(amqp_url=amqp.url), "test")
    door = await broker.channel()
    await door.answer(door.channel.queue_declare, queue="pieces")
    pieces: list[bytes] = []
    emit = AsyncioConnection._adapter_emit_data

    def noted(connection: AsyncioConnection, data: bytes) -> None:
        pieces.append(data)
        emit(connection, data)

    monkeypatch.setattr(AsyncioConnection, "_adapter_emit_data", noted)
    for number in range(100):
        door.channel.basic_publish("", "pieces", f"event {number:02}".encode())
    await door.answer(door.channel.queue_declare, queue="pieces", passive=True)
    assert len(pieces) == 1
    assert re.findall(rb"event (\d\d)", pieces[0]) == [f"{n:02}".encode() for n in range(100)]
    failed: list[dict[str, object]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, told: failed.append(told))
    broker.abort()
    door.channel.basic_publish("", "pieces", b"too late")
    await broker.lost
    await asyncio.sleep(0.01)
    assert failed == []


async def test_the_relay_outlives_a_silent_broker(
    database: Database, home: Path, silent: str
) -> None:
    url = f"amqp://{silent}/"
    with RelayProcess(home, database.engine_dsn, url, amqp_timeout_ms=str(LIMIT_MS)) as relay:
        await until(lambda: relay.log().count("relay_waits") >= 3, relay.log)
        assert "Traceback" not in relay.log()
    assert relay.process is not None
    assert relay.process.returncode == 0, relay.log()


async def test_events_cannot_be_followed_from_a_silent_broker(home: Path, silent: str) -> None:
    known = {
        "NI_HOME": str(home), "NI_AMQP_URL": f"amqp://{silent}/",
        "NI_AMQP_TIMEOUT_MS": str(LIMIT_MS),
    }  # fmt: skip
    command = [sys.executable, "-m", "ni", "events", "tail"]
    done = await asyncio.to_thread(
        subprocess.run, command, cwd=ROOT, env=os.environ | known, stdin=subprocess.DEVNULL,
        capture_output=True, text=True, timeout=30,
    )  # fmt: skip
    assert done.returncode == 1
    assert "does not answer" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.fixture
def slow_queue(amqp: VirtualHost) -> Iterator[Callable[[str], str]]:
    """A queue of the type ni.hold.placed; its process can be told to `suspend` and to `resume`."""
    if os.environ.get(URL_VARIABLE):
        pytest.skip("the process of a queue can only be stopped in a broker of our own")
    server = RabbitMQ(Path(os.environ[RUN_HOME]))
    assert server.find()
    with pika.BlockingConnection(pika.URLParameters(amqp.url)) as connection:
        channel = connection.channel()
        channel.exchange_declare("ni.events", "topic", durable=True)
        channel.queue_declare(SLOW, durable=True)
        channel.queue_bind(SLOW, "ni.events", "ni.hold.placed")

    def tell(word: str) -> str:
        return server.control("eval", QUEUE_PROCESS.format(amqp.name, SLOW, word))

    yield tell
    tell("resume")


async def test_one_event_that_is_never_confirmed_is_noticed(
    owner: asyncpg.Connection, teller: Teller, taker: Taker, slow_queue: Callable[[str], str],
    new_relay: Callable[..., RelayProcess],
) -> None:  # fmt: skip
    """While all others are confirmed. It is told of which type it is."""
    await asyncio.to_thread(slow_queue, "suspend")
    relay = new_relay(relay_confirm_timeout_ms="2000").start()
    await relay.until_logged("relay_publishes")
    teller.kind = "ni.hold.placed"
    await teller.tell(["SLOW"])
    teller.kind = "ni.posting.created"
    words = "does not confirm an event of type ni.hold.placed"
    deadline = time.monotonic() + 20
    while words not in relay.log():
        assert time.monotonic() < deadline, relay.log()
        await teller.tell(["A", "B"])
        await asyncio.sleep(0.1)
    assert taker.take() > 20, "others went on"
    await asyncio.to_thread(slow_queue, "resume")
    await until_empty(owner)
    taker.take_all(teller.told)
    assert_complete(taker.bodies, teller)
