"""The short form of `make torture`: a few kills of each kind."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from tests.torture.rounds import POINTS, kill_api, kill_postgres, torture_bench


@pytest.mark.timeout(180)
async def test_killed_under_load(home: Path) -> None:
    """Every acknowledged movement is there once; every unanswered one resolves by its key."""
    draw = random.Random()
    async with torture_bench(home, 8) as bench:
        for point in POINTS:
            await kill_api(bench, point, draw)
        await kill_postgres(bench, draw)
        assert bench.load.postings
        assert bench.load.holds
