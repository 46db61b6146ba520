"""The long form of the events' faults: relay and broker killed many times, and all the others."""

from __future__ import annotations

import asyncio
import json
import random
import time
from collections import Counter
from collections.abc import Callable
from typing import Final

import asyncpg

from tests.support.bank import Bank, CoreAccount
from tests.support.caller import fresh_key
from tests.support.homes import temporary_home
from tests.torture.account_for import UnaccountedError
from tests.torture.event_bench import COMMITTED, EventBench, event_bench
from tests.torture.event_crashes import crash_consumer
from tests.torture.event_rounds import ROUNDS, TAKEOVER_SECONDS, kill_broker, kill_relay
from tests.torture.event_sms import (
    SmsBench,
    kill_notifier,
    repeat_events,
    sms_bench,
    stop_gateway,
)
from tests.torture.load import CASH

EVENTS_MIN: Final = 200_000
WHOLE_KILLS: Final = 100
FLOOD_ACCOUNTS: Final = 1_000
FLOOD_ITEMS: Final = 1_000
ROUNDS_EVERY: Final = 10
"""After so many kills each of the other faults comes once."""

Tell = Callable[[str], None]


async def torture_events(relay_kills: int, broker_kills: int, seed: int, tell: Tell) -> None:
    """All kills, and as many events as make EVENTS_MIN in a whole campaign of a hundred kills."""
    draw, turns, started = random.Random(seed), Counter[str](), time.monotonic()
    with temporary_home() as home:
        async with event_bench(home) as events:
            events.bench.load.draw.seed(seed)
            await open_flood_accounts(events)
            for number in range(1, relay_kills + 1):
                await asyncio.gather(kill_relay(events, draw), flood(events, 2, draw))
                turns["relay"] += 1
                if number % ROUNDS_EVERY == 0 or number == relay_kills:
                    await other_rounds(events, draw, turns)
                    await events.count()
                    tell(f"{number:4} of {relay_kills} kills of the relay: {summary(events)}")
            for number in range(1, broker_kills + 1):
                await kill_broker(events, draw)
                turns["broker"] += 1
                if number % ROUNDS_EVERY == 0 or number == broker_kills:
                    await events.count()
                    tell(f"{number:4} of {broker_kills} kills of the broker: {summary(events)}")
            if relay_kills >= WHOLE_KILLS and events.events < EVENTS_MIN:
                raise UnaccountedError(f"only {events.events} events")
            takeovers(events)
    of_each = ", ".join(f"{turn} {count}" for turn, count in sorted(turns.items()))
    tell(f"{of_each}; {time.monotonic() - started:.0f} s, seed {seed}")


async def other_rounds(events: EventBench, draw: random.Random, turns: Counter[str]) -> None:
    """Each of the other faults once."""
    for name, bad_luck in ROUNDS.items():
        await bad_luck(events, draw)
        turns[name] += 1
    turns["deaths of a consumer"] += await crash_consumer(events)


def takeovers(events: EventBench) -> None:
    """Every takeover was in time; while the machine stood still no time is counted."""
    late = [one for one in events.takeovers if one.own_s > TAKEOVER_SECONDS]
    if late:
        raise UnaccountedError(f"took over too late: {late}")


async def open_flood_accounts(events: EventBench) -> None:
    """Accounts of which each batch moves every one once."""
    owner = await asyncpg.connect(events.servers.owner_dsn)
    try:
        accounts = [CoreAccount(name(n), balance=10**9) for n in range(FLOOD_ACCOUNTS)]
        await Bank(owner).open_accounts(accounts)
    finally:
        await owner.close()


def name(number: int) -> str:
    """An account of the flood."""
    return f"FLOOD-{number}"


async def flood(events: EventBench, batches: int, draw: random.Random) -> None:
    """Many events at one time, as from a salary run."""
    before = await events.ask(COMMITTED)
    for _ in range(batches):
        items = [
            {"operation": "posting", "idempotency_key": fresh_key(), "debit_account": name(n),
             "credit_account": CASH, "amount": f"{draw.randrange(1, 9)}.00", "currency": "CZK",
             "packet": "flood"}
            for n in draw.sample(range(FLOOD_ACCOUNTS), FLOOD_ITEMS)
        ]  # fmt: skip
        content = json.dumps({"mode": "independent", "items": items}).encode()
        answer = await events.bench.load.caller.send("/v1/batches", content, fresh_key())
        if answer.status != 200:
            raise UnaccountedError(f"a batch was answered {answer.status} {answer.content[:300]!r}")
    if await events.ask(COMMITTED) < before + batches * FLOOD_ITEMS:
        raise UnaccountedError("a batch made too few events")


async def torture_texts(kills: int, seed: int, tell: Tell) -> None:
    """The notifier killed, its gateway down, slow and talking nonsense, events repeated."""
    draw, started = random.Random(seed), time.monotonic()
    with temporary_home() as home:
        async with sms_bench(home, 8) as sms:
            sms.events.bench.load.draw.seed(seed)
            for number in range(1, kills + 1):
                await kill_notifier(sms, draw)
                if number % ROUNDS_EVERY == 0 or number == kills:
                    await stop_gateway(sms, draw)
                    await kill_broker(sms.events, draw)
                    await kill_relay(sms.events, draw)
                    await repeat_events(sms, draw)
                    await sms.count()
                    tell(f"{number:4} of {kills} kills of the notifier: {texts(sms)}")
            tell(f"{texts(sms)}; {time.monotonic() - started:.0f} s, seed {seed}")


def summary(events: EventBench) -> str:
    return (
        f"{events.events} events, none lost, none invented, each account in its order;"
        f" {events.auditor.copies} came again, all of them the same"
    )


def texts(sms: SmsBench) -> str:
    return f"{sms.texts} texts, {len(sms.gateway.received)} calls of the gateway, each text once"
