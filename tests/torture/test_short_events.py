"""The short form of the events' part of `make torture`: every fault once or twice."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from tests.torture.account_for import UnaccountedError
from tests.torture.event_bench import event_bench
from tests.torture.event_rounds import (
    COPIES,
    TAKEOVER_SECONDS,
    delete_binding,
    kill_broker,
    kill_relay,
    low_id_open,
    raise_disk_alarm,
    send_copies,
)


@pytest.mark.timeout(240)
async def test_events_survive(home: Path) -> None:
    """Nothing lost, nothing invented, each account in its order, copies identical."""
    draw = random.Random()
    async with event_bench(home, 8) as events:
        # The transaction stays open for longer than any decision's may.
        async with low_id_open(events, draw):
            for _ in range(2):
                await kill_relay(events, draw)
            await kill_broker(events, draw)
            await raise_disk_alarm(events, draw)
        await delete_binding(events, draw)
        await send_copies(events, draw)
        await events.count()
        assert events.events > 500
        assert max(events.takeovers_s) < TAKEOVER_SECONDS
        assert events.auditor.copies >= COPIES
        # What is counted is looked at: an event that never came is found.
        events.auditor.first.popitem()
        with pytest.raises(UnaccountedError, match="never came"):
            await events.count_now()
