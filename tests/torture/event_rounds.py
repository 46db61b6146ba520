"""Rounds of bad luck for events: relay, broker, queue, disk; then every event is looked for."""

from __future__ import annotations

import asyncio
import os
import random
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Final

import asyncpg
import pika

from tests.support.broker import VirtualHost
from tests.torture.account_for import UnaccountedError, wait_answering
from tests.torture.event_auditor import EXCHANGE, QUEUE, Auditor
from tests.torture.event_bench import (
    BOUND_SECONDS,
    QUEUE_KEPT_SECONDS,
    WAITING,
    EventBench,
    Takeover,
    until,
)

TAKEOVER_SECONDS: Final = 5.0
ALARM_SECONDS: Final = 30.0
FOLLOW_SECONDS: Final = 3.0
MAIN_QUEUE: Final = "ni.sms"
LOOK_SECONDS: Final = 0.02
STANDS_STILL_SECONDS: Final = 0.2
"""A pause that lasts longer is the machine's: this process, too, was kept from running."""
LOW_ID_SECONDS: Final = 7.0
"""Longer than a decision's transaction can take, so that the relay has gone far past the id."""
COPIES: Final = 200
LOW_ID: Final = (Path(__file__).parent / "event_low_id.sql").read_text()
STANDING_BY: Final = (
    "select count(*) from pg_stat_activity where application_name = 'ni relay lease'"
)
AFTER_MS: Final = 50
"""An event that is younger than a kill by so much was decided after it."""
_properties: Any = pika.BasicProperties  # pika leaves its types out
PERSISTENT: Final = _properties(delivery_mode=2)

Round = Callable[[EventBench, random.Random], Awaitable[None]]


async def kill_relay(events: EventBench, draw: random.Random) -> None:
    """Kill the relay that works; the other one takes over, and the dead one comes back."""
    async with events.running():
        await asyncio.sleep(draw.uniform(0.1, 0.6))
        await some_relay_works(events)
        # Two logs may say so: the first of them lost its lease, the last one has it.
        working = [one for one in events.relays if one.works][-1]
        other = next(one for one in events.relays if one is not working)
        if not other.is_running:
            other.start()
        await all_stand_by(events)
        working.kill()
        events.takeovers.append(
            await took_over(lambda: events.auditor.newest, lambda: other.log[-1500:])
        )
        working.start()
        events.relays[:] = [working, other]
    await events.settle()


async def some_relay_works(events: EventBench) -> None:
    """Wait until one does. Raises UnaccountedError with what they said last."""
    deadline = time.monotonic() + BOUND_SECONDS
    while not any(relay.works for relay in events.relays):
        if time.monotonic() > deadline:
            raise UnaccountedError(f"none works: {[relay.log[-1500:] for relay in events.relays]}")
        await asyncio.sleep(LOOK_SECONDS)


async def took_over(
    newest: Callable[[], str], tell: Callable[[], str], limit_s: float = BOUND_SECONDS
) -> Takeover:
    """How long it took, after a kill just now, until an event came that is younger than it.

    `newest` gives the greatest id so far. What the dead relay had given to the broker comes, too,
    and does not count. Raises UnaccountedError with what `tell` says.
    """
    began, stood_still_s = time.monotonic(), 0.0
    younger = str(least_id(time.time_ns() // 1_000_000 + AFTER_MS))
    while newest() < younger:
        if time.monotonic() - began > limit_s:
            raise UnaccountedError(f"nobody took over: {tell()}")
        asleep = time.monotonic()
        await asyncio.sleep(LOOK_SECONDS)
        stood_still_s += max(0.0, time.monotonic() - asleep - STANDS_STILL_SECONDS)
    return Takeover(time.monotonic() - began, stood_still_s)


def least_id(milliseconds: int) -> uuid.UUID:
    """The least id of an instant since 1970."""
    return uuid.UUID(int=milliseconds << 80)


async def all_stand_by(events: EventBench) -> None:
    """Wait until each relay has or wants the lease. Raises UnaccountedError."""
    deadline = time.monotonic() + BOUND_SECONDS
    while await events.ask(STANDING_BY) < len(events.relays):
        if time.monotonic() > deadline:
            raise UnaccountedError("a relay does not stand by")
        await asyncio.sleep(0.1)


async def kill_broker(events: EventBench, draw: random.Random) -> None:
    """Kill the broker; decisions go on meanwhile, and what was confirmed is there again."""
    load = events.bench.load
    async with events.running():
        await asyncio.sleep(draw.uniform(0.1, 0.6))
        events.server.kill()
        before = len(load.acknowledged)
        await asyncio.sleep(draw.uniform(0.2, 1.0))
        if len(load.acknowledged) == before:
            raise UnaccountedError("nothing was decided while the broker was dead")
        await asyncio.to_thread(events.server.start)
        await until(events.auditor.bound.is_set, BOUND_SECONDS, "the auditor has no queue")
    await events.settle()


async def kill_server(events: EventBench, draw: random.Random) -> None:
    """Kill PostgreSQL under the relay that works: relays and decisions go on by themselves."""
    postgres = events.bench.postgres
    async with events.running():
        await asyncio.sleep(draw.uniform(0.1, 0.6))
        await some_relay_works(events)
        postgres.kill()
        await asyncio.sleep(draw.uniform(0, 0.5))
        await asyncio.to_thread(postgres.start_again)
        await wait_answering(events.bench.load, BOUND_SECONDS)
        newest = events.auditor.newest
        # The load has lost its workers with the server.
        async with events.bench.load.running():
            await until(lambda: events.auditor.newest > newest, BOUND_SECONDS, "no relay goes on")
    dead = [relay.log[-1500:] for relay in events.relays if not relay.is_running]
    if dead:
        raise UnaccountedError(f"a relay died with the server: {dead}")
    await events.settle()


async def kill_both(events: EventBench, draw: random.Random) -> None:
    """Kill the broker and both relays at one moment."""
    async with events.running():
        await asyncio.sleep(draw.uniform(0.1, 0.5))
        events.server.kill()
        for relay in events.relays:
            relay.kill()
        await asyncio.to_thread(events.server.start)
        for relay in events.relays:
            relay.start()
    await events.settle()


async def delete_binding(events: EventBench, draw: random.Random) -> None:
    """Nothing leads to the queue any more: events stay in the outbox, and an alarm is told."""
    async with events.running():
        await asyncio.sleep(draw.uniform(0.1, 0.3))
        assert events.world.delete_bindings(EXCHANGE, QUEUE) == 1
        await alarm_told(events)
        events.world.bind(EXCHANGE, QUEUE, "#")
    await events.settle()


async def delete_queue(events: EventBench, draw: random.Random) -> None:
    """The queue is deleted after it was emptied; what comes later waits until it is back."""
    await events.rest()
    auditor = events.auditor
    auditor.declares.clear()
    events.world.delete_queue(QUEUE)
    async with events.running():
        await alarm_told(events)
        await asyncio.sleep(draw.uniform(0, 0.5))
        auditor.declares.set()
    await until(auditor.bound.is_set, BOUND_SECONDS, "the auditor has no queue")
    await asyncio.sleep(QUEUE_KEPT_SECONDS)
    await events.settle()


async def alarm_told(events: EventBench) -> None:
    """Events wait in the outbox, and the relay has said why since this was asked."""
    told = sum(relay.log.count("relay_unroutable") for relay in events.relays)
    await until(
        lambda: sum(relay.log.count("relay_unroutable") for relay in events.relays) > told,
        ALARM_SECONDS, "no relay told of events that no queue takes",
    )  # fmt: skip
    if not await events.ask(WAITING):
        raise UnaccountedError("what no queue takes does not wait in the outbox")


async def follow(events: EventBench, draw: random.Random) -> None:
    """Somebody follows while no queue takes anything: that takes nothing away from anybody."""
    await events.rest()
    assert events.world.delete_bindings(EXCHANGE, QUEUE) == 1
    async with events.running():
        await alarm_told(events)
        tail, seen = follower(events)
        await until(lambda: seen.stat().st_size > 0, BOUND_SECONDS, "a follower sees nothing")
        await asyncio.sleep(FOLLOW_SECONDS + draw.uniform(0, 0.5))
        tail.send_signal(signal.SIGINT)
        await asyncio.to_thread(tail.wait, BOUND_SECONDS)
    for relay in events.relays:
        relay.stop()
    # What a lasting queue has taken meanwhile is as good as told, and goes to the auditor first.
    kept = await asyncio.to_thread(taken_out, events.world, MAIN_QUEUE)
    events.world.bind(EXCHANGE, QUEUE, "#")
    await asyncio.to_thread(publish, events.world.url, kept)
    for relay in events.relays:
        relay.start()
    await events.settle()


def follower(events: EventBench) -> tuple[subprocess.Popen[bytes], Path]:
    """`ni events tail`, and the file in which is what it shows."""
    seen = events.home / "tail.out"
    with seen.open("wb") as out, (events.home / "tail.log").open("wb") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "ni", "events", "tail", "--json"],
            env=os.environ | {"NI_AMQP_URL": events.world.url, "NI_HOME": str(events.home)},
            stdin=subprocess.DEVNULL, stdout=out, stderr=log, cwd=Path(__file__).parents[2],
        )  # fmt: skip
    return process, seen


def taken_out(world: VirtualHost, queue: str) -> list[bytes]:
    """All that is in a queue, in its order, which is deleted; there may be no such queue."""
    if queue not in world.admin.queues(world.name):
        return []
    connection = pika.BlockingConnection(pika.URLParameters(world.url))
    channel = connection.channel()
    bodies: list[bytes] = []
    for method, _properties, body in channel.consume(queue, inactivity_timeout=1):
        if method is None or body is None:
            break
        bodies.append(body)
    connection.close()
    world.delete_queue(queue)
    return bodies


async def pass_night(events: EventBench, draw: random.Random) -> None:
    """The day is closed and opened under load: what is decided by night is told, too."""
    async with events.bench.load.running():
        await events.life.switch("close")
        await asyncio.sleep(draw.uniform(0.2, 0.6))
        await events.life.switch("open")
        await events.life.arrest()
    await events.settle()


async def raise_disk_alarm(events: EventBench, draw: random.Random) -> None:
    """The broker takes nothing for a while, and says so; decisions go on."""
    load = events.bench.load
    async with events.running():
        alarm = events.server.disk_alarm()
        await asyncio.to_thread(alarm.__enter__)
        try:
            await asyncio.to_thread(events.server.admin.wait_alarm, raised=True)
            before = len(load.acknowledged)
            await asyncio.sleep(draw.uniform(1.0, 2.0))
            if len(load.acknowledged) == before:
                raise UnaccountedError("nothing was decided while the broker's disk was full")
            if not await events.ask(WAITING):
                raise UnaccountedError("the broker took events in spite of its alarm")
        finally:
            await asyncio.to_thread(alarm.__exit__, None, None, None)
        await asyncio.to_thread(events.server.admin.wait_alarm, raised=False)
    await events.settle()


@asynccontextmanager
async def low_id_open(events: EventBench, draw: random.Random) -> AsyncIterator[None]:
    """An event with an old id is not committed before the block ends, and comes all the same."""
    owner = await asyncpg.connect(events.servers.owner_dsn)
    try:
        transaction = owner.transaction()
        await transaction.start()
        least = least_id(time.time_ns() // 1_000_000).int
        identifier = uuid.UUID(int=least | 7 << 76 | 2 << 62 | draw.getrandbits(62))
        await owner.execute(LOW_ID, str(identifier))
        yield
        await transaction.commit()
    finally:
        await owner.close()
    await events.settle()
    if str(identifier) not in events.auditor.first:
        raise UnaccountedError(f"{identifier}, committed late, never came")


async def keep_low_id_open(events: EventBench, draw: random.Random) -> None:
    """Nobody waits for a transaction that is open for longer than any decision's."""
    async with low_id_open(events, draw), events.running():
        before = len(events.auditor.first)
        await asyncio.sleep(LOW_ID_SECONDS)
        if len(events.auditor.first) == before:
            raise UnaccountedError("events waited for a transaction of somebody else")


async def send_copies(events: EventBench, draw: random.Random) -> None:
    """Known events come again, as after a lost confirm: they are the same, and counted."""
    copies = events.auditor.copies
    known = draw.sample(list(events.auditor.first.values()), COPIES)
    await asyncio.to_thread(publish, events.world.url, known)
    await until(
        lambda: events.auditor.copies >= copies + COPIES, BOUND_SECONDS, "copies did not come"
    )


def publish(url: str, bodies: list[bytes]) -> None:
    """Publish these bodies once more, whoever wrote them."""
    connection = pika.BlockingConnection(pika.URLParameters(url))
    channel = connection.channel()
    channel.confirm_delivery()
    for body in bodies:
        key = Auditor.key_of(body)
        channel.basic_publish(EXCHANGE, key, body, PERSISTENT, mandatory=True)
    connection.close()


ROUNDS: Final[dict[str, Round]] = {
    "binding": delete_binding,
    "queue": delete_queue,
    "disk": raise_disk_alarm,
    "both": kill_both,
    "postgres": kill_server,
    "follower": follow,
    "night": pass_night,
    "low id": keep_low_id_open,
    "copies": send_copies,
}
"""What happens besides single kills, each a few times in a campaign."""
EMBEDDED_ROUNDS: Final[dict[str, Round]] = {
    "postgres": kill_server,
    "low id": keep_low_id_open,
    "night": pass_night,
}
"""Those that need no broker."""
