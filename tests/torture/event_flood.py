"""Many events at one time, as from a salary run."""

from __future__ import annotations

import json
import random
from typing import TYPE_CHECKING, Final

import asyncpg

from tests.support.bank import Bank, CoreAccount
from tests.support.caller import fresh_key
from tests.torture.account_for import UnaccountedError
from tests.torture.load import CASH

if TYPE_CHECKING:
    from tests.torture.event_bench import EventBench

FLOOD: Final = "flood"
FLOOD_ACCOUNTS: Final = 1_000
CREATED: Final = "select count(*) from torture.told where type = 'ni.posting.created'"


def flood_account(number: int) -> str:
    """An account of the flood."""
    return f"FLOOD-{number:04}"


async def open_flood_accounts(events: EventBench, many: int = FLOOD_ACCOUNTS) -> None:
    """Accounts of which each batch moves every one once."""
    owner = await asyncpg.connect(events.servers.owner_dsn)
    try:
        accounts = [CoreAccount(flood_account(n), balance=10**9) for n in range(many)]
        await Bank(owner).open_accounts(accounts)
    finally:
        await owner.close()


async def flood(
    events: EventBench, batches: int, draw: random.Random, many: int = FLOOD_ACCOUNTS
) -> None:
    """Move each of `many` accounts, in each of the batches. Raises UnaccountedError."""
    before = await events.ask(CREATED)
    for _ in range(batches):
        items = [
            {"operation": "posting", "idempotency_key": fresh_key(), "currency": "CZK",
             "debit_account": flood_account(number), "credit_account": CASH,
             "amount": f"{draw.randrange(1, 9)}.00", "packet": FLOOD}
            for number in draw.sample(range(many), many)
        ]  # fmt: skip
        content = json.dumps({"mode": "independent", "items": items}).encode()
        answer = await events.bench.load.caller.send("/v1/batches", content, fresh_key())
        if answer.status != 200:
            raise UnaccountedError(f"a batch was answered {answer.status} {answer.content[:300]!r}")
    if await events.ask(CREATED) < before + batches * many:
        raise UnaccountedError("a batch made too few events")
