"""A database with events, and RabbitMQ with a queue that takes them."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import asyncpg
import pytest

from ni.session import connected
from tests.events.house import RelayProcess, Taker, Teller
from tests.support.broker import VirtualHost
from tests.support.databases import Database


@pytest.fixture
async def owner(database: Database) -> AsyncIterator[asyncpg.Connection]:
    """A session of the owner on a fresh database."""
    async with connected(database.owner_dsn) as session:
        yield session


@pytest.fixture
def teller(owner: asyncpg.Connection, buckets: int) -> Teller:
    """Writes events into the outbox."""
    return Teller(owner, buckets)


@pytest.fixture
def taker(amqp: VirtualHost) -> Iterator[Taker]:
    """A queue that takes every event."""
    with Taker(amqp.url) as made:
        yield made


@pytest.fixture
def new_relay(
    database: Database, amqp: VirtualHost, home: Path
) -> Iterator[Callable[..., RelayProcess]]:
    """Makes relays, not started yet; they are stopped afterwards."""
    with ExitStack() as stack:

        def make(**settings: str) -> RelayProcess:
            relay = RelayProcess(home, database.engine_dsn, amqp.url, **settings)
            stack.callback(relay.stop)
            return relay

        yield make
