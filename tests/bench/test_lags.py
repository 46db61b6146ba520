"""The lag of straight-through postings: from acceptance until somebody saw the commit."""

from __future__ import annotations

from datetime import datetime, timedelta
from pathlib import Path

import pytest

from bench.measures import Bench
from bench.packet_figures import Lags
from bench.packet_measures import keep_lags
from bench.plan import QUICK
from bench.processes import BenchError
from bench.world import CLIENT, World
from ni.straight_through import StraightThrough
from tests.bench.statements import statement
from tests.packets.desk import Desk, open_desk
from tests.support.databases import Database

SECOND = timedelta(seconds=1)


async def booked(desk: Desk, many: int) -> list[tuple[str, datetime]]:
    """Book so many postings, each in a packet of its own; return packets and acceptances."""
    [account] = await desk.world.open(balance=100_00)
    for _ in range(many):
        await desk.post(account, 1_00, packet=None, straight_through=True, client=CLIENT)
    settings = desk.world.settings.model_copy(update={"stp_postings_max": 1})
    await StraightThrough(desk.packets.pool, settings).step()
    rows = await desk.world.owner.fetch(statement("accepted"))
    return [(row["packet"], row["created_at"]) for row in rows]


async def test_it_counts_from_acceptance_to_the_run_that_was_seen(database: Database) -> None:
    async with open_desk(database) as desk:
        rows = await booked(desk, 3)
        runs = {
            packet: (1, accepted + number * SECOND)
            for number, (packet, accepted) in enumerate(rows, start=1)
        }
        bench = Bench(QUICK, World(Path(), database.owner_dsn, {}), lambda _line: None)
        await keep_lags(bench, desk.world.owner, runs, rows[0][1])
        assert bench.figures.packets.lags == Lags(3, 2.0, 3.0, 3.0)
        assert bench.figures.packets.straight_packets == 3
        assert bench.figures.packets.booked_told == 3
        await keep_lags(bench, desk.world.owner, runs, rows[1][1])
        assert bench.figures.packets.lags == Lags(2, 2.0, 3.0, 3.0)


async def test_no_posting_is_left_out(database: Database) -> None:
    async with open_desk(database) as desk:
        rows = await booked(desk, 2)
        runs = {rows[0][0]: (1, rows[0][1] + SECOND)}
        bench = Bench(QUICK, World(Path(), database.owner_dsn, {}), lambda _line: None)
        with pytest.raises(BenchError, match="nobody saw when 1 straight-through"):
            await keep_lags(bench, desk.world.owner, runs, rows[0][1])
