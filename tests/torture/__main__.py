"""`python -m tests.torture`: kill everything that can be killed, and account for every movement.

What `make torture` runs: the kills of the API, of PostgreSQL, of the unloader, of the switch, of
the events' relay and broker (with all that can be done to their queues), of the relay without a
broker and of the SMS notifier, then the long forms of the races (1,000 rounds each), of the tests
of packets, of the switch, of the night copy and of the core's end of day (a bank's year with every
night), of the model test and of the benchmark's; then what is measured for hours: 1,000 switches
under load, ten minutes of a core that holds its tables, a night of an hour. `--quick` is a few
kills alone.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import random
import subprocess
import sys
import time
from collections import Counter

from ni.logs import configure_logs
from tests.support.homes import temporary_home
from tests.torture.event_campaign import torture_embedded, torture_events, torture_texts
from tests.torture.night_bench import NightBench, night_bench
from tests.torture.night_rounds import (
    core_across,
    kill_draining,
    kill_switcher_in_turn,
    two_switchers,
)
from tests.torture.packet_rounds import PacketBench, kill_in_turn, packet_bench
from tests.torture.rounds import POINTS, Bench, kill_api, kill_postgres, torture_bench

QUICK_KILLS = 12
QUICK_PG_KILLS = 2
QUICK_PACKET_KILLS = 14
QUICK_SWITCH_KILLS = 12
QUICK_RELAY_KILLS, QUICK_BROKER_KILLS, QUICK_EMBEDDED_KILLS, QUICK_SMS_KILLS = 4, 1, 2, 2
KILLS_A_RACE = 10
"""After so many kills of the switch its other rounds come once."""
LONG_TESTS = [
    f"tests/{name}"
    for name in ("races", "packets", "business_day", "night_copy", "end_of_day", "model", "bench")
]
NIGHTS = "switch,locked,night"


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.torture", description=__doc__)
    parser.add_argument("--kills", type=int, default=200, help="kills of the API process")
    parser.add_argument("--pg-kills", type=int, default=20, help="kills of the postmaster")
    parser.add_argument(
        "--packet-kills", type=int, default=200, help="kills of the unloader and its server"
    )
    parser.add_argument("--switch-kills", type=int, default=200, help="kills of the switch")
    parser.add_argument("--relay-kills", type=int, default=100, help="kills of the events' relay")
    parser.add_argument("--broker-kills", type=int, default=30, help="kills of RabbitMQ")
    parser.add_argument(
        "--embedded-kills", type=int, default=20, help="kills of the relay without a broker"
    )
    parser.add_argument("--sms-kills", type=int, default=100, help="kills of the SMS notifier")
    parser.add_argument(
        "--nights", action=argparse.BooleanOptionalAction, default=True,
        help="the long measures of switches and nights, about two and a half hours",
    )  # fmt: skip
    parser.add_argument("--quick", action="store_true", help="a few kills of each, nothing else")
    parser.add_argument("--kills-only", action="store_true", help="neither tests nor nights")
    parser.add_argument("--seed", type=int, default=None, help="repeat a run's choices")
    return parser.parse_args()


def tell(text: str) -> None:
    """One line of progress."""
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


async def torture(kills: int, pg_kills: int, seed: int) -> None:
    """All kills, on servers of their own in a folder that is removed afterwards."""
    draw = random.Random(seed)
    started = time.monotonic()
    with temporary_home() as home:
        async with torture_bench(home) as bench:
            bench.load.draw.seed(seed)
            for number in range(1, kills + 1):
                point = POINTS[number % len(POINTS)]
                await kill_api(bench, point, draw)
                if number % 10 == 0 or number == kills:
                    tell(f"{number:4} of {kills} kills of the API: {summary(bench)}")
            for number in range(1, pg_kills + 1):
                seconds = await kill_postgres(bench, draw)
                tell(f"{number:4} of {pg_kills} kills of PostgreSQL: back after {seconds:.2f} s")
            tell(f"{summary(bench)}; {time.monotonic() - started:.0f} s, seed {seed}")


async def torture_packets(kills: int, seed: int) -> None:
    """All kills while packets are unloaded, on servers of their own."""
    draw = random.Random(seed)
    turns: Counter[str] = Counter()
    started = time.monotonic()
    with temporary_home() as home:
        async with packet_bench(home) as packets:
            packets.bench.load.draw.seed(seed)
            for number in range(1, kills + 1):
                turns[await kill_in_turn(packets, number, draw)] += 1
                if number % 10 == 0 or number == kills:
                    tell(f"{number:4} of {kills} kills of packets: {packets_summary(packets)}")
            of_each = ", ".join(f"{turn} {count}" for turn, count in sorted(turns.items()))
            tell(f"{of_each}; {time.monotonic() - started:.0f} s, seed {seed}")


async def torture_switches(kills: int, seed: int) -> None:
    """All kills of the switch under load, on servers of their own."""
    draw = random.Random(seed)
    turns: Counter[str] = Counter()
    started = time.monotonic()
    with temporary_home() as home:
        async with night_bench(home) as nights:
            nights.bench.load.draw.seed(seed)
            for number in range(1, kills + 1):
                turns[await kill_switcher_in_turn(nights, number, draw)] += 1
                if number % KILLS_A_RACE == 0 or number == kills:
                    await two_switchers(nights, draw)
                    await core_across(nights, draw)
                    waited = await kill_draining(nights, draw)
                    turns["unloader, waited for" if waited else "unloader"] += 1
                    tell(f"{number:4} of {kills} kills of the switch: {nights_summary(nights)}")
            of_each = ", ".join(f"{turn} {count}" for turn, count in sorted(turns.items()))
            tell(f"{of_each}; {time.monotonic() - started:.0f} s, seed {seed}")


def long_nights() -> int:
    """Switches and nights, measured as long as their table says; returns the exit code."""
    command = [sys.executable, "-m", "bench", "--whole-nights", "--strict", "--only", NIGHTS]
    return subprocess.run(command, check=False).returncode


def long_tests() -> int:
    """The long forms of the tests; returns pytest's exit code."""
    command = [sys.executable, "-m", "pytest", "-n", "2", "--dist", "loadfile", "--timeout", "7200"]
    environment = os.environ | {"NI_TORTURE": "1"}
    return subprocess.run([*command, *LONG_TESTS], env=environment, check=False).returncode


def summary(bench: Bench) -> str:
    load = bench.load
    return (
        f"{len(load.acknowledged)} requests answered, {load.resolved} of them by their key,"
        f" {len(load.postings)} postings and {len(load.holds)} holds, every one there once"
    )


def packets_summary(packets: PacketBench) -> str:
    orders = packets.unloader.journal.orders()
    return (
        f"{len(packets.bench.load.postings)} postings, {len(orders)} orders,"
        f" {packets.repeated} of them given again, {packets.observer.snapshots} snapshots,"
        " nothing by halves, nothing twice"
    )


def nights_summary(nights: NightBench) -> str:
    return (
        f"{nights.switches} switches, {len(nights.bench.load.acknowledged)} requests answered,"
        f" {nights.checked} balances that follow from the movements"
    )


def main() -> None:
    asked = arguments()
    kills, pg_kills, packet_kills = asked.kills, asked.pg_kills, asked.packet_kills
    switch_kills, sms_kills = asked.switch_kills, asked.sms_kills
    relay_kills, broker_kills = asked.relay_kills, asked.broker_kills
    embedded_kills = asked.embedded_kills
    if asked.quick:
        kills, pg_kills, packet_kills = QUICK_KILLS, QUICK_PG_KILLS, QUICK_PACKET_KILLS
        switch_kills, sms_kills = QUICK_SWITCH_KILLS, QUICK_SMS_KILLS
        relay_kills, broker_kills = QUICK_RELAY_KILLS, QUICK_BROKER_KILLS
        embedded_kills = QUICK_EMBEDDED_KILLS
    configure_logs("error")  # the night copy's keeper runs in this process
    seed = random.randrange(10**6) if asked.seed is None else asked.seed
    if kills or pg_kills:
        asyncio.run(torture(kills, pg_kills, seed))
    if packet_kills:
        asyncio.run(torture_packets(packet_kills, seed))
    if switch_kills:
        asyncio.run(torture_switches(switch_kills, seed))
    if relay_kills or broker_kills:
        asyncio.run(torture_events(relay_kills, broker_kills, seed, tell))
    if embedded_kills:
        asyncio.run(torture_embedded(embedded_kills, seed, tell))
    if sms_kills:
        asyncio.run(torture_texts(sms_kills, seed, tell))
    if asked.quick or asked.kills_only:
        return
    sys.exit(long_tests() or (long_nights() if asked.nights else 0))


if __name__ == "__main__":
    main()
