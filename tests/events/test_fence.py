"""What keeps two relays from publishing at one time: the lease, and the broker's own word."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

import asyncpg
import pytest

from ni.amqp import FENCE, Broker
from ni.errors import Unavailable
from ni.relay_lease import Lease
from ni.settings import Settings
from tests.events.house import (
    WAITING,
    RelayProcess,
    Taker,
    Teller,
    assert_complete,
    until,
    until_empty,
)
from tests.support.broker import VirtualHost
from tests.support.databases import Database


async def test_no_relay_publishes_while_the_connection_of_another_lives(
    amqp: VirtualHost, owner: asyncpg.Connection, teller: Teller, taker: Taker,
    new_relay: Callable[..., RelayProcess],
) -> None:  # fmt: skip
    other = await Broker.open(Settings(amqp_url=amqp.url), "another relay")
    door = await other.channel()
    await door.answer(door.channel.queue_declare, queue=FENCE, exclusive=True)
    await teller.tell(["A"] * 5)
    relay = new_relay().start()
    await relay.until_logged("relay_waits_for_the_other_connection")
    await asyncio.sleep(1)
    assert await owner.fetchval(WAITING) == 5
    assert taker.take() == 0
    await other.close()
    await until_empty(owner)
    taker.take_all(5)
    assert assert_complete(taker.bodies, teller) == 0


async def test_a_relay_that_waits_for_the_fence_says_so_and_can_be_stopped(
    amqp: VirtualHost, new_relay: Callable[..., RelayProcess]
) -> None:
    """The connection of a dead relay is gone after three heartbeats; who waits longer says so."""
    other = await Broker.open(Settings(amqp_url=amqp.url), "another relay")
    door = await other.channel()
    await door.answer(door.channel.queue_declare, queue=FENCE, exclusive=True)
    relay = new_relay(amqp_heartbeat_s="1", relay_backoff_max_s="1").start()
    await relay.until_logged("relay_waits_for_the_other_connection")
    began = time.monotonic()
    assert "relay_kept_from_publishing" not in relay.log()
    await until(lambda: relay.log().count("relay_kept_from_publishing") >= 2, relay.log)
    assert time.monotonic() - began > 3
    assert relay.process is not None
    relay.process.terminate()
    assert await asyncio.to_thread(relay.process.wait, 8) == 0, relay.log()
    await other.close()


async def test_a_lease_is_one_relays_and_ends_when_it_falls_silent(database: Database) -> None:
    settings = Settings(database_url=database.engine_dsn, relay_lease_ms=500)
    first, second = Lease(settings), Lease(settings)
    try:
        assert await first.take()
        for _ in range(8):
            await asyncio.sleep(first.interval_s)
            await first.keep()
            assert not await second.take()
        async with asyncio.timeout(5):
            while not await second.take():
                await asyncio.sleep(second.interval_s)
        assert not first.is_valid
        with pytest.raises(Unavailable):
            await first.keep()
    finally:
        await first.give_back()
        await second.give_back()


async def test_a_lease_that_is_given_back_is_had_at_once(database: Database) -> None:
    settings = Settings(database_url=database.engine_dsn)
    first, second = Lease(settings), Lease(settings)
    assert await first.take()
    assert not await second.take()
    await first.give_back()
    assert await second.take()
    await second.give_back()
    assert not second.is_valid


async def test_a_lease_of_a_lost_session_is_lost(database: Database) -> None:
    lease = Lease(Settings(database_url=database.engine_dsn))
    assert await lease.take()
    owner = await asyncpg.connect(database.superuser_dsn)
    await owner.execute(
        "select pg_terminate_backend(pid) from pg_stat_activity"
        " where application_name = 'ni relay lease' and datname = current_database()"
    )
    await owner.close()
    await asyncio.sleep(0.2)
    with pytest.raises(Unavailable):
        await lease.keep()
    assert not lease.is_valid
    await lease.give_back()
