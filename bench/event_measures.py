"""The measures of events: how soon and how fast they leave, and whom that holds up."""

import asyncio
import dataclasses
import json
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import asyncpg
from pika.adapters.blocking_connection import BlockingChannel

from bench import plan as plans
from bench.event_loop import LoopSpec
from bench.event_servers import (
    QUEUE,
    QUEUE_KEPT_S,
    EventServers,
    clear_outbox,
    event_servers,
    rate_of_arrival,
    until_empty,
    waiting,
)
from bench.event_sink import SinkResult, SinkSpec
from bench.load_spec import BEGUN
from bench.machine import ROOT
from bench.measures import LONGEST_SWEEP_S, Bench
from bench.processes import BenchError, in_time
from bench.queries import query
from bench.tools import open_load
from bench.watches import looking
from ni.settings import Settings

RING = 1_000
DRAIN_LIMIT_S = 300.0
SINK_LIMIT_S = 180.0
SIZE_STEP_S = 1.0


class SinkRun:
    """A sink that is under way in a process of its own."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        """Belong to a process that listens."""
        self._process = process

    async def finish(self, events: int, since_us: int) -> SinkResult:
        """Wait for so many events; return what came. Raises BenchError if any did not."""
        line = json.dumps({"events": events, "since_us": since_us}) + "\n"
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(line.encode())
        answer = await in_time(self._process.stdout.readline(), SINK_LIMIT_S, "the last events")
        if not answer:
            raise BenchError("the consumer of events has ended")
        result = SinkResult(**json.loads(answer))
        if result.events != events:
            raise BenchError(f"{result.events} different events came instead of {events}")
        return result


@asynccontextmanager
async def sink(servers: EventServers) -> AsyncIterator[SinkRun]:
    """Take every event out of the queue as long as the block runs."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "bench.event_sink", stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE, cwd=ROOT, start_new_session=True,
    )  # fmt: skip
    try:
        assert process.stdin is not None
        assert process.stdout is not None
        spec = SinkSpec(servers.url, QUEUE)
        process.stdin.write(json.dumps(dataclasses.asdict(spec)).encode() + b"\n")
        line = await in_time(process.stdout.readline(), SINK_LIMIT_S, "the consumer's start")
        if line.decode().strip() != BEGUN:
            raise BenchError("the consumer of events did not begin")
        yield SinkRun(process)
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()


async def measure_confirm(bench: Bench) -> None:
    """Debits at a fixed rate: from each decision until the broker has its event."""
    rate = float(plans.EVENT_RATE)
    spec = bench.spec("posting", plans.OPEN_CONNECTIONS, bench.plan.event_s, rate=rate)
    async with (
        event_servers(bench) as servers, servers.queue(), sink(servers) as taken, servers.relay(),
    ):  # fmt: skip
        # The relay's start is not part of the time: it has to have delivered something.
        first = await bench.load("batch", 1, LONGEST_SWEEP_S, count=1)
        await until_empty(bench)
        async with open_load(spec) as load:
            await load.begun()
            since_us = time.time_ns() // 1000
            result = await load.result()
        bench.account_for("posting", result)
        bench.figures.add("confirm", result)
        found = await taken.finish(first.approved + result.approved, since_us)
    events = bench.figures.events
    events.confirmed, events.copies = found.counted, found.copies
    events.p50_ms, events.p99_ms, events.max_ms = found.p50_ms, found.p99_ms, found.max_ms
    bench.say(f"   {found.counted:,} events, p99 {found.p99_ms:.1f} ms")


async def measure_drain(bench: Bench) -> None:
    """A backlog drained by the relay, and as many events published by a bare loop."""
    for _ in range(bench.plan.drain_pairs):
        async with event_servers(bench) as servers, servers.queue() as channel:
            await asyncio.sleep(QUEUE_KEPT_S)
            relay = await _drained(bench, servers)
            bodies = _bodies(channel, bench.world.home / "event-bodies")
            channel.queue_purge(QUEUE)
            loop = await _published(bench, servers, bodies)
        bench.figures.events.relay_rates.append(relay)
        bench.figures.events.loop_rates.append(loop)
        bench.say(f"   relay {relay:,.0f} /s, bare loop {loop:,.0f} /s")


async def _drained(bench: Bench, servers: EventServers) -> float:
    events = bench.plan.backlog
    connections = plans.BATCH_CONNECTIONS
    made = await bench.load("batch", connections, LONGEST_SWEEP_S, count=events)
    if made.approved != events or await waiting(bench) != events:
        raise BenchError(f"{made.approved} of {events} events are in the outbox")
    async with servers.relay():
        rate = await asyncio.to_thread(rate_of_arrival, servers.url, events, DRAIN_LIMIT_S)
        await until_empty(bench)
    return rate


def _bodies(channel: BlockingChannel, path: Path) -> Path:
    """Keep some of the events that the relay has published, a line each."""
    with path.open("wb") as file:
        for _ in range(RING):
            method, _properties, body = channel.basic_get(QUEUE, auto_ack=True)
            if method is None or body is None:
                break
            file.write(body + b"\n")
    return path


async def _published(bench: Bench, servers: EventServers, bodies: Path) -> float:
    events = bench.plan.backlog
    window = int(Settings.model_fields["relay_window"].default)
    spec = LoopSpec(servers.url, str(bodies), events, window)
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "bench.event_loop", stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE, cwd=ROOT, start_new_session=True,
    )  # fmt: skip
    try:
        given = json.dumps(dataclasses.asdict(spec)).encode() + b"\n"
        rate, (output, _) = await asyncio.gather(
            asyncio.to_thread(rate_of_arrival, servers.url, events, DRAIN_LIMIT_S),
            process.communicate(given),
        )
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    if json.loads(output) != {"confirmed": events, "returned": 0}:
        raise BenchError(f"the bare loop found {output!r}")
    return rate


async def measure_deliver(bench: Bench) -> None:
    """Debits at a fixed rate: with nothing that delivers, with all of it, with a dead broker."""
    await _want_texts(bench)
    for _ in range(bench.plan.deliver_pairs):
        await clear_outbox(bench)
        await _offered(bench, "events without")
        async with event_servers(bench) as servers, servers.notifier(), servers.relay():
            await bench.load("batch", 1, LONGEST_SWEEP_S, count=1)
            await until_empty(bench)
            await _offered(bench, "events alive")
            await until_empty(bench)
            servers.server.kill()
            approved = await _offered(bench, "events dead")
            held = await waiting(bench)
            if held != approved:
                raise BenchError(f"{held} events wait for a dead broker, {approved} were decided")
            bench.figures.events.held.append(held)
            servers.server.start()  # the end of the block takes leave of it
        alive = bench.figures.p99_ratios("events alive", "events without")[-1]
        dead = bench.figures.p99_ratios("events dead", "events alive")[-1]
        bench.say(f"   p99 with ÷ without {alive:.2f}, the broker dead ÷ alive {dead:.2f}")
    bench.figures.events.texts = await _number(bench, "sms_count")


async def _offered(bench: Bench, series: str) -> int:
    """Offer debits for a while; return how many were approved, those of the warm-up too."""
    rate = float(plans.EVENT_RATE)
    spec = bench.spec("posting", plans.OPEN_CONNECTIONS, bench.plan.deliver_s, rate=rate)
    async with open_load(spec) as load:
        await load.begun()
        result = await load.result()
    bench.account_for("posting", result)
    bench.figures.add(series, result)
    return result.approved


async def _want_texts(bench: Bench) -> None:
    connection: asyncpg.Connection = await asyncpg.connect(bench.world.owner_dsn)
    try:
        await connection.execute(query("sms_want"), bench.plan.accounts)
    finally:
        await connection.close()


async def _number(bench: Bench, name: str) -> int:
    connection: asyncpg.Connection = await asyncpg.connect(bench.world.owner_dsn)
    try:
        found: int = await connection.fetchval(query(name))
    finally:
        await connection.close()
    return found


async def measure_outbox(bench: Bench) -> None:
    """Very many events pass through; how large the outbox is meanwhile."""
    plan, found = bench.plan, bench.figures.events
    seconds = plan.outbox_events / plan.outbox_rate
    rate = plan.outbox_rate / plans.BATCH_ITEMS
    # Few connections: the server closes one that is idle for five seconds.
    spec = bench.spec("batch", plans.BATCH_CONNECTIONS, seconds, rate=rate)
    text = query("outbox_bytes")

    async def look(connection: asyncpg.Connection) -> None:
        found.outbox_bytes.append(await connection.fetchval(text))
        await asyncio.sleep(SIZE_STEP_S)

    async with (
        event_servers(bench) as servers, servers.queue(), sink(servers) as taken, servers.relay(),
        open_load(spec) as load,
    ):  # fmt: skip
        await load.begun()
        async with looking(bench.world.owner_dsn, look):
            result = await load.result()
        bench.account_for("batch", result)
        await until_empty(bench)
        arrived = await taken.finish(result.approved, 0)
    found.outbox_events = arrived.events
