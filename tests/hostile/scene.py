"""The scene of the hostile tests: two accounts, a hold, a posting, and clients of all kinds."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any, Final

import asyncpg

from tests.hostile.corpus import Case, Endpoint, endpoints
from tests.support.api_process import ApiProcess, Servers
from tests.support.bank import Bank, CoreAccount
from tests.support.caller import Answer, Caller, assert_problem, fresh_key, http_client

DEBIT: Final = "HOSTILE-1"
CREDIT: Final = "HOSTILE-CASH"
PACKET: Final[dict[str, Any]] = {"packet": "cash-am"}
AT_ONCE: Final = 12
BODY_TIMEOUT_MS: Final = 1_000


@dataclass
class Scene:
    """A running API with something to attack."""

    api: ApiProcess
    bank: Bank
    client: Caller
    narrow: Caller
    plain: Caller
    stranger: Caller
    nobody: Caller
    hold_id: str
    posting_id: str

    @property
    def endpoints(self) -> list[Endpoint]:
        return endpoints((DEBIT, CREDIT), self.hold_id, self.posting_id)

    async def attack(self, path: str, cases: Iterable[Case]) -> list[str]:
        """Send every case; returns what went wrong, at most one line a case."""
        gate = asyncio.Semaphore(AT_ONCE)

        async def one(name: str, content: bytes) -> str | None:
            async with gate:
                answer = await self.client.send(path, content, fresh_key())
            return fault_of(name, answer)

        found = await asyncio.gather(*(one(name, content) for name, content in cases))
        return [fault for fault in found if fault]


def fault_of(name: str, answer: Answer) -> str | None:
    """Why this is not the answer to a hostile request: a 4xx problem document."""
    try:
        assert 400 <= answer.status < 500, "not a 4xx"
        assert_problem(answer)
        assert answer.code not in ("idempotency_key_reused", "unauthorized", "scope_missing")
    except (AssertionError, ValueError, KeyError) as wrong:
        return f"{name}: {answer.status} {answer.content[:200]!r} {str(wrong)[:80]}"
    return None


async def good(answer: Answer) -> dict[str, Any]:
    assert answer.status == 201, answer.content
    return answer.body


@asynccontextmanager
async def hostile_scene(servers: Servers, home: Path) -> AsyncIterator[Scene]:
    """Start an API and make what the corpus aims at."""
    owner = await asyncpg.connect(servers.owner_dsn)
    http = http_client()
    bank = Bank(owner)
    await bank.open_ledger(date(2031, 3, 3), date(2031, 3, 4))
    await bank.open_accounts(
        [CoreAccount(DEBIT, balance=1_000_00), CoreAccount(CREDIT, kind="internal")]
    )
    keys = {
        "client": await bank.add_client("hostile"),
        "plain": await bank.add_client("plain", ["balance:read", "hold:write", "posting:write"]),
        "stranger": await bank.add_client("stranger"),
        "narrow": await bank.add_client("narrow", ["balance:read"]),
        "nobody": "ni_" + "x" * 43,
    }
    hasty = {"NI_BODY_TIMEOUT_MS": str(BODY_TIMEOUT_MS)}
    with ApiProcess(servers, home, extra_environment=hasty) as api:
        callers = {name: Caller(http, api.base_url, key) for name, key in keys.items()}
        money = {"amount": "50.00", "currency": "CZK"}
        hold = await good(await callers["client"].post("/v1/holds", {"account": DEBIT} | money))
        sides = {"debit_account": DEBIT, "credit_account": CREDIT}
        posting = await good(await callers["client"].post("/v1/postings", sides | money | PACKET))
        try:
            yield Scene(
                api, bank, **callers, hold_id=hold["hold_id"], posting_id=posting["posting_id"]
            )
        finally:
            await http.aclose()
            await owner.close()
