"""A consumer that dies 25 times of one event: this one is put aside, and no other."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
import uuid
from pathlib import Path
from typing import Final

import pika

from tests.torture.account_for import UnaccountedError
from tests.torture.crashing_consumer import DIED, lines
from tests.torture.event_bench import QUEUE_KEPT_SECONDS, EventBench
from tests.torture.event_rounds import publish

CRASHES: Final = 25
EVENTS: Final = 400
LOOK_SECONDS: Final = 0.5
DEAD: Final = "ni.dead"
SECONDS: Final = 120.0
_ROOT: Final = Path(__file__).parents[2]


async def crash_consumer(events: EventBench, crashes: int = CRASHES) -> int:
    """A queue of its own, known events again, and a consumer that dies of one; how often it died.

    Raises UnaccountedError when an event is neither consumed nor put aside, or another than the
    victim is put aside.
    """
    queue, bodies = f"crash-{uuid.uuid4().hex[:8]}", list(events.auditor.first.values())[-EVENTS:]
    sent = [json.loads(body)["id"] for body in bodies]
    victim, journal = sent[len(sent) // 2], events.home / queue
    process = started(events, queue, victim, journal, crashes)
    await asyncio.sleep(QUEUE_KEPT_SECONDS + 2)
    await asyncio.to_thread(publish, events.world.url, bodies)
    aside: set[str] = set()
    died = 0
    try:
        async with asyncio.timeout(SECONDS):
            while len(done(journal) | aside) < len(sent):
                if process.poll() is not None:
                    if process.returncode != DIED:
                        raise UnaccountedError(f"the consumer ended with {process.returncode}")
                    died += 1
                    process = started(events, queue, victim, journal, crashes)
                await asyncio.sleep(LOOK_SECONDS)
                aside |= await asyncio.to_thread(taken_aside, events.world.url, queue)
    except TimeoutError:
        lost = set(sent) - done(journal) - aside
        raise UnaccountedError(f"{len(lost)} events are lost after {died} deaths") from None
    finally:
        process.kill()
        process.wait()
        events.world.delete_queue(queue)
    check_aside(aside, victim)
    return died


def check_aside(aside: set[str], victim: str) -> None:
    """The event of which the consumer died was put aside, and no other. Raises UnaccountedError."""
    if aside != {victim}:
        others = len(aside - {victim})
        missing = "" if victim in aside else ", the one that the consumer died of not"
        raise UnaccountedError(f"{others} other events were put aside{missing}")


def started(
    events: EventBench, queue: str, victim: str, journal: Path, crashes: int
) -> subprocess.Popen[bytes]:
    """One life of the consumer."""
    words = [queue, victim, str(journal), str(crashes)]
    return subprocess.Popen(
        [sys.executable, "-m", "tests.torture.crashing_consumer", *words],
        cwd=_ROOT,
        env=os.environ | {"NI_AMQP_URL": events.world.url, "NI_HOME": str(events.home)},
        stdin=subprocess.DEVNULL,
    )


def done(journal: Path) -> set[str]:
    """The events that the consumer has taken."""
    return {line for line in lines(journal) if not line.startswith("met ")}


def taken_aside(url: str, queue: str) -> set[str]:
    """The ids of this queue's events among the dead; they are taken out."""
    connection = pika.BlockingConnection(pika.URLParameters(url))
    channel = connection.channel()
    found = set()
    while True:
        method, _properties, body = channel.basic_get(DEAD, auto_ack=True)
        if method is None or body is None:
            break
        if method.routing_key == queue:
            found.add(json.loads(body)["id"])
    connection.close()
    return found
