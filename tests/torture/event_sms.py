"""Rounds of bad luck for texts: the notifier, its gateway, the relay, the broker; copies of events.

The gateway is an HTTP server of the test's own that fails in many ways. What it got is compared
with what was committed: each event once by its id, the same text each time, an account's texts in
its order.
"""

from __future__ import annotations

import asyncio
import json
import random
import time
from collections import defaultdict
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import asyncpg

from ni.sms.subscriptions import subscribe
from tests.sms.gateway_server import (
    Behaviour,
    GatewayServer,
    Received,
    Reply,
    accept,
    gateway_server,
)
from tests.torture.account_for import UnaccountedError
from tests.torture.event_auditor import EXCHANGE
from tests.torture.event_bench import (
    BOUND_SECONDS,
    QUEUE_KEPT_SECONDS,
    EventBench,
    WorkerProcess,
    event_bench,
    until,
)
from tests.torture.event_rounds import publish
from tests.torture.load import account

QUEUE: Final = "ni.sms"
SUBSCRIBED: Final = tuple(account(number) for number in range(3))
LANGUAGES: Final = ("en", "ja", "ru")
TELLABLE: Final = (
    "ni.hold.placed", "ni.hold.adjusted", "ni.hold.captured", "ni.hold.released",
    "ni.hold.expired", "ni.posting.created", "ni.posting.cancelled",
)  # fmt: skip
WANTED: Final = (Path(__file__).parent / "event_wanted.sql").read_text()
UNSENT: Final = "select count(*) from ni.sms_message where status <> 'sent'"
SEND_SECONDS: Final = 150.0
TIMEOUT_MS: Final = 500
COPIES: Final = 100


@dataclass
class SmsBench:
    """Events on their way to a gateway through two notifiers."""

    events: EventBench
    gateway: GatewayServer
    notifiers: list[WorkerProcess]
    texts: int = 0

    async def count(self) -> None:
        """Wait until everything was sent, then compare. Raises UnaccountedError."""
        await self.events.count()
        wanted = await self._wanted()
        deadline = time.monotonic() + SEND_SECONDS
        while True:
            got = {one.id for one in self.gateway.received}
            if got >= wanted.keys() and not await self.events.ask(UNSENT):
                break
            if time.monotonic() > deadline:
                logs = "\n".join(one.log[-1500:] for one in self.notifiers)
                raise UnaccountedError(f"{len(got)} of {len(wanted)} texts were sent: {logs}")
            await asyncio.sleep(0.2)
        faults = compared(wanted, self.gateway)
        if faults:
            raise UnaccountedError("; ".join(faults[:5]))
        self.texts = len(wanted)

    async def _wanted(self) -> dict[str, tuple[str, int]]:
        """Account and sequence of every event of which a text must have gone out."""
        owner = await asyncpg.connect(self.events.servers.owner_dsn)
        try:
            rows = await owner.fetch(WANTED, list(SUBSCRIBED), list(TELLABLE))
        finally:
            await owner.close()
        return {row["id"]: (row["account"], row["sequence"]) for row in rows}


def compared(wanted: dict[str, tuple[str, int]], gateway: GatewayServer) -> list[str]:
    """What the gateway got and should not have, or got otherwise than it should."""
    order = list(dict.fromkeys(one.id for one in gateway.received))
    faults = [f"{identifier}: sent, and nobody wanted it" for identifier in order
              if identifier not in wanted]  # fmt: skip
    faults += [f"{identifier}: sent with another text or phone" for identifier in gateway.changed()]
    last: defaultdict[str, int] = defaultdict(int)
    for identifier in order:
        name, sequence = wanted.get(identifier, ("", 0))
        if sequence and sequence < last[name]:
            faults.append(f"{name}: the text of {sequence} went out after that of {last[name]}")
        last[name] = max(last[name], sequence)
    phones = {one.to for one in gateway.received}
    if not phones <= {phone(number) for number in range(len(SUBSCRIBED))}:
        faults.append(f"sent to {phones}")
    return faults


def phone(number: int) -> str:
    """Whose texts are about the account of this number."""
    return f"+42060000000{number}"


def unreliable(draw: random.Random, every: float) -> Behaviour:
    """A gateway of which this share of the calls goes wrong, each in another way."""
    wrong = (
        Reply(status=503), Reply(status=500), Reply(status=429, headers={"Retry-After": "1"}),
        Reply(body=b"<html>welcome</html>"), Reply(body=json.dumps({"id": "another"}).encode()),
        Reply(body=b'{"id":'), Reply(body=b"[" * 5_000), Reply(cut=7), Reply(status=302),
        Reply(delay_s=2 * TIMEOUT_MS / 1000),
    )  # fmt: skip

    def behave(_: Received) -> Reply:
        return draw.choice(wrong) if draw.random() < every else Reply()

    return behave


@asynccontextmanager
async def sms_bench(home: Path, buckets: int = 1) -> AsyncIterator[SmsBench]:
    """An event bench with customers who want texts, two notifiers and a gateway."""
    async with event_bench(home, buckets) as events, gateway_server() as gateway:
        owner = await asyncpg.connect(events.servers.owner_dsn)
        for number, name in enumerate(SUBSCRIBED):
            await subscribe(owner, name, phone(number), LANGUAGES[number])
        await owner.close()
        environment = {
            "NI_SMS_DATABASE_URL": events.bench.postgres.dsn("ni_sms"),
            "NI_AMQP_URL": events.world.url,
            "NI_SMS_GATEWAY_URL": gateway.url,
            "NI_SMS_TIMEOUT_MS": str(TIMEOUT_MS),
            "NI_SMS_PAUSE_MS": "50",
            "NI_SMS_PAUSE_MAX_S": "1",
            "NI_SMS_FAILURES_MAX": "100000",
        }
        notifiers = [WorkerProcess("sms", home, environment).start() for _ in range(2)]
        try:
            await until(
                lambda: QUEUE in events.world.admin.queues(events.world.name)
                and bool(events.world.bindings(EXCHANGE, QUEUE)),
                BOUND_SECONDS, "the notifier has no queue",
            )  # fmt: skip
            await asyncio.sleep(QUEUE_KEPT_SECONDS)
            yield SmsBench(events, gateway, notifiers)
        finally:
            for notifier in notifiers:
                notifier.stop()


async def kill_notifier(sms: SmsBench, draw: random.Random) -> None:
    """One of the two dies and comes back, while the gateway is unreliable."""
    sms.gateway.behaviour = unreliable(draw, 0.3)
    async with sms.events.bench.load.running():
        await asyncio.sleep(draw.uniform(0.1, 0.5))
        victim = draw.choice(sms.notifiers)
        victim.kill()
    victim.start()


async def stop_gateway(sms: SmsBench, draw: random.Random) -> None:
    """Nobody answers at the gateway's address for a while."""
    async with sms.events.bench.load.running():
        await asyncio.sleep(draw.uniform(0.1, 0.3))
        await sms.gateway.stop()
        await asyncio.sleep(draw.uniform(0.5, 1.5))
    await sms.gateway.start()


async def repeat_events(sms: SmsBench, draw: random.Random) -> None:
    """Known events come again: no second text."""
    sms.gateway.behaviour = accept
    await sms.events.settle()
    known = list(sms.events.auditor.first.values())
    copies = draw.sample(known, min(COPIES, len(known)))
    await asyncio.to_thread(publish, sms.events.world.url, copies)
