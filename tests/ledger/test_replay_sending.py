"""The replay against a server that misbehaves: what is tried again, what is told, what is kept.

The server here is a stub (`stub.py`): NI itself cannot be made to do these things on demand.
`test_replay.py` runs the real one.
"""

from __future__ import annotations

import asyncio
from dataclasses import replace
from pathlib import Path

import pytest

from ni.errors import NiError, Unavailable
from ni.replay import Plan, Replay, ReplayReport, Sender
from ni.replay import sender as sender_module
from ni.rest_client import NoAnswer, Reply
from tests.ledger.statements import write_statement
from tests.ledger.stub import Asked, plan_of, replayed, reply, stub_of


@pytest.fixture
def plan(tmp_path: Path) -> Plan:
    return plan_of(write_statement(tmp_path))


async def test_every_row_once_in_its_account_s_order(plan: Plan) -> None:
    stub = stub_of(plan)
    report = await replayed(plan, stub)
    assert report.is_clean
    assert (report.rows, report.retries, len(report.latencies_us)) == (9, 0, 9)
    for account, numbers in (("ACC-1", [1, 3, 5, 8, 9]), ("ACC-2", [2, 4, 6, 7])):
        sent = [
            int(key.rsplit("-", 1)[1])
            for key, asked in zip(stub.keys, stub.bodies, strict=True)
            if account in (asked["debit_account"], asked["credit_account"])
        ]
        assert sent == numbers


async def test_many_accounts_are_in_flight(tmp_path: Path) -> None:
    lines = [
        f"{number},1993-01-04,ACC-{number % 40:02},credit,VKLAD,,1.00,{number // 40 + 1}.00,,"
        for number in range(400)
    ]
    plan = plan_of(write_statement(tmp_path, lines))
    stub = stub_of(plan)
    report = await replayed(plan, stub, in_flight=16)
    assert report.is_clean
    assert stub.busy_at_once == 16


@pytest.mark.parametrize(
    "failure",
    [
        reply(503, {"code": "overloaded"}, retry_after="0"),
        reply(503, "not JSON", retry_after="soon"),
        reply(429, {"code": "rate_limited"}),
        NoAnswer("ConnectionRefusedError"),
    ],
    ids=["503", "503 with a strange wish", "429", "no answer"],
)
async def test_what_passes_is_tried_again_with_the_same_key(
    plan: Plan, failure: Reply | NoAnswer
) -> None:
    stub = stub_of(plan, lambda call, _: failure if call in (3, 4) else None)
    report = await replayed(plan, stub)
    assert report.is_clean
    assert report.retries == 2
    assert len(set(stub.keys)) == 9


async def test_the_server_s_wish_to_wait_is_obeyed(
    plan: Plan, monkeypatch: pytest.MonkeyPatch
) -> None:
    pauses: list[float] = []

    async def pause(_: Sender, seconds: float) -> None:
        pauses.append(seconds)

    monkeypatch.setattr(Sender, "_pause", pause)
    wishes = {1: "3", 2: "999"}
    stub = stub_of(
        plan,
        lambda call, _: reply(503, {}, retry_after=wishes[call]) if call in wishes else None,
    )
    await replayed(plan, stub, in_flight=1, patience_s=60)
    assert pauses == [3.0, sender_module.BACKOFF_MAX_S]


async def test_patience_ends(plan: Plan) -> None:
    stub = stub_of(plan, lambda call, _: NoAnswer("it is away") if call > 2 else None)
    with pytest.raises(Unavailable, match=r"no answer \(it is away\)"):
        await replayed(plan, stub, in_flight=1, patience_s=0.3)
    assert len(stub.keys) == 2


@pytest.mark.parametrize("status", [401, 403])
async def test_a_key_without_the_right_ends_the_replay(plan: Plan, status: int) -> None:
    refusal = reply(status, {"detail": "this needs the scope posting:force"})
    stub = stub_of(plan, lambda *_: refusal)
    with pytest.raises(NiError, match="this needs the scope posting:force"):
        await replayed(plan, stub)


@pytest.mark.parametrize(
    ("response", "message"),
    [
        (reply(201, "hello"), "HTTP 201 without JSON"),
        (reply(404, "[1]"), "HTTP 404 without a JSON object"),
        (reply(201, {"debit": {}}), "the answer has no available_after"),
        (reply(201, {"credit": {"available_after": None}}), "no available_after"),
        (reply(201, {"credit": {"available_after": "x"}}), "no available_after"),
    ],
)
async def test_a_server_that_is_not_ni(plan: Plan, response: Reply, message: str) -> None:
    with pytest.raises(NiError, match=message):
        await replayed(plan, stub_of(plan, lambda *_: response), in_flight=1)


async def test_refusals_are_counted_and_the_first_told(tmp_path: Path) -> None:
    lines = [
        f"{number},1993-01-04,ACC-{number:02},credit,VKLAD,,1.00,1.00,," for number in range(30)
    ]
    plan = plan_of(write_statement(tmp_path, lines))
    refusal = reply(409, {"code": "account_closed", "detail": "it is closed"})
    report = await replayed(plan, stub_of(plan, lambda *_: refusal))
    assert (report.rows, report.refusals, report.mismatches) == (30, 30, 0)
    assert not report.is_clean
    assert len(report.faults) == 20
    assert report.faults[0] == "line 2, ACC-00: refused account_closed: it is closed"


async def test_a_server_error_is_no_approval(plan: Plan) -> None:
    stub = stub_of(plan, lambda call, _: reply(500, {}) if call == 9 else None)
    report = await replayed(plan, stub)
    assert report.refusals == 1
    assert "refused http_500" in report.faults[0]


async def test_mismatches_are_counted_and_told(plan: Plan) -> None:
    stub = stub_of(plan)
    stub.balances["ACC-2"] -= 1
    report = await replayed(plan, stub)
    assert (report.rows, report.mismatches, report.refusals) == (9, 4, 0)
    assert not report.is_clean
    assert "line 3, ACC-2: the bank recorded 850.00, NI says 849.99" in report.faults


async def test_replayed_answers_are_counted(plan: Plan) -> None:
    report = await replayed(plan, stub_of(plan))
    assert report.replayed == 0
    stub = stub_of(plan)

    def earlier(_: int, asked: Asked) -> Reply:
        return replace(reply(201, stub.book(asked)), replayed=True)

    stub.trouble = earlier
    report = await replayed(plan, stub)
    assert report.is_clean
    assert report.replayed == 9


async def test_stopping_finishes_what_is_in_flight_and_no_more(tmp_path: Path) -> None:
    lines = [
        f"{number},1993-01-04,ACC-{number % 8},credit,VKLAD,,1.00,{number // 8 + 1}.00,,"
        for number in range(800)
    ]
    plan = plan_of(write_statement(tmp_path, lines))
    stub = stub_of(plan)
    stub.awaited_call = 40
    run = Replay(plan, Sender(stub), in_flight=4)
    running = asyncio.create_task(run.run())
    await stub.reached.wait()
    run.stop()
    run.stop()
    async with asyncio.timeout(2):
        report = await running
    assert report.interrupted
    assert 36 <= report.rows == len(stub.keys) <= 44
    assert not report.is_clean
    assert (report.refusals, report.mismatches) == (0, 0)


async def test_stopping_does_not_wait_for_a_server_that_is_away(plan: Plan) -> None:
    stub = stub_of(plan, lambda *_: reply(503, {}, retry_after="5"))
    run = Replay(plan, Sender(stub), in_flight=4)
    running = asyncio.create_task(run.run())
    await stub.reached.wait()
    run.stop()
    async with asyncio.timeout(1):
        report = await running
    assert report.interrupted
    assert report.rows == 0


async def test_a_file_that_changes_under_the_replay(plan: Plan) -> None:
    with plan.survey.path.open("a") as file:
        file.write("nonsense\n")
    with pytest.raises(NiError, match="line 11: has 1 columns"):
        await replayed(plan, stub_of(plan))


async def test_the_file_is_read_no_further_than_it_must(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ni.replay.driver.LOOK_AHEAD_ROWS", 10)
    lines = [
        f"{number},1993-01-04,ACC-1,credit,VKLAD,,1.00,{number}.00,," for number in range(1, 101)
    ]
    plan = plan_of(write_statement(tmp_path, lines))
    stub = stub_of(plan)
    run = Replay(plan, Sender(stub), in_flight=4)
    most = 0

    def look(_: ReplayReport) -> None:
        nonlocal most
        most = max(most, run._waiting)

    run._on_answer = look
    report = await run.run()
    assert report.is_clean
    assert most == 10


def test_latencies() -> None:
    report = ReplayReport(rows_in_file=0)
    assert report.latency_ms(50) == 0.0
    report.latencies_us.extend(range(1000, 102_000, 1000))
    assert (report.latency_ms(50), report.latency_ms(99)) == (51.0, 100.0)
    assert report.latency_ms(50, last=3) == 100.0
