"""The short form of the switch's part of `make torture`: under load, kills at steps that matter."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from tests.torture.account_for import UnaccountedError
from tests.torture.night_bench import NAMES, count, night_bench
from tests.torture.night_rounds import core_across, kill_draining, kill_switcher, two_switchers

KILLS = (("night", "random"), ("day", "flipped"))


@pytest.mark.timeout(240)
async def test_switches_killed_under_load(home: Path) -> None:
    """Old mode or new mode, every call served, and available as the movements say."""
    draw = random.Random()
    async with night_bench(home, 8) as nights:
        for to, step in KILLS:
            await kill_switcher(nights, to, step, draw)
        await two_switchers(nights, draw)
        await core_across(nights, draw)
        await kill_draining(nights, draw)
        assert nights.switches >= 7
        assert nights.checked >= 7 * len(NAMES)
        assert nights.bench.load.postings
        # What is counted is looked at: a unit that nobody booked is found.
        nights.by_night[NAMES[0]] += 1
        with pytest.raises(UnaccountedError, match="by night"):
            await count(nights)
