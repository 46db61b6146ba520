"""Close and open: what they change, what they refuse, and that asking twice changes nothing."""

from __future__ import annotations

import asyncio
import json
import time
from datetime import UTC, date, datetime, timedelta
from typing import Any

import asyncpg
import pytest

from ni.business_day import BusinessDay
from ni.decisions import Decision
from ni.errors import Unavailable
from ni.session import connected
from tests.business_day.house import House, asked, core_held, done, why_not
from tests.engine.world import CASH, cancel, debit, made
from tests.support.clock import install_clock, set_clock

BUCKETS = pytest.mark.parametrize("buckets", [1, 8])
SHOWN = {
    "mode", "business_date", "next_business_date", "epoch", "since", "night_copy", "unloading",
    "unfinished_packets", "accounts_below_limit",
}  # fmt: skip


@BUCKETS
async def test_a_day_closes_and_opens(house: House) -> None:
    """One epoch each, the same document from close, open and status, an event and a row each."""
    [account] = await house.world.open(balance=100_00)
    before = await house.status()
    assert before.keys() == SHOWN
    assert (before["mode"], before["epoch"]) == ("day", 1)
    assert (before["business_date"], before["next_business_date"]) == ("2031-03-03", "2031-03-04")
    night = await house.close()
    assert (night["mode"], night["epoch"]) == ("night", 2)
    assert night["business_date"] == "2031-03-04"
    assert night["night_copy"]["exact"] is True
    assert night == await house.status()
    body = made(await house.world.engine.submit(debit(account, 40_00)))
    assert (body["epoch"], body["value_date"]) == (2, "2031-03-04")
    assert (await house.world.balance(account))["mode"] == "night"
    day = await house.open()
    assert (day["mode"], day["epoch"], day["business_date"]) == ("day", 3, "2031-03-03")
    assert day == await house.status()
    assert await house.world.available(account) == 60_00
    assert await house.switches() == [(2, "night"), (3, "day")]
    assert await house.events() == [("ni.day.closed", 2), ("ni.day.opened", 3)]


async def test_in_the_mode_that_there_is_nothing_changes(house: House) -> None:
    assert (await house.open())["epoch"] == 1
    closed = await house.close()
    assert await house.close() == closed
    assert await house.switches() == [(2, "night")]


async def test_a_key_gets_its_first_answer_and_switches_once(house: House) -> None:
    """Also when the bank has been opened since: what was asked has been done."""
    first = await house.day.close(asked("evening"))
    await house.open()
    again = await house.day.close(asked("evening"))
    assert again.replayed
    assert again.document == first.document
    other = await house.day.close(asked("evening", fingerprint=b"another request"))
    assert other.decision is Decision.idempotency_key_reused
    assert await house.mode() == ("day", 3)


async def test_a_key_whose_answer_was_lost_does_not_switch_again(house: House) -> None:
    """Killed between the flip and the answer; somebody opened; the close is sent again."""
    await house.day.close(asked("evening"))
    await house.world.owner.execute("delete from ni.request where key = 'evening'")
    await house.open()
    assert done(await house.day.close(asked("evening")))["mode"] == "day"
    assert await house.mode() == ("day", 3)


@pytest.mark.parametrize("opened", [False, True], ids=["by_night", "by_day"])
@pytest.mark.parametrize("late", [False, True], ids=["found_first", "found_by_the_switch"])
async def test_a_key_whose_answer_was_lost_opens_nothing(
    house: House, monkeypatch: pytest.MonkeyPatch, opened: bool, late: bool
) -> None:
    """It stood for a close: sent as an open it is another request, whatever the mode is."""
    await house.day.close(asked("evening"))
    await house.world.owner.execute("delete from ni.request where key = 'evening'")
    if opened:
        await house.open()
    before = await house.mode()
    if late:
        monkeypatch.setattr(BusinessDay, "_found", _nothing_found)
    answer = await house.day.open(asked("evening", fingerprint=b"an open"))
    assert answer.decision is Decision.idempotency_key_reused
    assert await house.mode() == before
    assert await house.world.requests() == 0


async def _nothing_found(*_arguments: Any) -> None:
    """As when the other request with that key has switched a moment later."""


@pytest.mark.parametrize("target", ["night", "day"])
async def test_of_two_switchers_one_wins_and_both_are_told_the_same(
    house: House, target: str
) -> None:
    if target == "day":
        await house.close()
    act = house.day.close if target == "night" else house.day.open
    answers = await asyncio.gather(*(act(asked(f"k{number}")) for number in range(4)))
    documents = [done(answer) for answer in answers]
    assert {document["mode"] for document in documents} == {target}
    assert {(d["epoch"], d["since"]) for d in documents} == {
        (2 if target == "night" else 3, documents[0]["since"])
    }
    assert len(await house.switches()) == (1 if target == "night" else 2)


async def test_two_requests_with_one_key_get_the_same_bytes(house: House) -> None:
    answers = await asyncio.gather(*(house.day.close(asked("one")) for _ in range(4)))
    assert len({answer.document for answer in answers}) == 1
    assert await house.switches() == [(2, "night")]


async def test_what_waits_straight_through_is_unloaded_first(house: House) -> None:
    [account] = await house.world.open(balance=100_00)
    for _ in range(3):
        await house.desk.post(account, 1_00, packet=None, straight_through=True)
    night = await house.close(require_unloaded=True)
    assert night["unfinished_packets"] == []
    assert await house.desk.core_balance(account) == 97_00
    assert await house.world.available(account) == 97_00


async def test_unfinished_packets_are_listed_by_what_they_need(house: House) -> None:
    """By night as they were at the close; the night's own are not among them."""
    one, two, three = await house.world.open(3, balance=100_00)
    await house.desk.post(one, 1_00, packet="open")
    await house.desk.post(two, 1_00, packet="waits")
    await house.desk.unload("waits", accepted=False)
    await house.desk.post(three, 1_00, packet="bad")
    await house.world.bank.block(three, "all")
    await house.desk.unload("bad")
    gone = await house.desk.post(one, 1_00, packet="cancelled")
    made(await house.world.engine.submit(cancel(gone)))
    listed = [
        {"client": "tester", "packet": "bad", "status": "problems"},
        {"client": "tester", "packet": "open", "status": "open"},
        {"client": "tester", "packet": "waits", "status": "awaiting_acceptance"},
    ]
    assert (await house.status())["unfinished_packets"] == listed
    refusal = why_not(await house.day.close(asked(), require_unloaded=True))
    assert refusal["code"] == "packets_unfinished"
    assert refusal["unfinished_packets"] == listed
    assert "3 packets" in refusal["detail"]
    assert await house.mode() == ("day", 1)
    assert (await house.close())["unfinished_packets"] == listed
    await house.desk.post(one, 1_00, packet="at-night")
    assert (await house.status())["unfinished_packets"] == listed
    await house.open()
    names = [packet["packet"] for packet in (await house.status())["unfinished_packets"]]
    assert names == ["at-night", "bad", "open", "waits"]


async def test_straight_through_postings_without_a_packet_are_unfinished_too(house: House) -> None:
    [account] = await house.world.open(balance=100_00)
    await house.desk.post(account, 1_00, packet=None, straight_through=True)
    assert (await house.status())["unfinished_packets"] == [
        {"client": "tester", "packet": None, "status": "open"}
    ]


@pytest.mark.parametrize(
    "table", ["core.account", "core.block", "core.ledger"], ids=lambda name: name.split(".")[1]
)
async def test_the_day_does_not_open_while_the_core_holds_a_table(house: House, table: str) -> None:
    await house.close()
    async with core_held(house.world.database.owner_dsn, table), asyncio.timeout(5):
        refusal = why_not(await house.day.open(asked("morning")))
        assert refusal["code"] == "core_still_closed"
        assert table in refusal["detail"]
        assert await house.mode() == ("night", 2)
        [found] = await house.world.owner.fetch("select count(*) from ni.request")
        assert found[0] == 0
    assert (await house.open("morning"))["epoch"] == 3


async def test_every_relation_behind_the_day_is_looked_at(house: House) -> None:
    """Partitions, and tables behind views of views."""
    owner = house.world.owner
    await owner.execute(
        "create table core.rate (day date, rate bigint) partition by range (day);"
        "create table core.rate_1993 partition of core.rate for values from ('1993-01-01') to"
        " ('1994-01-01');"
        "create view core.rates as select * from core.rate;"
        "create view day_alias.rate as select day, rate from core.rates"
    )
    rows = await owner.fetch("select ni.day_relations_v1()::text")
    assert {row[0] for row in rows} == {
        "core.account", "core.block", "core.ledger", "core.rate", "core.rate_1993", "core.rates",
    }  # fmt: skip
    async with core_held(house.world.database.owner_dsn, "only core.rate_1993"):
        assert await owner.fetchval("select ni.lock_core_v1()") == "core.rate_1993"
    assert await owner.fetchval("select ni.lock_core_v1()") is None


@pytest.mark.parametrize("limits", [{"gate_tries_max": 3}])
async def test_a_gate_that_is_not_had_changes_nothing(house: House) -> None:
    """A stranger's transaction has it; calls are served between the tries."""
    [account] = await house.world.open()
    async with house.world.stranger() as stranger, stranger.transaction():
        await stranger.execute("lock table ni.gate in row share mode")
        closing = asyncio.create_task(house.day.close(asked("evening")))
        while not closing.done():
            made(await house.world.engine.submit(debit(account, 1)))
        with pytest.raises(Unavailable, match="3 tries"):
            await closing
    assert await house.mode() == ("day", 1)
    assert (await house.close("evening"))["epoch"] == 2


async def test_a_reader_that_keeps_its_transaction_open_holds_up_nobody_for_long(
    house: House,
) -> None:
    """A session of NI's that stands still: the server ends it, then the switch has the gate."""
    [account] = await house.world.open()
    session = await asyncpg.connect(
        house.world.database.engine_dsn,
        server_settings={
            "search_path": "day_alias", "idle_in_transaction_session_timeout": "1000"
        },
    )  # fmt: skip
    try:
        await session.execute("begin")
        await session.fetchrow("select * from ni.account_kind_v1('day', $1)", account)
        async with asyncio.timeout(5):
            assert (await house.close())["mode"] == "night"
    finally:
        session.terminate()


@pytest.mark.parametrize("limits", [{"night_copy_close_ms": 0}])
async def test_a_core_transaction_across_the_flip_is_neither_missed_nor_doubled(
    house: House,
) -> None:
    """Begun by day, committed by night: the copy moves with the commit, by both bookings."""
    [account] = await house.world.open(balance=100_00)
    async with connected(house.world.database.owner_dsn) as core:
        await core.execute("begin")
        await core.execute(
            "update core.account set balance = balance - 1000 where account = $1", account
        )
        await house.close()
        assert await house.world.available(account) == 100_00
        await core.execute(
            "update core.account set balance = balance - 500 where account = $1", account
        )
        await core.execute("commit")
    assert await house.world.available(account) == 85_00
    assert (await house.status())["night_copy"]["exact"] is False
    await house.open()
    assert await house.world.available(account) == 85_00
    refused = why_not(await house.day.close(asked()))
    assert refused["code"] == "night_copy_not_exact"


async def test_a_date_that_the_core_raised_by_day_and_committed_by_night_moves_no_night(
    house: House,
) -> None:
    """The night has one business date, whatever its core does: the one that it began with."""
    [account] = await house.world.open(balance=100_00)
    async with connected(house.world.database.owner_dsn) as core:
        await core.execute("begin")
        await core.execute(
            "update core.ledger set business_date = '2031-03-04', next_business_date = '2031-03-05'"
        )
        night = await house.close()
        before = made(await house.world.engine.submit(debit(account, 1_00)))
        await core.execute("commit")
    after = made(await house.world.engine.submit(debit(account, 1_00)))
    assert {night["business_date"], before["value_date"], after["value_date"]} == {"2031-03-04"}
    assert await house.status() == night
    assert (await house.world.balance(account))["business_date"] == "2031-03-04"
    late = await house.world.engine.submit(debit(account, 1, value_date=date(2031, 3, 5)))
    assert late.decision is Decision.validation_failed
    day = await house.open()
    assert (day["business_date"], day["next_business_date"]) == ("2031-03-04", "2031-03-05")
    assert made(await house.world.engine.submit(debit(account, 1)))["value_date"] == "2031-03-04"
    assert (await house.close())["business_date"] == "2031-03-05"


@BUCKETS
async def test_available_changes_at_opening_by_what_the_core_booked_itself(house: House) -> None:
    names = await house.world.open(4, balance=100_00)
    for name in names:
        await house.desk.post(name, 5_00)
    await house.close()
    for number, name in enumerate(names):
        made(await house.world.engine.submit(debit(name, 1_00 + number)))
    evening = [await house.world.available(name) for name in names]
    await house.world.owner.execute("update core.account set balance = balance - 100")
    assert [await house.world.available(name) for name in names] == evening
    await house.open()
    assert [await house.world.available(name) for name in names] == [a - 100 for a in evening]
    await house.desk.unload("p")
    assert [await house.world.available(name) for name in names] == [a - 100 for a in evening]
    assert not [f for f in await house.world.bank.faults() if CASH not in f]


async def test_the_switch_is_written_down(house: House) -> None:
    await house.close("evening")
    row = await house.world.owner.fetchrow("select * from ni.day_switch")
    assert row is not None
    assert (row["client"], row["key"], row["gate_tries"]) == ("operator", "evening", 1)
    assert json.loads(row["unfinished"]) == []
    assert row["switch_ms"] < 1000


async def test_since_is_what_the_clock_says(house: House) -> None:
    """Also a clock that stands before the bank was made."""
    instant = datetime(1993, 1, 4, 18, tzinfo=UTC)
    await install_clock(house.world.owner)
    await set_clock(house.world.owner, instant)
    assert (await house.close())["since"] == "1993-01-04T18:00:00.000000Z"
    await set_clock(house.world.owner, instant + timedelta(hours=12))
    assert (await house.open())["since"] == "1993-01-05T06:00:00.000000Z"


async def test_the_time_of_a_switch_is_that_of_the_whole(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The flip and its commit included; nothing is written when the switcher dies before."""

    def rest(point: str) -> None:
        if point == "flipped":
            time.sleep(0.3)

    monkeypatch.setattr("ni.day_switch.checkpoint", rest)
    await house.close()
    took = "select switch_ms from ni.day_switch order by epoch desc limit 1"
    assert await house.world.owner.fetchval(took) >= 300
    await house.open()
    assert await house.world.owner.fetchval(took) >= 300
