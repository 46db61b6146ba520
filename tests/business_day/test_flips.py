"""Flips under load: no call fails, and every answer's mode, epoch and base belong together.

By night the core books 100.00 on every account by itself, so day and night never have one base. An
epoch tells which base an answer must show.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import random
import time
from collections.abc import Awaitable
from dataclasses import dataclass, field
from typing import Final, TypeVar

import pytest

from ni.batch_state import Answer
from ni.commands import Command
from ni.engine import Engine
from tests.business_day.house import House, resynchronise
from tests.engine.world import capture, debit, hold, id_of, made, minor, release
from tests.races.arena import TORTURE, rounds

pytestmark = pytest.mark.timeout(1_200 if TORTURE else 120)

BALANCE: Final = 1_000_000_00
BOOKED: Final = 100_00
ACCOUNTS: Final = 6
Outcome = TypeVar("Outcome")


def base_of(epoch: int) -> int:
    """What the base must be in an epoch: the core has booked in every night that has ended."""
    return BALANCE + BOOKED * ((epoch - 1) // 2)


@dataclass
class Load:
    """Callers of two engines; what each call took, and what was wrong with its answer."""

    house: House
    engines: list[Engine]
    took: list[float] = field(default_factory=list)
    faults: list[str] = field(default_factory=list)
    over: asyncio.Event = field(default_factory=asyncio.Event)

    async def timed(self, call: Awaitable[Outcome]) -> Outcome:
        """The outcome of one call."""
        began = time.monotonic()
        found = await call
        self.took.append(time.monotonic() - began)
        return found

    async def decided(self, command: Command) -> Answer:
        """The answer of one of the engines."""
        return await self.timed(random.choice(self.engines).submit(command))

    async def debits(self, name: str) -> None:
        """One minor unit at a time: available is the base less the sequence."""
        while not self.over.is_set():
            body = made(await self.decided(debit(name, 1)))
            shown = minor(body["debit"]["available_after"]) + body["debit"]["sequence"]
            if shown != base_of(body["epoch"]):
                self.faults.append(f"debit in epoch {body['epoch']}: base {shown}")

    async def holds(self, name: str) -> None:
        """Hold, capture half, release the rest: each must be approved."""
        while not self.over.is_set():
            held = id_of(await self.decided(hold(name, 2)))
            made(await self.decided(capture(held, "0.01", final=False)))
            made(await self.decided(release(held)))

    async def reads(self, names: list[str]) -> None:
        """Balances: what is booked is the base of the epoch that the answer names."""
        for name in itertools.cycle(names):
            if self.over.is_set():
                return
            body = await self.timed(self.house.world.balance(name))
            night = body["epoch"] % 2 == 0
            if (body["mode"] == "night") is not night:
                self.faults.append(f"{body['mode']} in epoch {body['epoch']}")
            if minor(body["booked"]) != base_of(body["epoch"]):
                self.faults.append(f"read in epoch {body['epoch']}: base {body['booked']}")


@pytest.mark.parametrize("buckets", [1, 8])
@pytest.mark.parametrize("limits", [{"read_connections": 4}])
async def test_flips_under_load_fail_no_call_and_mix_no_base(house: House) -> None:
    debited = await house.world.open(ACCOUNTS, balance=BALANCE)
    held = await house.world.open(ACCOUNTS, balance=BALANCE)
    async with house.world.another_engine() as other:
        load = Load(house, [house.world.engine, other])
        switch_ms: list[int] = []
        async with asyncio.TaskGroup() as group:
            for name in debited:
                group.create_task(load.debits(name))
            for name in held:
                group.create_task(load.holds(name))
            group.create_task(load.reads(debited))
            for _ in range(rounds(12, 250)):
                await asyncio.sleep(random.uniform(0.02, 0.1))
                switch_ms.append(await a_night(house))
            load.over.set()
    print(
        f"{2 * len(switch_ms)} switches beside {len(load.took)} calls: longest call"
        f" {max(load.took) * 1000:.0f} ms, close {max(switch_ms)} ms at most"
    )
    assert load.faults == []
    assert len(load.took) > 20 * len(switch_ms)
    rows = await house.world.owner.fetch("select count(*) from ni.day_switch")
    assert rows[0][0] == 2 * len(switch_ms)


async def a_night(house: House) -> int:
    """Close, let the core book, open, bring the copy back; how many ms the close took."""
    await house.close()
    await house.world.owner.execute(
        "update core.account set balance = balance + $1 where kind = 'customer'", BOOKED
    )
    await asyncio.sleep(random.uniform(0.02, 0.1))
    await house.open()
    await resynchronise(house)
    row = await house.world.owner.fetchrow(
        "select switch_ms from ni.day_switch where mode = 'night' order by epoch desc limit 1"
    )
    assert row is not None
    return int(row["switch_ms"])


@pytest.mark.parametrize("buckets", [1, 8])
async def test_a_key_gets_the_same_answer_across_flips(house: House) -> None:
    """Asked by day, by night and by day again: one effect, the same bytes."""
    [name] = await house.world.open(balance=BALANCE)
    command = debit(name, 7)
    first = await house.world.engine.submit(command)
    await house.close()
    again = await house.world.engine.submit(command)
    by_night = debit(name, 5)
    second = await house.world.engine.submit(by_night)
    await house.open()
    morning = await house.world.engine.submit(command)
    assert [again.replayed, morning.replayed] == [True, True]
    assert {again.document, morning.document} == {first.document}
    last = await house.world.engine.submit(by_night)
    assert last.document == second.document
    assert json.loads(last.document)["epoch"] == 2
    assert await house.world.available(name) == BALANCE - 12
