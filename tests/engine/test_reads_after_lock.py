"""A decision reads base, applied and state after its locks, in one snapshot, waiting for no core.

Money: a decision that read before it had the lock would spend what another has just spent; one
that read base and applied in two snapshots would count a packet twice or not at all.
"""

from __future__ import annotations

import asyncio
import json
import random
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

import pytest

from ni.decisions import Decision
from tests.engine.unloader import unload
from tests.engine.world import (
    CASH,
    FEES,
    World,
    cancel,
    debit,
    decisions,
    hold,
    id_of,
    made,
    minor,
)

BUCKETS = pytest.mark.parametrize("buckets", [1, 8])
UNLOADS = 250
STORM_SECONDS = 60

_JUMPS = """
select account, sequence, before, direction * amount as moved, available_after
from (select *, lag(available_after) over (partition by account order by sequence) as before
      from ni.outbox) as event
where available_after <> before + direction * amount
"""
_AVAILABLE_AT = "select account, sequence, available_after from ni.outbox"
_SPEND = """
insert into ni.state
select $1, $2, 0, -$3::bigint, 0, 1, ni.clock(), null
on conflict (bucket, account, era) do update
set created = ni.state.created - $3, sequence = ni.state.sequence + 1, decided_at = ni.clock()
"""


@BUCKETS
@pytest.mark.parametrize("known", [True, False], ids=["known", "never seen"])
async def test_it_sees_what_the_lock_waited_for(world: World, known: bool) -> None:
    """Another process spends the money while this decision waits for the position."""
    account = await world.open_in(world.buckets - 1, balance=100)
    if known:
        made(await world.engine.submit(debit(account, 10)))
    left = 90 if known else 100
    async with world.stranger() as other:
        async with world.locked(account, other):
            late = asyncio.create_task(world.engine.submit(debit(account, left)))
            await world.until_waiting()
            await other.execute(_SPEND, world.buckets - 1, account, 60)
        assert (await late).decision is Decision.insufficient_funds
    assert await world.available(account) == left - 60


@BUCKETS
async def test_it_sees_a_packet_that_committed_while_it_waited(world: World) -> None:
    """Both counters of the packet or neither: the available is the same as before it."""
    account = await world.open_in(world.buckets - 1, balance=100)
    for _ in range(3):
        made(await world.engine.submit(debit(account, 20)))
    async with world.stranger() as other, world.stranger() as packet:
        async with world.locked(account, other):
            late = asyncio.create_task(world.engine.submit(debit(account, 40)))
            later = asyncio.create_task(world.engine.submit(debit(account, 1)))
            await world.until_waiting()
            assert await unload(packet) == 3
        assert made(await late)["debit"]["available_after"] == "0.00"
        assert (await later).decision is Decision.insufficient_funds


@dataclass
class Storm:
    """Packets that are unloaded until enough of them have booked something."""

    world: World
    left: int
    stopped: asyncio.Event = field(default_factory=asyncio.Event)

    async def unload(self, packet: str) -> None:
        """Unload one packet again and again."""
        async with self.world.stranger() as session, asyncio.timeout(STORM_SECONDS):
            while self.left > 0:
                booked = await unload(session, packet)
                self.left -= booked > 0
                await asyncio.sleep(0 if booked else 0.001)
        self.stopped.set()

    async def repeat(self, work: Callable[[], Awaitable[None]]) -> None:
        """Work beside the packets."""
        while not self.stopped.is_set():
            await work()


@BUCKETS
async def test_available_never_jumps_while_packets_are_unloaded(world: World) -> None:
    """Debits, credits, transfers and cancels on few accounts while packets book them."""
    names = await world.open(8)
    storm = Storm(world, left=UNLOADS)
    seen: list[tuple[str, int, int]] = []
    await asyncio.gather(
        storm.unload("p"),
        storm.unload("q"),
        *(storm.repeat(lambda: _decide_some(world, names)) for _ in range(4)),
        storm.repeat(lambda: _look(world, random.choice(names), seen)),
    )
    assert [dict(row) for row in await world.owner.fetch(_JUMPS)] == []
    told = {(n, s): a for n, s, a in await world.owner.fetch(_AVAILABLE_AT)}
    assert [s for s in seen if s[1] and told[s[0], s[1]] != s[2]] == [], "a read was torn"
    assert await world.bank.faults() == []


async def test_an_internal_account_is_read_in_one_snapshot(world: World) -> None:
    """Booked plus pending of an account that is only ever credited never falls."""
    names = await world.open(4)
    storm = Storm(world, left=UNLOADS // 2)
    totals: list[int] = []

    async def fill() -> None:
        commands = [debit(random.choice(names), 1, credit=FEES) for _ in range(20)]
        await world.engine.submit_batch(commands, atomic=False)

    async def look() -> None:
        document = await world.balance(FEES)
        totals.append(minor(document["booked"]) + minor(document["pending"]))

    await asyncio.gather(storm.unload("p"), storm.repeat(fill), storm.repeat(look))
    assert totals == sorted(totals)


async def _decide_some(world: World, names: list[str]) -> None:
    one, two = random.sample(names, 2)
    packet = random.choice("pq")
    commands = [
        debit(one, random.randint(1, 50), packet=packet),
        debit(one, random.randint(1, 50), credit=two, packet=packet),
        debit(CASH, random.randint(1, 99), credit=two, packet=packet),
    ]
    answers = await asyncio.gather(*(world.engine.submit(command) for command in commands))
    if answers[0].decision is Decision.approved:
        await world.engine.submit(cancel(id_of(answers[0])))


async def _look(world: World, name: str, seen: list[tuple[str, int, int]]) -> None:
    document = await world.balance(name)
    seen.append((name, document["sequence"], minor(document["available"])))


@BUCKETS
async def test_it_waits_for_no_row_of_the_core_or_of_a_packet(world: World) -> None:
    """A packet or the core holds every row but the position, for as long as it likes."""
    one, two = await world.open(2)
    made(await world.engine.submit(debit(one, 1, credit=two)))
    held = made(await world.engine.submit(hold(one, 1)))
    async with world.stranger() as packet:
        assert await unload(packet) in (1, 2)
        made(await world.engine.submit(debit(one, 1, credit=two)))
        async with packet.transaction():
            for relation in ("core.account", "core.ledger", "ni.applied", "ni.posting"):
                await packet.execute(f"select from {relation} for update")
            await packet.execute("update core.account set balance = balance + 1")
            await packet.execute(
                "insert into core.block (account, side, legal_reference, valid_from)"
                " values ($1, 'all', 'x', '2020-01-01Z')",
                one,
            )
            commands = [debit(one, 1, credit=two), debit(two, 1), hold(two, 1), debit(CASH, 1, two)]
            answers = await asyncio.gather(*(world.engine.submit(c) for c in commands))
            assert decisions(answers) == ["approved"] * 4
            assert json.loads(answers[0].document)["debit"]["sequence"] == held["sequence"] + 2
            assert await world.available(one) == 1000_00 - 4
