"""The short form of the events' part of `make torture`: every fault once or twice."""

from __future__ import annotations

import asyncio
import random
import time
from pathlib import Path

import pytest

from tests.torture.account_for import UnaccountedError
from tests.torture.event_bench import event_bench
from tests.torture.event_check import TYPES, check_types
from tests.torture.event_crashes import check_aside
from tests.torture.event_rounds import (
    AFTER_MS,
    COPIES,
    TAKEOVER_SECONDS,
    delete_binding,
    kill_broker,
    kill_relay,
    kill_server,
    least_id,
    low_id_open,
    pass_night,
    raise_disk_alarm,
    send_copies,
    took_over,
)


async def test_what_a_dead_relay_had_published_is_no_takeover() -> None:
    """An event has come when it is younger than the kill."""
    came = [str(least_id(time.time_ns() // 1_000_000 + AFTER_MS // 2))]
    with pytest.raises(UnaccountedError, match="nobody took over"):
        await took_over(lambda: came[-1], str, 0.3)
    looking = asyncio.create_task(took_over(lambda: came[-1], str))
    await asyncio.sleep(0.3)
    came.append(str(least_id(time.time_ns() // 1_000_000)))
    assert (await looking).seconds >= 0.3


def test_of_a_consumer_that_dies_one_event_is_put_aside() -> None:
    check_aside({"victim"}, "victim")
    for wrong in (set[str](), {"other"}, {"victim", "other"}):
        with pytest.raises(UnaccountedError):
            check_aside(wrong, "victim")


FORGET_A_BOOKING = """
with one as (select event_id from torture.told where type = 'ni.posting.booked' limit 1),
gone as (delete from torture.told as t using one where t.event_id = one.event_id returning 1)
select count(*) from gone
"""


def test_a_type_that_never_happened_is_found() -> None:
    kinds = dict.fromkeys(TYPES, 1)
    check_types(kinds)
    for kind in TYPES:
        with pytest.raises(UnaccountedError, match=kind):
            check_types(kinds | {kind: 0})
    with pytest.raises(UnaccountedError, match="no type"):
        check_types(kinds | {"ni.other": 1})


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
            await pass_night(events, draw)
        await kill_server(events, draw)
        await delete_binding(events, draw)
        await send_copies(events, draw)
        await events.count()
        assert events.events > 500
        check_types(events.kinds)
        assert max(one.own_s for one in events.takeovers) < TAKEOVER_SECONDS, events.takeovers
        assert events.auditor.copies >= COPIES
        # What is counted is looked at: an event that never came is found.
        events.auditor.first.popitem()
        with pytest.raises(UnaccountedError, match="never came"):
            await events.count_now()
        # So is one that should have been made and was not.
        assert await events.ask(FORGET_A_BOOKING) == 1
        with pytest.raises(UnaccountedError, match="told as booked 0 times"):
            await events.count_now()
