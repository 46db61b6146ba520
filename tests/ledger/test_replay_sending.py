"""The replay against a server that misbehaves: what is tried again, what is told, what is kept.

The server here is a stub of a few lines: NI itself cannot be made to do these things on demand.
`test_replay.py` runs the real one.
"""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from ni.errors import NiError, Unavailable
from ni.money import format_amount
from ni.replay import Plan, Replay, ReplayReport, Sender, survey
from ni.replay import sender as sender_module
from ni.rest_client import NoAnswer, Reply
from tests.ledger.statements import write_statement

Asked = Mapping[str, Any]
Trouble = Callable[[int, Asked], Reply | NoAnswer | None]


def reply(status: int, document: object = None, retry_after: str = "") -> Reply:
    """A reply with JSON in it, or with the text itself."""
    content = document if isinstance(document, str) else json.dumps(document)
    return Reply(status, content.encode(), False, retry_after, 100)


class Stub:
    """Keeps balances with the accounts' openings; `trouble` may answer in its place."""

    def __init__(self, balances: dict[str, int], trouble: Trouble | None = None) -> None:
        self.balances = balances
        self.trouble = trouble
        self.calls = 0
        self.awaited_call = 1
        self.reached = asyncio.Event()
        self.keys: list[str] = []
        self.bodies: list[Asked] = []
        self.unloaded: list[tuple[str, int]] = []
        self.unload_keys: list[str] = []
        self.unload_trouble: Callable[[str], Reply | None] | None = None
        self.busy: Counter[str] = Counter()
        self.busy_at_once = 0

    async def send(self, _method: str, path: str, body: Asked | None, key: str | None) -> Reply:
        assert body is not None
        assert key is not None
        if path.endswith("/unload"):
            return await self.unload(path.split("/")[3], key)
        return await self.post(body, key)

    async def unload(self, packet: str, key: str) -> Reply:
        """A packet to the core: all its rows must have been answered."""
        self.unloaded.append((packet, len(self.keys)))
        self.unload_keys.append(key)
        await asyncio.sleep(0.001)
        found = self.unload_trouble(packet) if self.unload_trouble else None
        return found or reply(200, {"booked": 1, "problems": [], "problems_total": 0})

    async def post(self, body: Asked, key: str) -> Reply:
        self.calls += 1
        call = self.calls
        if call == self.awaited_call:
            self.reached.set()
        customer = min(body["debit_account"], body["credit_account"])
        self.busy[customer] += 1
        assert self.busy[customer] == 1, "two rows of one account in flight"
        self.busy_at_once = max(self.busy_at_once, self.busy.total())
        await asyncio.sleep(0.001)
        self.busy[customer] -= 1
        outcome = self.trouble(call, body) if self.trouble else None
        if isinstance(outcome, NoAnswer):
            raise outcome
        if outcome is not None:
            return outcome
        self.keys.append(key)
        self.bodies.append(body)
        return reply(201, self.book(body))

    def book(self, body: Asked) -> dict[str, Any]:
        """The answer's two sides; balances hold the limits too."""
        minor = int(body["amount"].replace(".", ""))
        answer: dict[str, Any] = {"debit": {}, "credit": {}}
        for side, sign in (("debit", -1), ("credit", 1)):
            name = body[f"{side}_account"]
            if name in self.balances:
                self.balances[name] += sign * minor
                after = format_amount(self.balances[name], "CZK")
                answer[side]["available_after"] = after
        return answer


def plan_of(path: Path) -> Plan:
    found = survey(path, "CZK")
    limits = {name: account.credit_limit for name, account in found.accounts.items()}
    return Plan(found, limits, len(limits))


def stub_of(plan: Plan, trouble: Trouble | None = None) -> Stub:
    accounts = plan.survey.accounts.items()
    return Stub({name: a.opening + a.credit_limit for name, a in accounts}, trouble)


async def replayed(
    plan: Plan, stub: Stub, *, in_flight: int = 4, patience_s: float = 5
) -> ReplayReport:
    return await Replay(plan, Sender(stub, patience_s=patience_s), in_flight=in_flight).run()


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
