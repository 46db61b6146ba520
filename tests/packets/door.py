"""Packets through the real REST door: a bank, an API process and clients of every kind."""

from __future__ import annotations

import itertools
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import date
from pathlib import Path
from typing import Any, Final

import asyncpg

from tests.support.api_process import ApiProcess, Servers
from tests.support.bank import Bank, CoreAccount
from tests.support.caller import Answer, Caller, assert_problem, http_client

CASH: Final = "INT-CASH"
SCOPES: Final = {
    "cash": ("balance:read", "posting:write", "posting:force", "packet:unload"),
    "other": ("posting:write", "packet:unload"),
    "writer": ("posting:write",),
    "unloader": ("packet:unload",),
    "chief": ("packet:accept",),
    "maker": ("posting:write", "packet:unload", "packet:accept"),
    "fixer": ("problem:resolve",),
    "forcer": ("problem:resolve", "posting:force"),
    "root": ("admin",),
    "narrow": ("balance:read",),
}
BODIES: Final[dict[str, dict[str, Any]]] = {"unload": {}, "accept": {}, "reject": {"reason": "no"}}
"""What each end of a packet's path takes at least."""

RETRY: Final = {"action": "retry", "reason": "looked at it"}
_numbers = itertools.count()


def fresh(stem: str) -> str:
    """A name that no other test uses, in capitals when the stem is."""
    return f"{stem}-{next(_numbers)}"


def refused(answer: Answer) -> tuple[int, str | None]:
    """Status and code of a problem document."""
    assert_problem(answer)
    return answer.status, answer.code


def without_requests(fingerprint: str) -> list[str]:
    """A checksum of the bank's rows without the stored answers: refusals are kept, too."""
    return [line for line in fingerprint.splitlines() if not line.startswith("ni.request")]


@dataclass
class Door:
    """The API of one process; `callers` by client."""

    api: ApiProcess
    bank: Bank
    callers: dict[str, Caller]
    servers: Servers
    keys: dict[str, str]
    accounts: list[str] = field(default_factory=list)

    def __getitem__(self, client: str) -> Caller:
        return self.callers[client]

    async def open(self, balance: int = 1000_00) -> str:
        """A customer's account."""
        name = fresh("ACC")
        await self.bank.open_accounts([CoreAccount(name, balance=balance)])
        return name

    async def post(
        self, account: str, amount: str, packet: str, client: str = "cash", **more: Any
    ) -> str:
        """A posting out of an account; its id."""
        body = {"debit_account": account, "credit_account": CASH, "amount": amount}
        body |= {"currency": "CZK", "packet": packet, **more}
        answer = await self[client].post("/v1/postings", body)
        assert answer.status == 201, answer.content
        return str(answer.body["posting_id"])

    async def unload(
        self, packet: str, client: str = "cash", *, accepted: bool = True
    ) -> dict[str, Any]:
        """What a run of a client's own packet did."""
        answer = await self[client].post(f"/v1/packets/{packet}/unload", {"accepted": accepted})
        assert answer.status == 200, answer.content
        return answer.body

    async def problem(self, packet: str | None = None) -> tuple[str, str]:
        """An account that was arrested, and the posting out of it that is a problem now."""
        account = await self.open()
        packet = packet or fresh("bad")
        posting = await self.post(account, "10.00", packet)
        await self.bank.block(account, "debit")
        assert (await self.unload(packet))["problems_total"] == 1
        return account, posting

    async def balance(self, account: str) -> dict[str, str]:
        """An account's balance as the cash desk sees it."""
        return (await self["cash"].get(f"/v1/accounts/{account}/balance")).body


async def pages(caller: Caller, path: str, size: int, **query: str) -> list[dict[str, Any]]:
    """A whole list, read in pages of `size`."""
    found: list[dict[str, Any]] = []
    while True:
        answer: Answer = await caller.get(path, page_size=size, **query)
        assert answer.status == 200, answer.content
        assert len(answer.body["items"]) <= size
        found += answer.body["items"]
        if "next_page_token" not in answer.body:
            return found
        assert len(answer.body["items"]) == size
        query["page_token"] = answer.body["next_page_token"]


@asynccontextmanager
async def open_door(servers: Servers, home: Path) -> AsyncIterator[Door]:
    """An API process on a database with these clients and the bank's cash account."""
    owner = await asyncpg.connect(servers.owner_dsn)
    try:
        bank = Bank(owner)
        await bank.open_ledger(date(2031, 3, 3), date(2031, 3, 4))
        await bank.open_accounts([CoreAccount(CASH, kind="internal")])
        keys = {name: await bank.add_client(name, scopes) for name, scopes in SCOPES.items()}
        with ApiProcess(servers, home) as api:
            async with http_client() as http:
                callers = {name: Caller(http, api.base_url, key) for name, key in keys.items()}
                yield Door(api, bank, callers, servers, keys)
    finally:
        await owner.close()
