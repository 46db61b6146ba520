"""The RabbitMQ of the tests: private, the same over restarts, and able to fail on demand."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pika
import pika.exceptions
import pytest
from pika.adapters.blocking_connection import BlockingChannel

from ni.processes import find_process
from tests.support.broker import Broker, VirtualHost
from tests.support.homes import temporary_home
from tests.support.rabbitmq import RabbitMQ

QUEUE = "kept"
LOOPBACK = {
    "0100007F",
    "0000000000000000FFFF00000100007F",
    "00000000000000000000000001000000",
}
"""127.0.0.1, the same in IPv6, and ::1."""
_properties: Any = pika.BasicProperties  # pika leaves its types out
PERSISTENT = _properties(delivery_mode=2)


@contextmanager
def channel_to(url: str) -> Iterator[BlockingChannel]:
    """A channel that waits for the broker's confirmations."""
    parameters = pika.URLParameters(url)
    parameters.blocked_connection_timeout = 2
    connection = pika.BlockingConnection(parameters)
    try:
        channel = connection.channel()
        channel.confirm_delivery()
        yield channel
    finally:
        with suppress(pika.exceptions.AMQPError):  # the broker was killed meanwhile
            connection.close()


def declared(channel: BlockingChannel) -> None:
    channel.queue_declare(QUEUE, durable=True, arguments={"x-queue-type": "quorum"})


def published(channel: BlockingChannel, body: bytes) -> None:
    channel.basic_publish("", QUEUE, body, PERSISTENT, mandatory=True)


def taken(url: str) -> list[bytes]:
    """What the queue holds."""
    found: list[bytes] = []
    with channel_to(url) as channel:
        for method, _properties, body in channel.consume(QUEUE, inactivity_timeout=1.0):
            if method is None or body is None:
                return found
            channel.basic_ack(method.delivery_tag)
            found.append(body)
    return found


def listeners(pid: int) -> set[str]:
    """The addresses on which a process listens, as the kernel writes them."""
    names = {entry.readlink().name for entry in Path(f"/proc/{pid}/fd").iterdir()}
    inodes = {name[8:-1] for name in names if name.startswith("socket:[")}
    found = set()
    for table in ("tcp", "tcp6"):
        for line in Path(f"/proc/net/{table}").read_text().splitlines()[1:]:
            fields = line.split()
            if fields[3] == "0A" and fields[9] in inodes:
                found.add(fields[1].partition(":")[0])
    return found


@pytest.fixture(scope="module")
def own_home() -> Iterator[Path]:
    """A folder whose server these tests may kill; leaving it ends the server."""
    with temporary_home() as folder:
        yield folder


@pytest.fixture
def server(own_home: Path) -> RabbitMQ:
    """A server that runs, whatever the test before has done to it."""
    return RabbitMQ(own_home).start()


def test_what_was_confirmed_outlives_kills(server: RabbitMQ) -> None:
    """Killed after a confirmation, it comes back at the same address with the message."""
    with server_world(server) as url:
        with channel_to(url) as channel:
            declared(channel)
            # The broker writes down which queues there are half a second after a change.
            channel.connection.sleep(1.5)
            published(channel, b"first")
            server.kill()
        assert not server.is_alive
        server.start()
        with channel_to(url) as channel:
            published(channel, b"second")
        assert taken(url) == [b"first", b"second"]


@contextmanager
def server_world(server: RabbitMQ) -> Iterator[str]:
    with Broker.of(server).virtual_host() as world:
        yield world.url


def test_nobody_else_reaches_it(server: RabbitMQ, own_home: Path) -> None:
    """It listens on the loopback alone; its password and cookie are for their owner only."""
    for name in ("broker", "epmd"):
        process = server.process(name)
        assert process is not None
        assert listeners(process.pid) <= LOOPBACK, name
    assert (own_home / "rabbitmq").stat().st_mode & 0o077 == 0
    assert server.port("epmd") != 4369
    with socket.socket() as probe:
        assert probe.connect_ex(("127.0.0.1", server.port("amqp"))) == 0


def test_another_object_finds_it_and_ends_it(server: RabbitMQ, own_home: Path) -> None:
    found = RabbitMQ(own_home)
    assert found.find()
    assert found.url("x") == server.url("x")
    started = [server.process(name) for name in ("broker", "epmd")]
    found.end()
    assert not server.is_alive
    assert not [one for one in started if one and find_process(one.pid) == one]


def test_a_disk_alarm_holds_publishers_back(server: RabbitMQ) -> None:
    """The broker stops reading from whoever publishes, until the alarm is over."""
    with server_world(server) as url:
        with channel_to(url) as channel, server.disk_alarm():
            declared(channel)
            server.admin.wait_alarm(raised=True)
            with pytest.raises(pika.exceptions.ConnectionBlockedTimeout):
                published(channel, b"late")
        server.admin.wait_alarm(raised=False)
        with channel_to(url) as channel:
            published(channel, b"again")


def test_a_virtual_host_is_a_world_of_its_own(broker: Broker) -> None:
    """The same queue in two of them is two queues, and both are gone afterwards."""
    with broker.virtual_host() as one, broker.virtual_host() as other:
        for world in (one, other):
            with channel_to(world.url) as channel:
                declared(channel)
        with channel_to(one.url) as channel:
            published(channel, b"1")
        assert taken(other.url) == []
        assert taken(one.url) == [b"1"]
    with pytest.raises(pika.exceptions.AMQPConnectionError), channel_to(one.url):
        pass


def test_queues_and_bindings_can_be_taken_away(amqp: VirtualHost) -> None:
    """What the broker confirms it has still only if it could be routed: `mandatory` tells."""
    with channel_to(amqp.url) as channel:
        channel.exchange_declare("told", "topic", durable=True)
        declared(channel)
        amqp.bind("told", QUEUE, "a.#")
        amqp.bind("told", QUEUE, "b.#")
        assert amqp.bindings("told", QUEUE) == ["a.#", "b.#"]
        assert amqp.delete_bindings("told", QUEUE) == 2
        with pytest.raises(pika.exceptions.UnroutableError):
            channel.basic_publish("told", "a.1", b"", PERSISTENT, mandatory=True)
        amqp.delete_queue(QUEUE)
        with pytest.raises(pika.exceptions.UnroutableError):
            published(channel, b"")


def test_the_run_shares_one_server(broker: Broker, amqp: VirtualHost) -> None:
    """Every process of the run finds the same one, so that it is started once."""
    if "NI_TEST_AMQP_URL" not in os.environ:
        again = Broker.of_run(Path(os.environ["NI_TEST_RUN_HOME"]))
        assert again == broker
    assert amqp.url.startswith(broker.address)
