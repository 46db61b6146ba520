"""What the examples of one test share: a database with a clock, an API process, two clients."""

from __future__ import annotations

import asyncio
import copy
import json
from collections.abc import Coroutine, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any, Final, TypeVar

import asyncpg

from tests.model.compare import check_answer
from tests.model.model import Account, Command, Model, Refused
from tests.support.api_process import ApiProcess, Servers
from tests.support.bank import Bank, CoreAccount
from tests.support.caller import Answer, Caller, fresh_key, http_client
from tests.support.clock import install_clock, set_clock

T = TypeVar("T")
BEGIN: Final = datetime(2031, 3, 3, 8, 0, tzinfo=UTC)
"""Far from the host's own time, so that a decision by the host's clock is seen."""


@dataclass(frozen=True)
class Sent:
    """A request that was answered, to be sent again."""

    command: Command
    path: str
    content: bytes
    key: str
    answer: Answer


class World:
    """Synchronous hands for the state machine; one event loop runs everything."""

    def __init__(self, runner: asyncio.Runner, bank: Bank, callers: dict[str, Caller]) -> None:
        self._runner = runner
        self._bank = bank
        self._callers = callers
        self._examples = 0
        self.now = BEGIN
        self.advance(0)

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        return self._runner.run(work)

    def next_prefix(self) -> str:
        self._examples += 1
        return f"M{self._examples}"

    def open_accounts(self, accounts: Iterable[Account]) -> None:
        rows = [
            CoreAccount(
                a.number, a.kind, a.currency, a.balance, a.limit, "closed" if a.closed else "active"
            )
            for a in accounts
        ]
        self.run(self._bank.open_accounts(rows))

    def advance(self, seconds: int) -> None:
        """Time passes, for the database and so for every decision."""
        self.set_now(self.now + timedelta(seconds=seconds))

    def set_now(self, instant: datetime) -> None:
        """It is this instant now, and stays so."""
        self.now = instant
        self.run(set_clock(self._bank.owner, instant))

    def later(self, seconds: int | None) -> str | None:
        """The instant so many seconds from now, as a client writes it."""
        if seconds is None:
            return None
        return (self.now + timedelta(seconds=seconds)).isoformat()

    def set_blocks(self, account: Account, sides: set[str]) -> None:
        """The core lifts every block of the account and sets these."""
        self.run(self._bank.unblock(account.number))
        for side in sides:
            self.run(self._bank.block(account.number, side))
        account.blocked = sides

    def set_money(self, account: Account, balance: int, limit: int) -> None:
        """The core changes its own figures, in the database and in the model."""
        self.run(self._bank.set_money(account.number, balance, limit))
        account.balance, account.limit = balance, limit

    def faults(self) -> list[str]:
        """What does not add up in the database; the core of this test breaks limits as it likes."""
        faults = self.run(self._bank.faults())
        return [fault for fault in faults if not fault.endswith("is below its limit")]

    def send(self, client: str, path: str, content: bytes, key: str) -> Answer:
        return self.run(self._callers[client].send(path, content, key))

    def get(self, path: str, client: str = "payments", **params: str | int) -> Answer:
        return self.run(self._callers[client].get(path, **params))

    def pages(self, path: str, **filters: str) -> list[dict[str, Any]]:
        """All items of a list, three a page."""
        items: list[dict[str, Any]] = []
        token: str | None = None
        while True:
            more = {} if token is None else {"page_token": token}
            answer = self.get(path, page_size=3, **filters, **more)
            assert answer.status == 200, answer.content
            (page,) = [value for value in answer.body.values() if isinstance(value, list)]
            assert len(page) <= 3
            items += page
            token = answer.body.get("next_page_token")
            if token is None:
                return items

    def send_batch(self, model: Model, mode: str, commands: list[Command], ids: list[str]) -> None:
        """Send a batch and compare each result."""
        items = [item_of(command, one) for command, one in zip(commands, ids, strict=True)]
        content = json.dumps({"mode": mode, "items": items}).encode()
        answer = self.send("payments", "/v1/batches", content, "unused")
        assert answer.status == 200, answer.content
        results = answer.body["results"]
        refused = sum(result["status"] >= 400 for result in results)
        assert (answer.body["approved"], answer.body["refused"]) == (
            len(results) - refused,
            refused,
        )
        culprit = first_refused(model, commands, self.now) if mode == "atomic" else None
        for index, (command, result) in enumerate(zip(commands, results, strict=True)):
            assert result["replayed"] is False
            if culprit is None:
                outcome = model.decide(command, self.now)
            else:
                outcome = culprit[1] if index == culprit[0] else Refused("batch_refused")
            check_answer(model, outcome, answer_of(result), self.now)


def first_refused(
    model: Model, commands: list[Command], now: datetime
) -> tuple[int, Refused] | None:
    """Which command an atomic batch fails at and why, tried on a copy; None: it is approved."""
    trial = copy.deepcopy(model)
    for index, command in enumerate(commands):
        outcome = trial.decide(command, now)
        if isinstance(outcome, Refused):
            return index, outcome
    return None


def item_of(command: Command, identifier: str) -> dict[str, Any]:
    """A command as an item of a batch."""
    item = {"operation": command.operation, "idempotency_key": fresh_key()} | command.body
    return item if command.operation in ("hold", "posting") else item | {"hold_id": identifier}


def answer_of(result: dict[str, Any]) -> Answer:
    """A result of a batch as if it had been an answer of its own."""
    kind = "application/json" if result["status"] < 400 else "application/problem+json"
    content = json.dumps(result["body"]).encode()
    return Answer(result["status"], content, {"content-type": kind})


@contextmanager
def model_world(servers: Servers, home: Path) -> Iterator[World]:
    """An API process with its clients, on a database whose clock the test owns."""
    with asyncio.Runner() as runner, ApiProcess(servers, home) as api:
        owner = runner.run(asyncpg.connect(servers.owner_dsn))
        http = http_client()
        try:
            runner.run(install_clock(owner))
            bank = Bank(owner)
            runner.run(bank.open_ledger(date(2031, 3, 3), date(2031, 3, 4)))
            callers = {
                name: Caller(http, api.base_url, runner.run(bank.add_client(name)))
                for name in ("payments", "cards")
            }
            yield World(runner, bank, callers)
        finally:
            runner.run(http.aclose())
            runner.run(owner.close())
