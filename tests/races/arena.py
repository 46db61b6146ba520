"""Two API processes on one database, and the means to let requests meet in them."""

from __future__ import annotations

import asyncio
import itertools
import os
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any, Final

import asyncpg

from tests.support.api_process import ApiProcess
from tests.support.bank import Bank, CoreAccount
from tests.support.caller import Answer, Caller, http_client
from tests.support.databases import Database

TORTURE: Final = os.environ.get("NI_TORTURE") == "1"
CASH: Final = "RACE-CASH"
FEES: Final = "RACE-FEES"
CLOCK_SHIFT_MS: Final = 200
IN_FLIGHT: Final = 4
_prefixes = itertools.count()


def rounds(short: int, full: int = 1000) -> int:
    """How often a race is run: `short` times in `make test`, `full` times in `make torture`."""
    return full if TORTURE else short


@dataclass
class Arena:
    """One client on two processes: `callers[0]` talks to the first, `callers[1]` to the other."""

    bank: Bank
    apis: Sequence[ApiProcess]
    callers: Sequence[Caller]
    superuser_dsn: str

    async def open_accounts(self, count: int, balance: int) -> list[str]:
        """Customer accounts that NI has never seen, each with `balance` minor units of CZK."""
        return await self.open_accounts_with([balance] * count)

    async def open_accounts_with(self, balances: Sequence[int]) -> list[str]:
        """The same, each with a balance of its own."""
        prefix = f"R{next(_prefixes)}"
        numbers = [f"{prefix}-{number}" for number in range(len(balances))]
        await self.bank.open_accounts(
            CoreAccount(one, balance=balance)
            for one, balance in zip(numbers, balances, strict=True)
        )
        return numbers

    async def repeat(self, count: int, race: Callable[[int], Awaitable[None]]) -> None:
        """Run a race `count` times, a few of them at once, so that micro-batches mix them."""
        gate = asyncio.Semaphore(IN_FLIGHT)

        async def one(number: int) -> None:
            async with gate:
                await race(number)

        async with asyncio.TaskGroup() as group:
            for number in range(count):
                group.create_task(one(number))

    async def available(self, account: str) -> int:
        """What is available now, in minor units of CZK."""
        answer = await self.callers[0].get(f"/v1/accounts/{account}/balance")
        assert answer.status == 200, answer.content
        return minor(answer.body["available"])

    async def cut_sessions(self) -> None:
        """End about a third of the engine's database sessions, as an operator or a crash would."""
        superuser = await asyncpg.connect(self.superuser_dsn)
        await superuser.execute(
            "select pg_terminate_backend(pid) from pg_stat_activity"
            " where usename = 'ni_engine' and datname = current_database() and random() < 0.3"
        )
        await superuser.close()

    async def assert_sound(self) -> None:
        """Every figure of the database agrees with its movements."""
        faults = await self.bank.faults()
        assert not faults, faults[:5]


def minor(text: str) -> int:
    """Minor units of a CZK amount that an answer prints."""
    return int(text.replace(".", ""))


def debit(account: str, amount: str, credit: str = CASH, **more: Any) -> dict[str, Any]:
    """The body of a posting out of an account, in packet `race`."""
    body = {"debit_account": account, "credit_account": credit, "amount": amount}
    return body | {"currency": "CZK", "packet": "race"} | more


def hold(account: str, amount: str, **more: Any) -> dict[str, Any]:
    """The body of a hold."""
    return {"account": account, "amount": amount, "currency": "CZK"} | more


def capture(credit: str = CASH, **more: Any) -> dict[str, Any]:
    """The body of a capture into packet `race`."""
    return {"credit_account": credit, "packet": "race"} | more


def made(answer: Answer) -> dict[str, Any]:
    """The body of an approval; the test fails if it is none."""
    assert answer.status in (200, 201), answer.content
    return answer.body


def approved(answers: Sequence[Answer]) -> list[Answer]:
    return [answer for answer in answers if answer.status in (200, 201)]


def refused(answers: Sequence[Answer], code: str) -> list[Answer]:
    return [answer for answer in answers if answer.code == code]


def assert_true_refusal(answer: Answer) -> None:
    """`insufficient_funds` only where the available really was less than what was asked."""
    body = answer.body
    assert minor(body["available"]) < minor(body["requested"]), body


@asynccontextmanager
async def open_arena(database: Database, redis_url: str, home: Path) -> AsyncIterator[Arena]:
    """Start both processes, the second with its clock 200 ms ahead, which must not matter."""
    async with AsyncExitStack() as stack:
        servers = database.servers(redis_url)
        owner = await asyncpg.connect(servers.owner_dsn)
        stack.push_async_callback(owner.close)
        bank = Bank(owner)
        await bank.open_ledger(date(2031, 3, 3), date(2031, 3, 4))
        await bank.open_accounts(CoreAccount(one, kind="internal") for one in (CASH, FEES))
        key = await bank.add_client("racer")
        shift = {"NI_TEST_CLOCK_SHIFT_MS": str(CLOCK_SHIFT_MS)}
        first = ApiProcess(servers, home).start(wait=False)
        stack.callback(first.stop)
        second = ApiProcess(servers, home, "tests.support.killable_api", shift).start(wait=False)
        stack.callback(second.stop)
        callers = []
        for api in (first, second):
            api.wait_ready()
            http = await stack.enter_async_context(http_client(connections=128))
            callers.append(Caller(http, api.base_url, key))
        yield Arena(bank, (first, second), callers, database.superuser_dsn)
