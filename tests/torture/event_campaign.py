"""The long form of the events' faults: relay and broker killed many times, and all the others."""

from __future__ import annotations

import asyncio
import random
import time
from collections import Counter
from collections.abc import Callable
from typing import Final

from tests.support.homes import temporary_home
from tests.torture.account_for import UnaccountedError
from tests.torture.event_bench import EventBench, event_bench
from tests.torture.event_check import TYPES, check_types
from tests.torture.event_crashes import crash_consumer
from tests.torture.event_flood import FLOOD_ACCOUNTS, flood, open_flood_accounts
from tests.torture.event_rounds import (
    EMBEDDED_ROUNDS,
    ROUNDS,
    TAKEOVER_SECONDS,
    kill_broker,
    kill_relay,
)
from tests.torture.event_sms import (
    WAYS,
    SmsBench,
    kill_notifier,
    lose_way,
    repeat_events,
    sms_bench,
    stop_gateway,
)

CONNECTIONS: Final = 16
EVENTS_MIN: Final = 200_000
TEXTS_MIN: Final = 100_000
WHOLE_KILLS: Final = 100
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
            tell_types(events, tell)
    tell(f"{of_each(turns)}; {time.monotonic() - started:.0f} s, seed {seed}")


async def torture_embedded(relay_kills: int, seed: int, tell: Tell) -> None:
    """The relay's rounds once more, where events leave by PostgreSQL's own queues."""
    draw, turns, started = random.Random(seed), Counter[str](), time.monotonic()
    with temporary_home() as home:
        async with event_bench(home, embedded=True) as events:
            events.bench.load.draw.seed(seed)
            await open_flood_accounts(events)
            for number in range(1, relay_kills + 1):
                await asyncio.gather(kill_relay(events, draw), flood(events, 1, draw))
                turns["relay"] += 1
                if number % ROUNDS_EVERY == 0 or number == relay_kills:
                    for name, bad_luck in EMBEDDED_ROUNDS.items():
                        await bad_luck(events, draw)
                        turns[name] += 1
                    await events.count()
                    tell(f"{number:4} of {relay_kills} kills without a broker: {summary(events)}")
            takeovers(events)
            tell_types(events, tell)
    tell(f"{of_each(turns)}; {time.monotonic() - started:.0f} s, seed {seed}")


def tell_types(events: EventBench, tell: Tell) -> None:
    """How many of each type; raises UnaccountedError when one never happened."""
    tell(", ".join(f"{kind} {events.kinds[kind]}" for kind in TYPES))
    check_types(events.kinds)


def of_each(turns: Counter[str]) -> str:
    """How often each thing was done."""
    return ", ".join(f"{turn} {count}" for turn, count in sorted(turns.items()))


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


async def torture_texts(kills: int, seed: int, tell: Tell) -> None:
    """The notifier killed, its gateway down, slow and talking nonsense, events repeated."""
    draw, turns, started = random.Random(seed), Counter[str](), time.monotonic()
    with temporary_home() as home:
        async with sms_bench(home, 8, flooded=FLOOD_ACCOUNTS, connections=CONNECTIONS) as sms:
            sms.events.bench.load.draw.seed(seed)
            for number in range(1, kills + 1):
                await asyncio.gather(kill_notifier(sms, draw), flood(sms.events, 1, draw))
                turns["notifier"] += 1
                if number % ROUNDS_EVERY == 0 or number == kills:
                    await other_text_rounds(sms, draw, turns)
                    tell(f"{number:4} of {kills} kills of the notifier: {texts(sms)}")
            if kills >= WHOLE_KILLS and sms.texts < TEXTS_MIN:
                raise UnaccountedError(f"only {sms.texts} texts")
            tell_types(sms.events, tell)
    tell(f"{of_each(turns)}; {time.monotonic() - started:.0f} s, seed {seed}")


async def other_text_rounds(sms: SmsBench, draw: random.Random, turns: Counter[str]) -> None:
    """Each of the other faults once."""
    await stop_gateway(sms, draw)
    await kill_broker(sms.events, draw)
    await kill_relay(sms.events, draw)
    await repeat_events(sms, draw)
    for name, take_away in WAYS.items():
        await lose_way(sms, draw, take_away)
        turns[f"notifier's {name}"] += 1
    await sms.count()
    turns.update(["gateway", "broker", "relay", "copies"])


def summary(events: EventBench) -> str:
    return (
        f"{events.events} events, none lost, none invented, each account in its order;"
        f" {events.auditor.copies} came again, all of them the same"
    )


def texts(sms: SmsBench) -> str:
    return f"{sms.texts} texts, {len(sms.gateway.received)} calls of the gateway, each text once"
