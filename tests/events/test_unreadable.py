"""Rows of the outbox of which no event can be made: a type or a currency that nobody knows."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final

import asyncpg
import pytest

from ni.deliveries import Delivery
from ni.event_door import open_door
from ni.events import parse
from ni.settings import Settings
from tests.events.house import (
    WAITING,
    RelayProcess,
    Taker,
    Teller,
    assert_complete,
    first_deliveries,
    until,
    until_empty,
)
from tests.support.broker import VirtualHost
from tests.support.databases import Database

ACCOUNTS: Final = ["A", "B", "C", "D"]
SPOIL: Final = {
    "type": "update ni.outbox set type = 'ni.no.such' where account = 'B' and sequence = 2",
    "currency": "update ni.outbox set currency = 'XQQ' where account = 'B' and sequence = 2",
}
MEND: Final = "update ni.outbox set type = 'ni.posting.created', currency = 'CZK'"
SPOILED: Final = "select event_id::text from ni.outbox where account = 'B' and sequence = 2"
LEFT: Final = "select account, sequence from ni.outbox order by event_id"
WHAT: Final = pytest.mark.parametrize("what", ["type", "currency"])


@WHAT
async def test_it_stays_and_nothing_else_is_taken_for_it(
    what: str, amqp: VirtualHost, database: Database, home: Path, owner: asyncpg.Connection,
    teller: Teller, taker: Taker,
) -> None:  # fmt: skip
    """What comes after it in the window is delivered, each event on its own confirm."""
    await teller.tell(ACCOUNTS * 3)
    await owner.execute(SPOIL[what])
    identifier = await owner.fetchval(SPOILED)
    with RelayProcess(home, database.engine_dsn, amqp.url, relay_scan_s="1") as relay:
        await until(lambda: taker.take() > -1 and len(taker.bodies) >= 10, relay.log)
        await relay.until_logged("relay_event_unreadable")
        assert identifier in relay.log()
        while await owner.fetchval(WAITING) > 2:
            assert taker.take() == 0
        assert [tuple(row) for row in await owner.fetch(LEFT)] == [("B", 2), ("B", 3)]
        assert first_deliveries(map(parse, taker.bodies)) == {
            name: [1] if name == "B" else [1, 2, 3] for name in ACCOUNTS
        }
        await owner.execute(MEND)
        await until_empty(owner)
    taker.take_all(teller.told)
    assert assert_complete(taker.bodies, teller) == 0


@WHAT
async def test_it_stays_in_front_of_the_embedded_queues_too(
    what: str, database: Database, home: Path, owner: asyncpg.Connection, teller: Teller
) -> None:
    settings = Settings(database_url=database.engine_dsn, event_poll_ms=10)
    async with _queue(settings) as deliveries:
        await teller.tell(ACCOUNTS * 3)
        await owner.execute(SPOIL[what])
        identifier = await owner.fetchval(SPOILED)
        bodies = []
        with RelayProcess(home, database.engine_dsn, "", relay_scan_s="1") as relay:
            for _ in range(10):
                bodies.append(await _done(deliveries))
            await relay.until_logged("relay_event_unreadable")
            assert identifier in relay.log()
            assert [tuple(row) for row in await owner.fetch(LEFT)] == [("B", 2), ("B", 3)]
            await owner.execute(MEND)
            for _ in range(2):
                bodies.append(await _done(deliveries))
        assert assert_complete(bodies, teller) == 0


@asynccontextmanager
async def _queue(settings: Settings) -> AsyncIterator[AsyncIterator[Delivery]]:
    async with open_door(settings).consume("ni.test") as deliveries:
        yield deliveries


async def _done(deliveries: AsyncIterator[Delivery]) -> bytes:
    delivery = await anext(deliveries)
    await delivery.ack()
    return delivery.event_body
