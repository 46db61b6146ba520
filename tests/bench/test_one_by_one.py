"""The baseline of packets writes what an unload writes; and a run finds out what was lost."""

from __future__ import annotations

from pathlib import Path

import pytest

from bench.measures import Bench
from bench.plan import QUICK
from bench.processes import BenchError
from bench.queries import query
from bench.world import World
from tests.bench.statements import statement
from tests.engine.world import CASH, CLIENT
from tests.packets.desk import Desk, open_desk
from tests.support.databases import Database


def bench_of(database: Database) -> Bench:
    """A run that has measured nothing on this database."""
    return Bench(QUICK, World(Path(), database.owner_dsn, {}), lambda _line: None)


async def book(desk: Desk, packet: str) -> None:
    """Book a packet of one posting as the baseline does."""
    await desk.world.owner.execute(query("one_by_one_schema"))
    await desk.world.owner.execute(query("one_by_one_fill"), CLIENT, packet)
    await desk.world.owner.execute(query("one_by_one_analyze"))
    await desk.world.owner.execute("SELECT one_by_one.book(1)")


async def test_the_baseline_writes_what_an_unload_writes(database: Database) -> None:
    async with open_desk(database) as desk:
        accounts = await desk.world.open(2, balance=100_00)
        for account, packet in zip(accounts, ("unloaded", "one.by.one"), strict=True):
            more = {"reference": "R-1", "narrative": "rent", "packet": packet}
            await desk.post(account, 10_00, **more)
        await desk.unload("unloaded")
        await book(desk, "one.by.one")
        [unloaded] = await desk.world.owner.fetch(statement("written"), "unloaded")
        [booked] = await desk.world.owner.fetch(statement("written"), "one.by.one")
        own = dict.fromkeys(accounts, "?")
        assert without(dict(unloaded), own) == without(dict(booked), own)
        assert (booked["status"], booked["kept"]) == ("booked", 0)
        assert booked["events"].count("ni.posting.booked") == 1
        assert {await desk.core_balance(account) for account in accounts} == {90_00}
        assert await desk.core_balance(CASH) == 20_00
        assert await desk.pending(accounts[1]) == "0.00"


def without(row: dict[str, object], names: dict[str, str]) -> dict[str, str]:
    """The row with every name replaced."""
    texts = {key: str(value) for key, value in row.items()}
    for old, new in names.items():
        texts = {key: text.replace(old, new) for key, text in texts.items()}
    return texts


async def test_the_baseline_refuses_what_an_unload_refuses(database: Database) -> None:
    async with open_desk(database) as desk:
        [account] = await desk.world.open(balance=100_00)
        await desk.post(account, 10_00, packet="p")
        await desk.world.bank.block(account, "all")
        with pytest.raises(Exception, match="cannot be booked"):
            await book(desk, "p")
        assert await desk.core_balance(account) == 100_00


@pytest.mark.parametrize(
    "fault", ["lost_entry", "stray_entry", "misplaced_entries", "stray_applied", "stray_unbooked"]
)
async def test_a_run_fails_when_the_core_and_ni_differ(database: Database, fault: str) -> None:
    async with open_desk(database) as desk:
        [account] = await desk.world.open(balance=100_00)
        await desk.post(account, 10_00, packet="p")
        await desk.unload("p")
        bench = bench_of(database)
        bench.figures.postings_acknowledged = bench.figures.packets.booked_told = 1
        await bench.verify()
        assert bench.figures.packets.entries_stored == 2
        await desk.world.owner.execute(statement(fault))
        with pytest.raises(BenchError, match="1 were booked, but there are"):
            await bench.verify()


async def test_a_run_fails_when_less_is_booked_than_was_told(database: Database) -> None:
    async with open_desk(database):
        bench = bench_of(database)
        await bench.verify()
        bench.figures.packets.booked_told = 1
        with pytest.raises(BenchError, match="'booked': 0"):
            await bench.verify()
