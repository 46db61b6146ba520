"""A load whose every request is remembered, so that after a crash each can be accounted for."""

from __future__ import annotations

import asyncio
import json
import random
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, Final

from tests.support.bank import CoreAccount
from tests.support.caller import Answer, Caller, fresh_key
from tests.support.wire import NO_ANSWER

ACCOUNTS: Final = 12
WORKERS: Final = 16
CASH: Final = "TORTURE-CASH"
OPENING_BALANCE: Final = 2_000_00
PASSING: Final = frozenset({"posting_being_unloaded"})
"""Refusals that are not kept: the same request may succeed later."""


@dataclass
class Sent:
    """One request. Without an answer nobody knows whether it has happened."""

    path: str
    content: bytes
    key: str
    answer: Answer | None = None


def account(number: int) -> str:
    return f"TORTURE-{number}"


def torture_accounts() -> list[CoreAccount]:
    """The accounts that a load works on."""
    customers = [CoreAccount(account(n), balance=OPENING_BALANCE) for n in range(ACCOUNTS)]
    return [*customers, CoreAccount(CASH, kind="internal")]


@dataclass
class Load:
    """Workers that post, hold, capture, release and cancel until they are told to stop."""

    caller: Caller
    packets: Sequence[str | None] = ("torture",)
    """What postings name; None stands for straight-through."""
    draw: random.Random = field(default_factory=random.Random)
    acknowledged: list[Sent] = field(default_factory=list)
    unanswered: list[Sent] = field(default_factory=list)
    holds: list[str] = field(default_factory=list)
    postings: list[str] = field(default_factory=list)
    faults: list[str] = field(default_factory=list)
    resolved: int = 0
    stopping: bool = False

    async def run(self, seconds: float | None = None) -> None:
        """Send until `stop`, until the process does not answer any more, or for so long."""
        self.stopping = False
        workers = [asyncio.create_task(self._work()) for _ in range(WORKERS)]
        if seconds is not None:
            await asyncio.sleep(seconds)
            self.stop()
        await asyncio.gather(*workers)

    def stop(self) -> None:
        self.stopping = True

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """The load runs beside what the caller does, and has ended afterwards."""
        work = asyncio.create_task(self.run())
        try:
            yield
        finally:
            self.stop()
            await work

    async def _work(self) -> None:
        while not self.stopping:
            sent = self._next()
            if not await self.send(sent):
                return

    async def send(self, sent: Sent) -> bool:
        """Send one request and file it; False when no answer came."""
        try:
            answer = await self.caller.send(sent.path, sent.content, sent.key)
        except NO_ANSWER:
            self.unanswered.append(sent)
            return False
        if answer.status == 503:
            if "retry-after" not in answer.headers:
                self.faults.append(f"503 without Retry-After: {answer.content!r}")
            self.unanswered.append(sent)
            await asyncio.sleep(0.02)
            return True
        sent.answer = answer
        self._file(sent, answer)
        return True

    def _file(self, sent: Sent, answer: Answer) -> None:
        if answer.status >= 500 or answer.status not in (200, 201, 404, 409):
            self.faults.append(f"{sent.path}: {answer.status} {answer.content[:300]!r}")
        if answer.code in PASSING:
            return
        self.acknowledged.append(sent)
        if answer.status == 201:
            body = answer.body
            if "posting_id" in body:
                self.postings.append(body["posting_id"])
            else:
                self.holds.append(body["hold_id"])

    def _next(self) -> Sent:
        kinds = ["posting"] * 6 + ["hold"] * 3 + ["capture"] * 2 + ["release", "cancel"]
        kind = self.draw.choice(kinds)
        if kind in ("capture", "release") and not self.holds:
            kind = "hold"
        if kind == "cancel" and not self.postings:
            kind = "posting"
        path, body = getattr(self, f"_{kind}")()
        return Sent(path, json.dumps(body).encode(), fresh_key())

    def _amount(self) -> dict[str, Any]:
        return {"amount": f"{self.draw.randrange(1, 40)}.{self.draw.randrange(100):02d}"}

    def _posting(self) -> tuple[str, dict[str, Any]]:
        one, other = self.draw.sample(range(ACCOUNTS), 2)
        sides = self.draw.choice(
            [(account(one), account(other)), (account(one), CASH), (CASH, account(one))]
        )
        body = {"debit_account": sides[0], "credit_account": sides[1], "currency": "CZK"}
        return "/v1/postings", body | self._amount() | self._packet()

    def _packet(self) -> dict[str, Any]:
        packet = self.draw.choice(self.packets)
        return {"straight_through": True} if packet is None else {"packet": packet}

    def _hold(self) -> tuple[str, dict[str, Any]]:
        name = account(self.draw.randrange(ACCOUNTS))
        return "/v1/holds", {"account": name, "currency": "CZK"} | self._amount()

    def _recent(self, ids: list[str]) -> str:
        return ids[self.draw.randrange(max(0, len(ids) - 60), len(ids))]

    def _capture(self) -> tuple[str, dict[str, Any]]:
        body: dict[str, Any] = {"credit_account": CASH} | self._packet()
        if self.draw.random() < 0.3:
            body |= {"amount": "0.50", "final": False}
        return f"/v1/holds/{self._recent(self.holds)}/capture", body

    def _release(self) -> tuple[str, dict[str, Any]]:
        return f"/v1/holds/{self._recent(self.holds)}/release", {}

    def _cancel(self) -> tuple[str, dict[str, Any]]:
        path = f"/v1/postings/{self._recent(self.postings)}/cancel"
        return path, {"reason": "torture"}
