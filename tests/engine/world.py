"""An engine on a real database, and strangers who share the database with it."""

from __future__ import annotations

import asyncio
import itertools
import json
from collections.abc import AsyncIterator, Iterable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from datetime import date
from typing import Any, Final
from uuid import UUID

import asyncpg

from ni.batch_state import Answer
from ni.commands import CancelPosting, CaptureHold, CreateHold, CreatePosting, ReleaseHold
from ni.database import Pools
from ni.decisions import Decision
from ni.engine import Engine
from ni.identifiers import bucket_of
from ni.reads import Reads
from ni.session import connected
from ni.settings import Settings
from tests.support.bank import Bank, CoreAccount
from tests.support.databases import Database

CASH: Final = "ENGINE-CASH"
FEES: Final = "ENGINE-FEES"
CLIENT: Final = "tester"
PRINT: Final = b"a fingerprint of 32 bytes length"
WAIT_SECONDS: Final = 20.0
PATIENT: Final[dict[str, Any]] = {
    "decision_timeout_ms": 8_000,
    "transaction_timeout_ms": 6_000,
    "idle_in_transaction_timeout_ms": 6_000,
    "read_connections": 2,
}
"""Limits that a slow machine does not reach; a test that is about a limit sets it."""

PATIENT_LOCKS: Final = {"lock_timeout_ms": 5_000}
"""With `tell_deadlocks_early`: a deadlock is told as one, not broken off as a long wait."""

_keys = itertools.count()


def fresh_key() -> str:
    """An idempotency key that no other command of this process has."""
    return f"k{next(_keys)}"


def debit(account: str, amount: int, credit: str = CASH, **more: Any) -> CreatePosting:
    """A posting out of `account`, minor units of CZK, in packet `p`."""
    fields: dict[str, Any] = {
        "client": CLIENT, "key": fresh_key(), "fingerprint": PRINT, "debit_account": account,
        "credit_account": credit, "amount": amount, "currency": "CZK", "packet": "p",
        "straight_through": False,
    }  # fmt: skip
    return CreatePosting(**(fields | more))


def hold(account: str, amount: int, **more: Any) -> CreateHold:
    """A hold on `account`, minor units of CZK."""
    fields: dict[str, Any] = {
        "client": CLIENT, "key": fresh_key(), "fingerprint": PRINT, "account": account,
        "amount": amount, "currency": "CZK",
    }  # fmt: skip
    return CreateHold(**(fields | more))


def capture(hold_id: UUID, amount: str | None = None, **more: Any) -> CaptureHold:
    """A capture to the bank's cash."""
    fields: dict[str, Any] = {
        "client": CLIENT, "key": fresh_key(), "fingerprint": PRINT, "hold_id": hold_id,
        "amount": amount, "credit_account": CASH, "packet": "p", "straight_through": False,
    }  # fmt: skip
    return CaptureHold(**(fields | more))


def release(hold_id: UUID, amount: str | None = None, **more: Any) -> ReleaseHold:
    """A release of all or part of a hold."""
    fields: dict[str, Any] = {"client": CLIENT, "key": fresh_key(), "fingerprint": PRINT}
    return ReleaseHold(**(fields | {"hold_id": hold_id, "amount": amount} | more))


def cancel(posting_id: UUID, **more: Any) -> CancelPosting:
    """A cancel of a posting."""
    fields: dict[str, Any] = {"client": CLIENT, "key": fresh_key(), "fingerprint": PRINT}
    return CancelPosting(**(fields | {"posting_id": posting_id, "reason": "mistake"} | more))


def made(answer: Answer) -> dict[str, Any]:
    """The document of an approval; the test fails if it is none."""
    assert answer.decision is Decision.approved, answer
    body = json.loads(answer.document)
    assert isinstance(body, dict)
    return body


def id_of(answer: Answer) -> UUID:
    """The id of the posting or hold that an approval made."""
    body = made(answer)
    return UUID(body.get("posting_id") or body["hold_id"])


def decisions(answers: Iterable[Answer]) -> list[str]:
    """The names of what was decided, in order."""
    return [answer.decision.name for answer in answers]


def minor(text: str) -> int:
    """Minor units of a printed CZK amount."""
    return int(text.replace(".", ""))


@dataclass
class World:
    """One engine, one database; `owner` is a session of NI's owner outside the engine."""

    database: Database
    settings: Settings
    owner: asyncpg.Connection
    bank: Bank
    pools: Pools
    engine: Engine
    reads: Reads
    _numbers: Iterable[int] = field(default_factory=itertools.count)

    @property
    def buckets(self) -> int:
        return self.database.buckets

    async def open(self, count: int = 1, balance: int = 1000_00, **more: Any) -> list[str]:
        """Customer accounts that NI has never seen, in whatever buckets."""
        names = [f"E{number}" for number in itertools.islice(self._numbers, count)]
        await self.bank.open_accounts(CoreAccount(n, balance=balance, **more) for n in names)
        return names

    async def open_in(self, bucket: int, balance: int = 1000_00, **more: Any) -> str:
        """A customer account that lives in `bucket`."""
        names = (f"B{number}" for number in self._numbers)
        name = next(name for name in names if bucket_of(name, self.buckets) == bucket)
        await self.bank.open_accounts([CoreAccount(name, balance=balance, **more)])
        return name

    async def open_together(self, count: int, balance: int = 1000_00) -> list[str]:
        """Customer accounts of one bucket, so that a posting between them is one row."""
        return [await self.open_in(self.buckets - 1, balance) for _ in range(count)]

    async def balance(self, account: str) -> dict[str, Any]:
        """The account's balance document."""
        document = await self.reads.balance(account)
        assert document is not None, f"{account} is not in the core"
        found: dict[str, Any] = json.loads(document)
        return found

    async def available(self, account: str) -> int:
        """What is available now, in minor units."""
        return minor((await self.balance(account))["available"])

    async def requests(self) -> int:
        """How many answers are stored."""
        return int(await self.owner.fetchval("select count(*) from ni.request"))

    async def sizes(self) -> list[int]:
        """How many stored requests each transaction wrote, in the order of their decisions."""
        rows = await self.owner.fetch(
            "select count(*) as size from ni.request group by xmin order by min(decided_at)"
        )
        return [row["size"] for row in rows]

    @asynccontextmanager
    async def stranger(self) -> AsyncIterator[asyncpg.Connection]:
        """Another session of the owner, e.g. a packet that is being unloaded."""
        async with connected(self.database.owner_dsn) as session:
            yield session

    @asynccontextmanager
    async def locked(self, account: str, session: asyncpg.Connection) -> AsyncIterator[None]:
        """`account`'s position is locked by somebody else; committed at the end."""
        bucket = bucket_of(account, self.buckets)
        async with session.transaction():
            await session.execute(
                "insert into ni.position values ($1, $2) on conflict do nothing", bucket, account
            )
            await session.execute(
                "select from ni.position where bucket = $1 and account = $2 for no key update",
                bucket,
                account,
            )
            yield

    async def until_waiting(self, count: int = 1) -> None:
        """Return when `count` sessions of the engine wait for a lock."""
        async with asyncio.timeout(WAIT_SECONDS):
            while await self._waiting() < count:
                await asyncio.sleep(0.005)

    async def _waiting(self) -> int:
        return int(
            await self.owner.fetchval(
                "select count(distinct pid) from pg_locks join pg_stat_activity using (pid)"
                " where not granted and datname = current_database() and usename = 'ni_engine'"
            )
        )

    async def tell_deadlocks_early(self) -> None:
        """Sessions that begin from now on hear of a deadlock after 20 ms."""
        async with connected(self.database.superuser_dsn) as superuser:
            await superuser.execute(
                f"alter database {self.database.name} set deadlock_timeout = '20ms'"
            )

    @asynccontextmanager
    async def another_engine(self, **limits: Any) -> AsyncIterator[Engine]:
        """A second engine on the same database, as another API process has one."""
        settings = self.settings.model_copy(update=limits)
        async with running_engine(settings, self.buckets) as engine:
            yield engine


@asynccontextmanager
async def running_engine(settings: Settings, buckets: int) -> AsyncIterator[Engine]:
    """An engine with pools of its own, started."""
    pools = await Pools.open(settings, settings.lanes + settings.batch_lanes)
    engine = Engine(settings, pools, buckets)
    engine.start()
    try:
        yield engine
    finally:
        await engine.stop()
        await pools.close()


@asynccontextmanager
async def open_world(database: Database, **limits: Any) -> AsyncIterator[World]:
    """An engine with these settings on a database with a ledger and two internal accounts."""
    settings = Settings(database_url=database.engine_dsn, **(PATIENT | limits))
    async with AsyncExitStack() as stack:
        owner = await stack.enter_async_context(connected(database.owner_dsn))
        bank = Bank(owner)
        await bank.open_ledger(date(2031, 3, 3), date(2031, 3, 4))
        await bank.open_accounts(CoreAccount(name, kind="internal") for name in (CASH, FEES))
        engine = await stack.enter_async_context(running_engine(settings, database.buckets))
        reads = Reads(engine.pools, settings, database.buckets)
        yield World(database, settings, owner, bank, engine.pools, engine, reads)
