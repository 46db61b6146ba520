"""Rounds of bad luck for texts: the notifier, its gateway, the relay, the broker; copies of events.

The gateway is an HTTP server of the test's own that fails in many ways. What it got is compared
with what was committed: each event once by its id, the same text each time, to its customer, with
its account and its amounts, and an account's texts in its order.
"""

from __future__ import annotations

import asyncio
import json
import random
import re
import time
from collections import defaultdict
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

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
from tests.support.broker import VirtualHost
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
from tests.torture.event_flood import flood_account, open_flood_accounts
from tests.torture.event_rounds import publish
from tests.torture.load import ACCOUNTS, account

QUEUE: Final = "ni.sms"
CONNECTIONS: Final = 4
"""Of one notifier: fewer than there are accounts, so that these wait for each other's turns."""
LANGUAGES: Final = ("en", "ja", "ru")
AMOUNTS: Final = {
    "en": r"-?CZK [\d,]+\.\d\d",
    "ja": r"-?CZK\u00a0[\d,]+\.\d\d",
    "ru": r"-?[\d\u00a0]+,\d\d\u00a0CZK",
}
TIME: Final = re.compile(r"\d{4}-\d\d-\d\d \d\d:\d\d")
WANTED_MIN: Final = 20
"""With fewer texts nothing is shown."""
TELLABLE: Final = (
    "ni.hold.placed", "ni.hold.adjusted", "ni.hold.captured", "ni.hold.released",
    "ni.hold.expired", "ni.posting.created", "ni.posting.cancelled", "ni.debit.refused",
)  # fmt: skip
WANTED: Final = (Path(__file__).parent / "event_wanted.sql").read_text()
UNSENT: Final = "select count(*) from ni.sms_message where status <> 'sent'"
SEND_SECONDS: Final = 150.0
"""Without one more text than before."""
TIMEOUT_MS: Final = 500
COPIES: Final = 100


@dataclass
class SmsBench:
    """Events on their way to a gateway through two notifiers."""

    events: EventBench
    gateway: GatewayServer
    notifiers: list[WorkerProcess]
    subscribed: dict[str, int]
    """The number of each account whose customer wants texts."""
    texts: int = 0

    async def count(self) -> None:
        """Wait until everything was sent, then compare. Raises UnaccountedError."""
        await self.events.count()
        wanted = await self.sent()
        faults = compared(wanted, self.gateway, self.subscribed)
        if len(wanted) < WANTED_MIN:
            faults.append(f"only {len(wanted)} texts were wanted")
        if faults:
            raise UnaccountedError("; ".join(faults[:5]))
        self.texts = len(wanted)

    async def sent(self) -> dict[str, dict[str, Any]]:
        """Wait until everything was sent; what should be. Raises UnaccountedError."""
        wanted = await self._wanted()
        before, deadline = -1, 0.0
        while True:
            got = {one.id for one in self.gateway.received}
            if got >= wanted.keys() and not await self.events.ask(UNSENT):
                return wanted
            if len(got) > before:
                before, deadline = len(got), time.monotonic() + SEND_SECONDS
            if time.monotonic() > deadline:
                logs = "\n".join(one.log[-1500:] for one in self.notifiers)
                raise UnaccountedError(f"{len(got)} of {len(wanted)} texts were sent: {logs}")
            await asyncio.sleep(0.2)

    async def _wanted(self) -> dict[str, dict[str, Any]]:
        """Every event of which a text must have gone out, by its id."""
        owner = await asyncpg.connect(self.events.servers.owner_dsn)
        try:
            rows = await owner.fetch(WANTED, list(self.subscribed), list(TELLABLE))
        finally:
            await owner.close()
        return {row["id"]: dict(row) for row in rows}


def compared(
    wanted: dict[str, dict[str, Any]], gateway: GatewayServer, subscribed: dict[str, int]
) -> list[str]:
    """What the gateway got and should not have, or got otherwise than it should."""
    order = list(dict.fromkeys(one.id for one in gateway.received))
    faults = [f"{identifier}: sent, and nobody wanted it" for identifier in order
              if identifier not in wanted]  # fmt: skip
    faults += [f"{identifier}: sent with another text or phone" for identifier in gateway.changed()]
    faults += [wrong for one in gateway.received if one.id in wanted
               for wrong in altered(wanted[one.id], one, subscribed)]  # fmt: skip
    last: defaultdict[str, int] = defaultdict(int)
    for identifier in order:
        if identifier not in wanted or wanted[identifier]["sequence"] is None:
            continue
        name, sequence = wanted[identifier]["account"], wanted[identifier]["sequence"]
        if sequence < last[name]:
            faults.append(f"{name}: the text of {sequence} went out after that of {last[name]}")
        last[name] = max(last[name], sequence)
    return faults


def altered(event: dict[str, Any], got: Received, subscribed: dict[str, int]) -> list[str]:
    """In what a text differs from its event. What renders texts is asked nothing.

    One that came after a later one has a time, and no balance.
    """
    number = subscribed[event["account"]]
    said = re.findall(AMOUNTS[language(number)], got.text)
    minor = [int(re.sub(r"[^\d-]", "", amount)) for amount in said]
    late = TIME.search(got.text) is not None
    expected = [event["amount"]] if late else [event["amount"], event["available_after"]]
    mask = f"*{event['account'][-4:]}"
    wrong = {
        f"sent to {got.to}": got.to != phone(number),
        f"is about another account than {mask}": re.findall(r"\*\S{4}", got.text) != [mask],
        f"says {minor}, not {expected}": minor != expected,
    }
    return [f"{got.id}: {told}" for told, holds in wrong.items() if holds]


def phone(number: int) -> str:
    """Whose texts are about the account of this number."""
    return f"+42060000{number:04}"


def language(number: int) -> str:
    """In which language they are."""
    return LANGUAGES[number % len(LANGUAGES)]


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
async def sms_bench(
    home: Path, buckets: int = 1, *, flooded: int = 0, connections: int = CONNECTIONS
) -> AsyncIterator[SmsBench]:
    """An event bench with customers who want texts, two notifiers and a gateway.

    `flooded` customers' accounts can be flooded; each notifier has `connections` to the gateway.
    """
    async with event_bench(home, buckets) as events, gateway_server() as gateway:
        await open_flood_accounts(events, flooded)
        names = [account(n) for n in range(ACCOUNTS)] + [flood_account(n) for n in range(flooded)]
        owner = await asyncpg.connect(events.servers.owner_dsn)
        for number, name in enumerate(names):
            await subscribe(owner, name, phone(number), language(number))
        await owner.close()
        environment = {
            "NI_SMS_DATABASE_URL": events.bench.postgres.dsn("ni_sms"),
            "NI_AMQP_URL": events.world.url,
            "NI_SMS_GATEWAY_URL": gateway.url,
            "NI_SMS_TIMEOUT_MS": str(TIMEOUT_MS),
            "NI_SMS_CONNECTIONS": str(connections),
            "NI_SMS_PAUSE_MS": "50",
            "NI_SMS_PAUSE_MAX_S": "1",
            "NI_SMS_FAILURES_MAX": "100000",
        }
        notifiers = [WorkerProcess("sms", home, environment).start() for _ in range(2)]
        try:
            await has_way(events)
            yield SmsBench(events, gateway, notifiers, {n: i for i, n in enumerate(names)})
        finally:
            for notifier in notifiers:
                notifier.stop()


async def has_way(events: EventBench) -> None:
    """Wait until the notifier has its queue, and events lead there. Raises UnaccountedError."""
    world = events.world
    await until(
        lambda: QUEUE in world.admin.queues(world.name) and bool(world.bindings(EXCHANGE, QUEUE)),
        BOUND_SECONDS, "the notifier has no queue, or nothing leads there",
    )  # fmt: skip
    await asyncio.sleep(QUEUE_KEPT_SECONDS)


async def lose_way(
    sms: SmsBench, draw: random.Random, take_away: Callable[[VirtualHost], object]
) -> None:
    """Nothing leads to the notifier any more: by itself it sees to it that something does again.

    Meanwhile no relay works, for an event that another queue takes has left.
    """
    await sms.events.rest()
    await sms.sent()
    for relay in sms.events.relays:
        relay.kill()
    async with sms.events.running():
        await asyncio.sleep(draw.uniform(0.1, 0.3))
        take_away(sms.events.world)
        await has_way(sms.events)
    for relay in sms.events.relays:
        relay.start()
    await sms.events.settle()


WAYS: Final[dict[str, Callable[[VirtualHost], object]]] = {
    "binding": lambda world: world.delete_bindings(EXCHANGE, QUEUE),
    "queue": lambda world: world.delete_queue(QUEUE),
}
"""What is taken away from the notifier."""


async def kill_notifier(sms: SmsBench, draw: random.Random) -> None:
    """One of the two dies and comes back, while the gateway is unreliable."""
    sms.gateway.behaviour = unreliable(draw, 0.3)
    async with sms.events.running():
        await asyncio.sleep(draw.uniform(0.1, 0.5))
        victim = draw.choice(sms.notifiers)
        victim.kill()
    victim.start()


async def stop_gateway(sms: SmsBench, draw: random.Random) -> None:
    """Nobody answers at the gateway's address for a while."""
    async with sms.events.running():
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
