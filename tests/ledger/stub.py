"""A server of a few lines in NI's place, which misbehaves when a test wants it."""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from ni.money import format_amount
from ni.replay import Plan, Replay, ReplayReport, Sender, survey
from ni.rest_client import NoAnswer, Reply

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
