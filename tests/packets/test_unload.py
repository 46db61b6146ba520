"""Unloading: the core's entries and NI's marks change in one commit, problems one by one."""

from __future__ import annotations

from typing import Any
from uuid import UUID

import pytest

from ni.decisions import Decision
from tests.engine.world import CASH, FEES, cancel
from tests.packets.desk import Desk, order
from tests.support.bank import CoreAccount

both = pytest.mark.parametrize("buckets", [1, 8])


@both
async def test_available_stays_where_it_was(desk: Desk) -> None:
    [payer, payee] = await desk.world.open(2, balance=100_00)
    await desk.post(payer, 50_00)
    await desk.post(payer, 20_00, payee)
    before = [await desk.world.available(name) for name in (payer, payee)]
    run = await desk.unload()
    assert run == {
        "packet": "p", "number": 1, "status": "booked", "booked": 2, "problems": [],
        "problems_total": 0,
    }  # fmt: skip
    assert [await desk.world.available(name) for name in (payer, payee)] == before
    assert [await desk.core_balance(name) for name in (payer, payee)] == before
    assert [await desk.pending(name) for name in (payer, payee, CASH)] == ["0.00"] * 3
    assert await desk.core_balance(CASH) == 50_00
    assert not await desk.world.bank.faults()


@both
async def test_entries_say_what_was_booked(desk: Desk) -> None:
    [payer] = await desk.world.open(balance=100_00)
    posting = await desk.post(payer, 50_00, reference="R1", narrative="rent")
    await desk.unload()
    rows = await desk.world.owner.fetch("select * from core.entry order by amount")
    assert [(row["account"], row["amount"]) for row in rows] == [(payer, -50_00), (CASH, 50_00)]
    assert {row["posting_id"] for row in rows} == {posting}
    assert {(row["reference"], row["narrative"]) for row in rows} == {("R1", "rent")}
    assert await desk.statuses(posting) == ["booked"]
    events = await desk.world.owner.fetch(
        "select type, sequence from ni.outbox where type like '%booked' or type like '%unloaded'"
    )
    assert sorted(tuple(row) for row in events) == [
        ("ni.packet.unloaded", None),
        ("ni.posting.booked", None),
    ]


@both
async def test_each_problem_has_its_reason_and_the_rest_is_booked(desk: Desk) -> None:
    names = await desk.world.open(5, balance=100_00)
    postings = [await desk.post(name, 10_00) for name in names]
    arrested, closed, gone, other, fine = names
    await desk.world.bank.block(arrested, "debit")
    await desk.world.bank.close_account(closed)
    execute = desk.world.owner.execute
    await execute("update core.account set currency = 'EUR' where account = $1", other)
    await execute("delete from core.account where account = $1", gone)
    run = await desk.unload()
    assert (run["status"], run["booked"], run["problems_total"]) == ("partly_booked", 1, 4)
    codes = {problem["posting_id"]: problem["code"] for problem in run["problems"]}
    assert [codes.get(str(posting)) for posting in postings] == [
        "account_blocked", "account_closed", "account_not_found", "currency_mismatch", None,
    ]  # fmt: skip
    assert await desk.statuses(*postings) == ["problem"] * 4 + ["booked"]
    assert await desk.core_balance(fine) == 90_00
    assert await desk.core_balance(arrested) == 100_00
    assert await desk.pending(arrested) == "-10.00"
    assert (await desk.packet())["status"] == "problems"


@both
async def test_linked_postings_go_together_or_not_at_all(desk: Desk) -> None:
    [one, two, three] = await desk.world.open(3)
    link: dict[str, Any] = {"link_id": UUID("6ba7b810-9dad-11d1-80b4-00c04fd430c8")}
    linked = [await desk.post(one, 5_00, **link), await desk.post(two, 6_00, **link)]
    alone = await desk.post(three, 7_00)
    await desk.world.bank.block(one, "all")
    run = await desk.unload()
    codes = {problem["posting_id"]: problem["code"] for problem in run["problems"]}
    assert codes == {str(linked[0]): "account_blocked", str(linked[1]): "linked_problem"}
    assert await desk.statuses(*linked, alone) == ["problem", "problem", "booked"]
    await desk.world.bank.unblock(one)
    await desk.settle(linked[1], "retry")
    assert (await desk.unload())["booked"] == 0, "its link is a problem still"
    await desk.settle(linked[0], "retry")
    await desk.settle(linked[1], "retry")
    assert (await desk.unload())["booked"] == 2


async def test_a_court_order_passes_blocks(desk: Desk) -> None:
    [account] = await desk.world.open()
    await desk.world.bank.block(account, "all")
    await desk.post(account, 5_00, legal_reference="order 7")
    assert (await desk.unload())["booked"] == 1
    references = await desk.world.owner.fetch("select distinct legal_reference from core.entry")
    assert [row[0] for row in references] == ["order 7"]


async def test_unknown_empty_and_foreign_packets(desk: Desk) -> None:
    [account] = await desk.world.open()
    unknown = await desk.packets.unload(order("nobody"), accepted=True)
    assert unknown.decision is Decision.packet_not_found
    await desk.post(account, 1_00)
    foreign = await desk.packets.unload(order(client="other", by="other"), accepted=True)
    assert foreign.decision is Decision.packet_not_found
    assert (await desk.unload())["booked"] == 1
    again = await desk.unload()
    assert (again["number"], again["booked"], again["status"]) == (1, 0, "booked")
    assert len(await desk.entries()) == 2


async def test_the_same_key_is_the_same_run(desk: Desk) -> None:
    [account] = await desk.world.open()
    await desk.post(account, 1_00)
    asked = order()
    first = await desk.packets.unload(asked, accepted=True)
    await desk.post(account, 2_00)
    second = await desk.packets.unload(asked, accepted=True)
    assert second.replayed
    assert second.document == first.document
    other = order(key=asked.key, fingerprint=b"another request")
    reused = await desk.packets.unload(other, accepted=True)
    assert reused.decision is Decision.idempotency_key_reused
    assert await desk.pending(account) == "-2.00"


async def test_a_packet_is_used_again_day_after_day(desk: Desk) -> None:
    [account] = await desk.world.open()
    for number in (1, 2, 3):
        posting = await desk.post(account, 1_00)
        assert (await desk.packet())["status"] == "open"
        assert (await desk.unload())["number"] == number
        assert await desk.statuses(posting) == ["booked"]
    document = await desk.packet()
    assert document["status"] == "booked"
    assert document["totals"] == {"CZK": "3.00"}
    assert document["counts"]["booked"] == 3
    assert [run["number"] for run in document["unloads"]] == [3, 2, 1]


async def test_an_error_of_the_core_is_that_postings_problem(desk: Desk) -> None:
    names = await desk.world.open(9)
    postings = [await desk.post(name, 1_00, narrative=name) for name in names]
    await desk.world.owner.execute(
        f"alter table core.entry add constraint odd check (narrative not in"
        f" ('{names[2]}', '{names[7]}'))"
    )
    run = await desk.unload()
    assert (run["booked"], run["problems_total"]) == (7, 2)
    codes = {problem["posting_id"]: problem["code"] for problem in run["problems"]}
    assert codes == {str(postings[2]): "core_error", str(postings[7]): "core_error"}
    assert not await desk.world.bank.faults()


async def test_by_night_the_core_is_closed(desk: Desk) -> None:
    [account] = await desk.world.open()
    await desk.post(account, 1_00)
    await desk.world.owner.execute("update ni.mode set mode = 'night'")
    asked = order()
    closed = await desk.packets.unload(asked, accepted=True)
    assert closed.decision is Decision.core_closed
    await desk.world.owner.execute("update ni.mode set mode = 'day'")
    opened = await desk.packets.unload(asked, accepted=True)
    assert opened.decision is Decision.approved, "a passing refusal is not kept"


async def test_while_the_day_closes_unloads_are_refused_at_once(desk: Desk) -> None:
    [account] = await desk.world.open()
    await desk.post(account, 1_00)
    async with desk.world.stranger() as closer, closer.transaction():
        await closer.execute("lock table ni.unload_gate in exclusive mode")
        answer = await desk.packets.unload(order(), accepted=True)
    assert answer.decision is Decision.core_closed


async def test_what_is_booked_cannot_be_cancelled(desk: Desk) -> None:
    [account] = await desk.world.open()
    posting = await desk.post(account, 1_00)
    await desk.unload()
    answer = await desk.world.engine.submit(cancel(posting))
    assert answer.decision is Decision.posting_booked


async def test_off_balance_accounts_take_packets_too(desk: Desk) -> None:
    await desk.world.bank.open_accounts(
        CoreAccount(name, kind="off_balance") for name in ("OFF-A", "OFF-B")
    )
    await desk.post("OFF-A", 3_00, "OFF-B")
    assert (await desk.unload())["booked"] == 1
    assert [await desk.core_balance(name) for name in ("OFF-A", "OFF-B")] == [-3_00, 3_00]


async def test_internal_to_internal(desk: Desk) -> None:
    await desk.post(CASH, 3_00, FEES)
    await desk.unload()
    assert [await desk.core_balance(name) for name in (CASH, FEES)] == [-3_00, 3_00]
    assert await desk.pending(CASH) == "0.00"
