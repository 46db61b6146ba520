"""A packet that is not pre-accepted waits in the core until another client says yes or no."""

from __future__ import annotations

import asyncpg
import pytest

from ni.decisions import Decision
from tests.engine.world import CASH, CLIENT, cancel, made
from tests.packets.desk import SUPERVISOR, Desk, order

both = pytest.mark.parametrize("buckets", [1, 8])


@both
async def test_what_waits_does_not_count_in_the_core(desk: Desk) -> None:
    [account] = await desk.world.open(balance=100_00)
    posting = await desk.post(account, 30_00)
    run = await desk.unload(accepted=False)
    assert (run["status"], run["booked"]) == ("awaiting_acceptance", 1)
    assert await desk.entries() == [(account, -30_00), (CASH, 30_00)]
    assert await desk.core_balance(account) == 100_00
    assert await desk.pending(account) == "-30.00"
    assert await desk.statuses(posting) == ["awaiting_acceptance"]
    refused = await desk.world.engine.submit(cancel(posting))
    assert refused.decision is Decision.posting_awaiting_acceptance
    assert (await desk.packet())["status"] == "awaiting_acceptance"

    accepted = made(await desk.accept())
    assert (accepted["status"], accepted["booked"]) == ("booked", 1)
    assert await desk.core_balance(account) == await desk.world.available(account) == 70_00
    assert await desk.pending(account) == "0.00"
    assert await desk.core_balance(CASH) == 30_00
    assert not await desk.world.bank.faults()


@both
async def test_accepting_tests_every_posting_again(desk: Desk) -> None:
    [fine, arrested] = await desk.world.open(2, balance=100_00)
    postings = [await desk.post(name, 10_00) for name in (fine, arrested)]
    await desk.unload(accepted=False)
    await desk.world.bank.block(arrested, "debit")
    accepted = made(await desk.accept())
    assert (accepted["status"], accepted["booked"]) == ("partly_booked", 1)
    assert [p["code"] for p in accepted["problems"]] == ["account_blocked"]
    assert await desk.statuses(*postings) == ["booked", "problem"]
    assert await desk.entries() == [(fine, -10_00), (CASH, 10_00)]
    assert await desk.pending(arrested) == "-10.00"


async def test_the_problems_of_a_run_are_those_of_both_its_verdicts(desk: Desk) -> None:
    [early, late, fine] = await desk.world.open(3, balance=100_00)
    for name in (early, late, fine):
        await desk.post(name, 10_00)
    await desk.world.bank.block(early, "debit")
    assert (await desk.unload(accepted=False))["problems_total"] == 1
    await desk.world.bank.block(late, "debit")
    accepted = made(await desk.accept())
    assert (accepted["booked"], accepted["problems_total"]) == (1, 2)
    assert len(accepted["problems"]) == 2


async def test_a_run_keeps_both_its_verdicts(desk: Desk) -> None:
    [account, arrested] = await desk.world.open(2, balance=100_00)
    for name in (account, arrested):
        await desk.post(name, 10_00)
    await desk.world.bank.block(arrested, "debit")
    await desk.unload(accepted=False)
    run = "select verdict_at, verdict_snapshot, decided_at, decided_snapshot from ni.unload"
    first = await desk.world.owner.fetchrow(run)
    [told] = (await desk.packet())["unloads"]
    made(await desk.accept())
    second = await desk.world.owner.fetchrow(run)
    assert first is not None
    assert second is not None
    assert tuple(second)[:2] == tuple(first)[:2]
    assert tuple(first)[2:] == (None, None)
    assert second["decided_at"] > second["verdict_at"]
    assert second["decided_snapshot"] is not None
    [told_later] = (await desk.packet())["unloads"]
    assert told_later["at"] == told["at"]


@pytest.mark.parametrize("decision", ["accept", "reject", "none"])
async def test_an_unload_is_told_once(desk: Desk, decision: str) -> None:
    """And once what another client has said to it."""
    [account] = await desk.world.open()
    await desk.post(account, 10_00)
    await desk.unload(accepted=False)
    if decision != "none":
        made(await (desk.accept() if decision == "accept" else desk.reject()))
    told = await desk.world.owner.fetch("select type, detail from ni.outbox where packet = 'p'")
    then: dict[str, list[tuple[str, str | None]]] = {
        "accept": [("ni.packet.accepted", "booked"), ("ni.posting.booked", None)],
        "reject": [("ni.packet.rejected", "rejected")],
        "none": [],
    }
    assert sorted(tuple(row) for row in told) == sorted(
        [("ni.packet.unloaded", "awaiting_acceptance"), *then[decision]]
    )


@both
async def test_the_decision_on_a_run_is_told_as_the_run(desk: Desk) -> None:
    [fine, arrested] = await desk.world.open(2)
    for name in (fine, arrested):
        await desk.post(name, 10_00)
    await desk.unload(accepted=False)
    made(await desk.reject())
    await desk.unload(accepted=False)
    await desk.world.bank.block(arrested, "debit")
    made(await desk.accept())
    assert (await desk.accept()).decision is Decision.packet_not_waiting
    told = await desk.world.owner.fetch(
        "select type, packet_number, detail, client, epoch, account, lap from ni.outbox"
        " where type like 'ni.packet.%' order by event_id"
    )
    assert [tuple(row) for row in told] == [
        ("ni.packet.unloaded", 1, "awaiting_acceptance", CLIENT, 1, None, 9),
        ("ni.packet.rejected", 1, "rejected", CLIENT, 1, None, 9),
        ("ni.packet.unloaded", 2, "awaiting_acceptance", CLIENT, 1, None, 9),
        ("ni.packet.accepted", 2, "partly_booked", CLIENT, 1, None, 9),
    ]


async def test_nothing_pending_does_not_call_a_run_that_waits_booked(desk: Desk) -> None:
    [account] = await desk.world.open()
    await desk.post(account, 10_00)
    for booked in (1, 0):
        run = await desk.unload(accepted=False)
        assert (run["number"], run["status"]) == (1, "awaiting_acceptance")
        assert run["booked"] == booked
    made(await desk.accept())
    again = await desk.unload()
    assert (again["number"], again["status"], again["booked"]) == (1, "booked", 0)


async def test_rejecting_makes_postings_pending_again(desk: Desk) -> None:
    [account] = await desk.world.open(balance=100_00)
    posting = await desk.post(account, 10_00)
    await desk.unload(accepted=False)
    assert made(await desk.reject())["status"] == "rejected"
    assert await desk.entries() == []
    assert await desk.statuses(posting) == ["pending"]
    assert (await desk.world.engine.submit(cancel(posting))).decision is Decision.approved
    assert await desk.world.available(account) == 100_00
    assert (await desk.accept()).decision is Decision.packet_not_waiting


async def test_nobody_accepts_what_he_unloaded(desk: Desk) -> None:
    [account] = await desk.world.open()
    await desk.post(account, 1_00)
    await desk.unload(accepted=False)
    for answer in (
        await desk.accept(by=CLIENT),
        await desk.packets.reject(order(by=CLIENT), None, "no", None),
    ):
        assert answer.decision is Decision.same_client
    assert await desk.core_balance(account) == 1000_00


async def test_runs_are_accepted_by_number(desk: Desk) -> None:
    [account] = await desk.world.open(balance=100_00)
    for _ in range(2):
        await desk.post(account, 1_00)
        await desk.unload(accepted=False)
    assert made(await desk.accept(number=1))["number"] == 1
    assert (await desk.accept(number=1)).decision is Decision.packet_not_waiting
    assert (await desk.accept(number=9)).decision is Decision.packet_not_waiting
    assert made(await desk.accept())["number"] == 2
    assert await desk.core_balance(account) == 98_00


async def test_the_same_yes_twice_is_one(desk: Desk) -> None:
    [account] = await desk.world.open(balance=100_00)
    await desk.post(account, 1_00)
    await desk.unload(accepted=False)
    asked = order(by=SUPERVISOR)
    first = await desk.packets.accept(asked, None, None)
    second = await desk.packets.accept(asked, None, None)
    assert second.replayed
    assert second.document == first.document
    assert await desk.core_balance(account) == 99_00


@pytest.mark.parametrize(
    "statement",
    [
        "update core.packet set status = 'accepted'",
        "delete from core.packet",
        "update core.entry set amount = 1",
        "delete from core.entry",
    ],
)
async def test_the_core_has_no_other_way(desk: Desk, statement: str) -> None:
    [account] = await desk.world.open()
    await desk.post(account, 1_00)
    await desk.unload(accepted=False)
    core = await asyncpg.connect(desk.world.database.core_dsn)
    try:
        with pytest.raises(asyncpg.RaiseError, match="through NI alone"):
            await core.execute(statement)
    finally:
        await core.close()
