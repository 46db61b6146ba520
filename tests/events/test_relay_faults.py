"""Faults of the relay's database: what its log says of them, and how long it pauses after them."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Final

import asyncpg
import pytest

from ni.database import close_pool, open_pool
from ni.embedded_queues import EmbeddedSink
from ni.errors import Unavailable
from ni.event_door import open_door
from ni.outbox import Outbox
from ni.relay_lease import Lease
from ni.settings import Settings
from tests.events.house import RelayProcess, Teller, until_empty
from tests.support.databases import Database
from workers.relay import BACKOFF_FIRST_S, Backoff, EmbeddedRelay

NO_DELIVERIES: Final = "alter table ni.event_delivery add check (queue <> 'ni.test')"
NO_LEASES: Final = "revoke execute on function pg_try_advisory_lock(bigint) from public"
FAULTS: Final = 7


async def test_a_fault_is_told_without_the_rows_in_it(
    database: Database, owner: asyncpg.Connection, teller: Teller, home: Path
) -> None:
    settings = Settings(database_url=database.engine_dsn)
    async with open_door(settings).consume("ni.test"):
        pass
    await owner.execute(NO_DELIVERIES)
    with RelayProcess(home, database.engine_dsn, "") as relay:
        await teller.tell(["A"])
        await relay.until_logged("relay_waits")
        assert "CheckViolationError 23514" in relay.log()
        assert "Failing row" not in relay.log()


async def test_a_lease_that_is_refused_is_told_by_its_code(database: Database) -> None:
    superuser = await asyncpg.connect(database.superuser_dsn)
    await superuser.execute(NO_LEASES)
    await superuser.close()
    lease = Lease(Settings(database_url=database.engine_dsn))
    with pytest.raises(Unavailable, match=r"InsufficientPrivilegeError 42501$"):
        await lease.take()
    assert not lease.is_valid


async def test_after_a_delivery_the_pauses_are_short_again(
    database: Database, owner: asyncpg.Connection, teller: Teller
) -> None:
    """Whichever door the relay fills."""
    settings = Settings(database_url=database.engine_dsn)
    backoff = Backoff(BACKOFF_FIRST_S, settings.relay_backoff_max_s)
    for _ in range(FAULTS):
        backoff.next()
    stop = asyncio.Event()
    async with open_door(settings).consume("ni.test"):
        pass
    pool = await open_pool(settings, "day", 1)
    try:
        outbox = Outbox(pool, settings, 1)
        relay = EmbeddedRelay(settings, stop, outbox, EmbeddedSink(pool, settings), backoff)
        work = asyncio.create_task(relay.work())
        await teller.tell(["A"])
        await until_empty(owner)
        stop.set()
        await work
    finally:
        await close_pool(pool)
    assert backoff.next() < 2 * BACKOFF_FIRST_S
