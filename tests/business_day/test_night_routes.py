"""By night every route answers at once, and no session of NI touches the core.

The core holds all its tables, as its end of day does for hours.
"""

from __future__ import annotations

import asyncio
import itertools
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any, Final

import asyncpg
import pytest

from api.routes import ROUTES
from ni.embedded import EmbeddedValkey
from ni.errors import NiError
from ni.migrate import FOLDER, migrate
from tests.business_day.house import core_held, no_lock_on_core
from tests.embedded.up_process import balance, running
from tests.packets.door import CASH, Door, fresh, open_door
from tests.support.api_process import ApiProcess
from tests.support.bank import Bank, CoreAccount
from tests.support.caller import Answer, Caller, http_client
from tests.support.databases import Database

ANSWER_S: Final = 1.0
DAY: Final = "/v1/business-day"


@dataclass(frozen=True)
class Request:
    """What is asked by whom, and what is right to answer."""

    client: str
    method: str
    path: str
    body: dict[str, Any] | None
    status: int
    code: str | None


class Night:
    """What there is to ask about: made by day."""

    def __init__(self, door: Door) -> None:
        self.door = door
        self.account = self.other = self.held = self.hold = self.posting = ""
        self.problems: list[str] = []

    async def prepare(self) -> None:
        """An account with a hold and a posting, a packet that waits, and problems."""
        door = self.door
        self.account, self.other = await door.open(), await door.open()
        self.posting = await door.post(self.account, "1.00", "open")
        await door.post(self.account, "1.00", "waits", client="cash")
        await door.unload("waits", accepted=False)
        self.problems = [(await door.problem())[1] for _ in range(3)]

    async def hold_money(self) -> str:
        """A new hold; its id."""
        body = {"account": self.account, "amount": "5.00", "currency": "CZK"}
        return str((await self.door["root"].post("/v1/holds", body)).body["hold_id"])

    async def requests(self) -> dict[str, list[Request]]:
        """For every route what is asked, and what is right to answer."""
        return {**await self._movements(), **self._reads(), **self._packets(), **_service()}

    async def _movements(self) -> dict[str, list[Request]]:
        money = {"amount": "1.00", "currency": "CZK"}
        move = {"debit_account": self.account, "credit_account": CASH, **money}
        paid_in = {**move, "debit_account": CASH, "credit_account": self.other}
        item = {"operation": "posting", "idempotency_key": fresh("k"), "packet": "batch", **move}
        holds = [f"/v1/holds/{await self.hold_money()}" for _ in range(4)]
        posting = f"/v1/postings/{await self.door.post(self.account, '1.00', 'late')}"
        taken = {"credit_account": CASH, "packet": "night"}
        return {
            "create_posting": [
                post("/v1/postings", {**move, "packet": "night"}),
                post("/v1/postings", {**move, "straight_through": True}),
                post("/v1/postings", {**paid_in, "packet": "night", "check": "none"}),
            ],
            "create_hold": [post("/v1/holds", {"account": self.account, **money})],
            "create_batch": [post("/v1/batches", {"mode": "atomic", "items": [item]}, 200)],
            "capture_hold": [post(f"{holds[0]}/capture", taken)],
            "release_hold": [post(f"{holds[1]}/release", {}, 200)],
            "adjust_hold": [post(f"{holds[2]}/adjust", {"amount": "6.00"}, 200)],
            "cancel_posting": [post(f"{posting}/cancel", {"reason": "mistake"}, 200)],
            "read_posting": [get(posting)],
            "read_hold": [get(holds[3])],
        }

    def _reads(self) -> dict[str, list[Request]]:
        account = f"/v1/accounts/{self.account}"
        return {
            "read_balance": [get(f"{account}/balance"), get(f"/v1/accounts/{CASH}/balance")],
            "list_holds": [get(f"{account}/holds")],
            "list_movements": [get(f"{account}/movements")],
            "list_packets": [get("/v1/packets?client=cash")],
            "read_packet": [get("/v1/packets/waits?client=cash")],
            "list_packet_postings": [get("/v1/packets/waits/postings?client=cash")],
            "list_problems": [get("/v1/problems")],
        }

    def _packets(self) -> dict[str, list[Request]]:
        why = {"reason": "looked at it"}
        closed = (409, "core_closed")
        retry, cancel, redirect = (f"/v1/problems/{one}/resolve" for one in self.problems)
        elsewhere = {"action": "redirect", "debit_account": self.other, **why}
        waits = "/v1/packets/waits"
        return {
            "unload_packet": [post("/v1/packets/open/unload", {}, *closed, "cash")],
            "accept_packet": [post(f"{waits}/accept?client=cash", {}, *closed, "chief")],
            "reject_packet": [post(f"{waits}/reject?client=cash", why, *closed, "chief")],
            "resolve_problem": [
                post(retry, {"action": "retry", **why}, *closed),
                post(cancel, {"action": "cancel", **why}, 200),
                post(redirect, elsewhere, 200),
            ],
        }


def _service() -> dict[str, list[Request]]:
    return {
        "read_day": [get(DAY)],
        "close_day": [post(f"{DAY}/close", {}, 200)],
        "open_day": [post(f"{DAY}/open", {}, 409, "core_still_closed")],
        "live": [get("/healthz")],
        "ready": [get("/readyz")],
        "metrics": [get("/metrics")],
    }


def get(path: str) -> Request:
    """A read that must succeed."""
    return Request("root", "GET", path, None, 200, None)


def post(
    path: str, body: dict[str, Any], status: int = 201, code: str | None = None,
    client: str = "root",
) -> Request:  # fmt: skip
    """A request under a key of its own."""
    return Request(client, "POST", path, body, status, code)


async def ask(door: Door, asked: Request) -> Answer:
    """The answer, which came within ANSWER_S."""
    began = time.monotonic()
    caller = door[asked.client]
    if asked.method == "GET":
        answer = await caller.get(asked.path)
    else:
        answer = await caller.post(asked.path, asked.body)
    took = time.monotonic() - began
    assert took < ANSWER_S, (asked, took)
    return answer


@asynccontextmanager
async def by_night(
    database: Database, valkey: EmbeddedValkey, home: Path
) -> AsyncIterator[tuple[Door, Night]]:
    """A door and what is behind it, by night, while the core holds everything."""
    async with open_door(database.servers(valkey.url), home) as door:
        night = Night(door)
        await night.prepare()
        closed = await door["root"].post(f"{DAY}/close", {})
        assert closed.status == 200, closed.content
        async with core_held(database.owner_dsn):
            yield door, night


@pytest.mark.parametrize("buckets", [1, 8])
async def test_every_route_answers_by_night_and_touches_no_core(
    database: Database, valkey: EmbeddedValkey, tmp_path: Path
) -> None:
    async with by_night(database, valkey, tmp_path) as (door, night):
        requests = await night.requests()
        assert requests.keys() == {route.name for route in ROUTES}
        async with no_lock_on_core(database.superuser_dsn):
            for asked in itertools.chain.from_iterable(requests.values()):
                answer = await ask(door, asked)
                assert answer.status == asked.status, (asked, answer.content)
                assert asked.code is None or answer.code == asked.code, (asked, answer.content)
            for asked in itertools.chain.from_iterable(requests.values()):
                # Under another key: much of it is refused now, at once too.
                assert (await ask(door, asked)).status < 500
        shown = await door.balance(night.account)
        assert (shown["mode"], str(shown["epoch"])) == ("night", "2")


async def test_a_process_that_starts_by_night_decides_by_night_at_once(
    database: Database, valkey: EmbeddedValkey, tmp_path: Path
) -> None:
    """Neither the API nor the migrations before it look at the core."""
    async with by_night(database, valkey, tmp_path) as (door, night):
        async with no_lock_on_core(database.superuser_dsn), asyncio.timeout(30):
            assert await migrate(database.owner_dsn, buckets=1) == []
            with ApiProcess(database.servers(valkey.url), tmp_path) as api:
                async with http_client() as http:
                    caller = Caller(http, api.base_url, door.keys["root"])
                    body = {"debit_account": night.account, "credit_account": CASH}
                    body |= {"amount": "1.00", "currency": "CZK", "packet": "new"}
                    began = time.monotonic()
                    answer = await caller.post("/v1/postings", body)
                    assert time.monotonic() - began < ANSWER_S
                    assert (answer.status, answer.body["epoch"]) == (201, 2)


async def test_everything_starts_by_night(
    database: Database, valkey: EmbeddedValkey, home: Path
) -> None:
    """`ni up`, which by day looks whether the core has its demo bank."""
    owner = await asyncpg.connect(database.owner_dsn)
    try:
        bank = Bank(owner)
        await bank.open_ledger(date(2031, 3, 3), date(2031, 3, 4))
        await bank.open_accounts([CoreAccount("NIGHT-1", balance=5_00)])
        await owner.execute("update ni.mode set mode = 'night', epoch = 2")
    finally:
        await owner.close()
    addresses = {
        "NI_OWNER_DATABASE_URL": database.owner_dsn,
        "NI_DATABASE_URL": database.engine_dsn,
        "NI_CORE_DATABASE_URL": database.core_dsn,
        "NI_REDIS_URL": valkey.url,
    }
    async with core_held(database.owner_dsn):
        with running(home, "--demo", **addresses) as up:
            assert "It is night" in up.output
            shown = balance(up.wait_ready(), "NIGHT-1")
            assert (shown["mode"], shown["available"]) == ("night", "5.00")


@pytest.mark.parametrize(
    "text",
    [
        "create table core.more (one int);",
        "do $$ begin execute 'lock table cor' || 'e.account in access share mode'; end $$;",
    ],
    ids=["named", "hidden"],
)
async def test_a_migration_that_touches_the_core_waits_for_the_morning(
    database: Database, tmp_path: Path, text: str
) -> None:
    """Whether the core holds its tables at that moment or not; then nothing of it is applied."""
    for path in FOLDER.rglob("*.sql"):
        target = tmp_path / path.relative_to(FOLDER)
        target.parent.mkdir(exist_ok=True)
        target.write_bytes(path.read_bytes())
    number = len(list(FOLDER.glob("*.sql"))) + 1
    (tmp_path / f"{number:04}_more.sql").write_text(text)
    owner = await asyncpg.connect(database.owner_dsn)
    try:
        await owner.execute("update ni.mode set mode = 'night'")
        with pytest.raises(NiError, match="it is night"):
            await migrate(database.owner_dsn, buckets=1, folder=tmp_path)
        async with core_held(database.owner_dsn), asyncio.timeout(5):
            with pytest.raises(NiError, match="it is night"):
                await migrate(database.owner_dsn, buckets=1, folder=tmp_path)
        await owner.execute("update ni.mode set mode = 'day'")
        assert await migrate(database.owner_dsn, buckets=1, folder=tmp_path)
    finally:
        await owner.close()


async def test_a_function_that_names_the_core_can_be_renewed_by_night(
    database: Database, tmp_path: Path
) -> None:
    """PL/pgSQL is planned when it is called: a repair of NI need not wait for the morning."""
    for path in FOLDER.rglob("*.sql"):
        target = tmp_path / path.relative_to(FOLDER)
        target.parent.mkdir(exist_ok=True)
        target.write_bytes(path.read_bytes())
    changed = tmp_path / "functions/unload.sql"
    changed.write_text(changed.read_text() + "-- repaired\n")
    owner = await asyncpg.connect(database.owner_dsn)
    try:
        await owner.execute("update ni.mode set mode = 'night'")
        async with core_held(database.owner_dsn), asyncio.timeout(10):
            applied = await migrate(database.owner_dsn, buckets=1, folder=tmp_path)
        assert applied == ["functions/unload.sql"]
    finally:
        await owner.close()
