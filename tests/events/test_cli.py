"""`ni events`: followed live through both doors, and what waits."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from uuid import uuid4

import asyncpg
import pika
import pytest

from ni.deliveries import MAIN_QUEUE
from ni.event_door import Door, open_door
from ni.events import COMMON, Event, parse, render
from ni.settings import Settings
from tests.events.house import RelayProcess, Teller
from tests.support.broker import VirtualHost
from tests.support.databases import Database

ROOT = Path(__file__).parents[2]
LIMIT_S = 30.0


@contextmanager
def command(environment: dict[str, str], *words: str) -> Iterator[subprocess.Popen[str]]:
    """`ni events …`, ended afterwards."""
    child = subprocess.Popen(
        [sys.executable, "-m", "ni", "events", *words], cwd=ROOT, env=os.environ | environment,
        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    try:
        yield child
    finally:
        child.kill()
        child.communicate()


@pytest.mark.parametrize("kind", ["rabbitmq", "embedded"])
async def test_events_are_followed(
    kind: str, request: pytest.FixtureRequest, database: Database, teller: Teller, home: Path,
    owner: asyncpg.Connection,
) -> None:  # fmt: skip
    """Through RabbitMQ also where nobody else has a queue yet; and nothing is taken away."""
    url = ""
    if kind == "rabbitmq":
        host = request.getfixturevalue("amqp")
        assert isinstance(host, VirtualHost)
        url = host.url
    door = open_door(Settings(database_url=database.engine_dsn, amqp_url=url))
    if kind == "embedded":
        async with door.consume(MAIN_QUEUE):
            pass
    known = {
        "NI_HOME": str(home), "NI_DATABASE_URL": database.engine_dsn, "NI_AMQP_URL": url,
        "NI_OWNER_DATABASE_URL": database.owner_dsn,
    }  # fmt: skip
    with (
        RelayProcess(home, database.engine_dsn, url, relay_scan_s="1"),
        command(known, "tail", "--count", "2", "--json", "--account", "A") as raw,
        command(known, "tail", "--count", "1", "--type", "ni.posting.*") as shown,
    ):
        deadline = time.monotonic() + LIMIT_S
        while raw.poll() is None or shown.poll() is None:
            assert time.monotonic() < deadline
            await teller.tell(["A", "B"])
            await asyncio.sleep(0.3)
        lines, complaints = raw.communicate()
        events = [parse(line.encode()) for line in lines.splitlines()]
        assert [event.subject for event in events] == ["A", "A"], complaints
        assert events[1].data["sequence"] == events[0].data["sequence"] + 1
        text, _ = shown.communicate()
        assert "ni.posting.created" in text
        assert "-50.00 CZK" in text
        assert await _all_of_the_notifier(door, teller.told) >= {*lines.splitlines()}


async def test_an_event_of_a_newer_version_is_shown_as_it_is(amqp: VirtualHost, home: Path) -> None:
    """It does not end what follows; whose it is, nobody can tell."""
    bodies = {
        kind: render(Event(str(uuid4()), kind, "A", "1993-01-04T09:00:00Z", dict.fromkeys(COMMON)))
        for kind in ("ni.posting.divided", "ni.posting.created")
    } | {"ni.posting.torn": b"\xff\xfe"}
    known = {"NI_HOME": str(home), "NI_AMQP_URL": amqp.url}
    with (
        pika.BlockingConnection(pika.URLParameters(amqp.url)) as connection,
        command(known, "tail", "--count", "6") as shown,
        command(known, "tail", "--count", "3", "--json") as raw,
        command(known, "tail", "--count", "2", "--account", "A") as chosen,
    ):
        channel = connection.channel()
        channel.exchange_declare("ni.events", "topic", durable=True)
        deadline = time.monotonic() + LIMIT_S
        while None in (shown.poll(), raw.poll(), chosen.poll()):
            assert time.monotonic() < deadline
            for kind, body in bodies.items():
                channel.basic_publish("ni.events", kind, body)
            await asyncio.sleep(0.3)
        text, complaints = shown.communicate()
        assert text.count("ni.posting.divided") == 2, complaints
        assert text.count("not known here") == 4
        assert raw.communicate()[0].count("\ufffd\ufffd\n") == 1
        assert chosen.communicate()[0].count("ni.posting.created") == 2


async def _all_of_the_notifier(door: Door, count: int) -> set[str]:
    """So many events of its queue. Raises TimeoutError when there are fewer."""
    found: set[str] = set()
    async with door.consume(MAIN_QUEUE) as deliveries, asyncio.timeout(LIMIT_S):
        while len(found) < count:
            delivery = await anext(deliveries)
            found.add(delivery.event_body.decode())
            await delivery.ack()
    return found


async def test_what_waits_is_shown(database: Database, teller: Teller, home: Path) -> None:
    known = {"NI_HOME": str(home), "NI_OWNER_DATABASE_URL": database.owner_dsn}
    with command(known, "waiting") as nothing:
        assert "Nothing waits" in nothing.communicate(timeout=LIMIT_S)[0]
    await teller.tell(["A"] * 3)
    with command(known, "waiting") as some:
        out, errors = some.communicate(timeout=LIMIT_S)
    assert "ni.posting.created" in out, errors
    assert " 3 " in out


@pytest.mark.parametrize(
    ("environment", "words"),
    [({}, "ni up"), ({"NI_AMQP_URL": "amqp://127.0.0.1:1"}, "RabbitMQ cannot be reached")],
    ids=["nothing", "no-broker"],
)
def test_why_nothing_is_followed(environment: dict[str, str], words: str, home: Path) -> None:
    with command({"NI_HOME": str(home)} | environment, "tail") as child:
        _, errors = child.communicate(timeout=LIMIT_S)
    assert (child.returncode, errors.count("\n")) == (1, 1), errors
    assert words in errors


def test_a_wrong_pattern_is_told(home: Path, database: Database) -> None:
    known = {"NI_HOME": str(home), "NI_DATABASE_URL": database.engine_dsn}
    with command(known, "tail", "--type", "ni.#.placed") as child:
        _, errors = child.communicate(timeout=LIMIT_S)
    assert "# is not the last word" in errors, json.dumps(errors)
