"""The short form of the packets' part of `make torture`: a kill at every step, once or twice."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from tests.torture.packet_rounds import (
    SERVER_KILLS,
    STEPS,
    kill_server,
    kill_unloader,
    packet_bench,
)


@pytest.mark.timeout(180)
async def test_packets_killed_under_load(home: Path) -> None:
    """Wholly in the core or not at all, and no available moves, in every snapshot."""
    draw = random.Random()
    async with packet_bench(home, 8) as packets:
        for step in STEPS:
            await kill_unloader(packets, step, draw)
        for kind in SERVER_KILLS:
            await kill_server(packets, kind, draw)
        assert packets.repeated, "no order was cut off"
        assert packets.observer.snapshots
