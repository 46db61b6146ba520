"""A core that ends its day although it is day for NI: NI closes beside it and goes on deciding."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from ni.core_ledger import core_session, set_business_date
from ni.session import connected
from tests.end_of_day.conftest import MONDAY
from tests.end_of_day.process import begin, held, until_held
from tests.ledger.scene import Scene, open_scene
from tests.support.api_process import Servers
from tests.support.bank import Bank, CoreAccount
from tests.support.caller import Caller, http_client
from tests.support.databases import Database

HOLD_SECONDS = 5
CLOSED_WITHIN_SECONDS = 2.0


@pytest.fixture
def scene(servers: Servers, tmp_path: Path) -> Iterator[Scene]:
    """An API on a core with two accounts."""

    async def fill() -> None:
        async with connected(servers.owner_dsn) as owner:
            accounts = [CoreAccount("A", balance=10_000), CoreAccount("INT-CASH", "internal")]
            await Bank(owner).open_accounts(accounts)
        async with core_session(servers.core_dsn) as core:
            await set_business_date(core, MONDAY)

    asyncio.run(fill())
    with open_scene(servers, tmp_path) as made:
        yield made


@pytest.mark.parametrize("buckets", [1, 8])
def test_the_close_gets_through_and_nothing_is_lost(
    scene: Scene, database: Database, tmp_path: Path
) -> None:
    with begin(
        database, tmp_path, "--force", "--fee", "1.00", "--hold", str(HOLD_SECONDS)
    ) as process:
        asyncio.run(_night(scene))
        output, errors = process.communicate(timeout=HOLD_SECONDS + 10)
    assert (process.returncode, errors) == (0, "")
    assert "1993-01-04 has ended, the business date is 1993-01-05" in output
    asyncio.run(_morning(scene))
    assert scene.bank_facts()[1] == []


async def _night(scene: Scene) -> None:
    """The tables are held: close, then a debit by night, all while they still are."""
    async with connected(scene.servers.owner_dsn) as owner, http_client() as http:
        operator, payments = (
            Caller(http, scene.api.base_url, scene.keys[name]) for name in ("operator", "payments")
        )
        await until_held(owner)
        began = time.monotonic()
        closed = await operator.post("/v1/business-day/close", {})
        took = time.monotonic() - began
        assert (closed.status, closed.body["mode"]) == (200, "night"), closed.content
        assert took < CLOSED_WITHIN_SECONDS
        answer = await payments.post("/v1/postings", _debit("30.00"))
        assert answer.status == 201, answer.content
        assert answer.body["debit"]["available_after"] == "70.00"
        assert (await operator.post("/v1/business-day/open", {})).code == "core_still_closed"
        assert await held(owner), "all that happened while the core held its tables"


async def _morning(scene: Scene) -> None:
    """The fee counts once, and so does the debit."""
    async with http_client() as http:
        operator, payments = (
            Caller(http, scene.api.base_url, scene.keys[name]) for name in ("operator", "payments")
        )
        opened = await operator.post("/v1/business-day/open", {})
        assert (opened.status, opened.body["mode"]) == (200, "day"), opened.content
        balance = (await payments.get("/v1/accounts/A/balance")).body
        assert (balance["available"], balance["booked"]) == ("69.00", "99.00")
        refused = await payments.post("/v1/postings", _debit("69.01"))
        assert refused.body["available"] == "69.00"
        unloaded = await payments.post("/v1/packets/night/unload", {})
        assert unloaded.body["booked"] == 1
        balance = (await payments.get("/v1/accounts/A/balance")).body
        assert (balance["available"], balance["booked"]) == ("69.00", "69.00")


def _debit(amount: str) -> dict[str, str]:
    return {
        "debit_account": "A",
        "credit_account": "INT-CASH",
        "amount": amount,
        "currency": "CZK",
        "packet": "night",
    }
