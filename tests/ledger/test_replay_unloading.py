"""The replay's packets: after their date's last answer, beside later rows, each told and counted.

The server is a stub, see `stub.py`; `test_replay.py` runs the real one.
"""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from ni.errors import NiError
from ni.replay import Plan, Replay, ReplayReport, Sender
from ni.rest_client import Reply
from tests.ledger.statements import write_statement
from tests.ledger.stub import plan_of, replayed, reply, stub_of


@pytest.fixture
def plan(tmp_path: Path) -> Plan:
    return plan_of(write_statement(tmp_path))


async def test_a_date_s_packets_follow_its_last_answer(plan: Plan) -> None:
    stub = stub_of(plan)
    report = await replayed(plan, stub)
    assert report.packets == 8
    assert sorted(name for name, _ in stub.unloaded) == [
        "1993-01-04.cash-in", "1993-01-04.cash-out",
        "1993-01-05.transfer-in", "1993-01-05.transfer-out",
        "1993-01-06.card", "1993-01-06.cash-out",
        "1993-01-08.fee", "1993-01-08.interest",
    ]  # fmt: skip
    rows_until = {"1993-01-04": 2, "1993-01-05": 4, "1993-01-06": 6, "1993-01-08": 9}
    assert all(answered >= rows_until[name[:10]] for name, answered in stub.unloaded)
    assert sorted(stub.unload_keys) == sorted(
        plan.survey.unload_key(name) for name in plan.survey.packets
    )
    assert max(map(len, stub.unload_keys)) <= 64


async def test_rows_flow_while_a_date_is_unloaded(tmp_path: Path) -> None:
    lines = [
        f"{number},1993-01-{4 + number // 100:02},ACC-{number % 8},credit,VKLAD,,1.00,"
        f"{number // 8 + 1}.00,,"
        for number in range(400)
    ]
    plan = plan_of(write_statement(tmp_path, lines))
    stub = stub_of(plan)
    release = asyncio.Event()
    slow = stub.unload

    async def unload(packet: str, key: str) -> Reply:
        answer = await slow(packet, key)
        await release.wait()
        return answer

    stub.unload = unload  # type: ignore[method-assign]  # an unload takes its time here
    all_answered = asyncio.Event()

    def look(report: ReplayReport) -> None:
        if report.rows == 400:
            all_answered.set()

    run = Replay(plan, Sender(stub), in_flight=4, on_answer=look)
    running = asyncio.create_task(run.run())
    async with asyncio.timeout(5):
        await all_answered.wait()
    assert len(stub.unloaded) == 2
    release.set()
    report = await running
    assert (report.packets, len(stub.unloaded), report.interrupted) == (4, 4, False)


async def test_stopping_leaves_packets_to_the_next_run(plan: Plan) -> None:
    stub = stub_of(plan)
    run = Replay(plan, Sender(stub), in_flight=4)
    stub.unload_trouble = lambda _: run.stop()
    report = await run.run()
    assert report.interrupted
    assert report.rows < 9 or report.packets < 8
    assert 1 <= len(stub.unloaded) <= 2


async def test_refused_unloads_and_problems_are_told(plan: Plan) -> None:
    stub = stub_of(plan)
    problem = {"posting_id": "p-1", "code": "account_blocked", "detail": "ACC-1: order 7"}
    answers = {
        "1993-01-04.cash-in": reply(409, {"code": "core_closed", "detail": "it is closed"}),
        "1993-01-06.card": reply(200, {"booked": 0, "problems": [problem], "problems_total": 1}),
    }
    stub.unload_trouble = answers.get
    report = await replayed(plan, stub)
    assert not report.is_clean
    assert (report.packets, report.packet_refusals) == (8, 1)
    assert sorted(report.faults) == [
        "packet 1993-01-04.cash-in: refused core_closed: it is closed",
        "packet 1993-01-06.card, posting p-1: account_blocked: ACC-1: order 7",
    ]


async def test_a_key_that_may_not_unload_ends_the_replay(plan: Plan) -> None:
    stub = stub_of(plan)
    stub.unload_trouble = lambda _: reply(403, {"detail": "this needs the scope packet:unload"})
    with pytest.raises(NiError, match="posting:write, posting:force, packet:unload, balance:read"):
        await replayed(plan, stub)
