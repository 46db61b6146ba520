"""Faults of the database, the door and of forgetting: none uses up an event, none stops texts."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator
from typing import Any

import asyncpg
import pika
import pytest
from structlog.testing import capture_logs

from ni.processes import free_port
from ni.session import connected
from tests.engine.world import open_world
from tests.sms.gateway_server import GatewayServer, Reply, accept
from tests.sms.house import House, at_work
from tests.sms.scene import Scene, until
from tests.sms.sending import A, B, take_numbered
from tests.support.broker import VirtualHost
from tests.support.databases import Database
from workers import sms

pytestmark = pytest.mark.timeout(120)
BACKENDS = """
select array_agg(pid) from pg_stat_activity
 where application_name = 'ni sms' and datname = current_database()
"""


@pytest.fixture
async def house(
    database: Database, gateway: GatewayServer, amqp: VirtualHost, door: str
) -> AsyncIterator[House]:
    """A bank with a notifier that gives up a lock soon, and events that may be tried thrice."""
    limits: dict[str, Any] = {"event_attempts_max": 3, "transaction_timeout_ms": 400}
    async with open_world(database) as world:
        url = amqp.url if door == "rabbitmq" else ""
        yield House(world, gateway, url, sms_failures_max=1_000, **limits)


def waits(logs: list[Any], work: str) -> int:
    """How often the notifier has said that it waits."""
    return sum(one["event"] == "sms_waits" and one["work"] == work for one in logs)


@pytest.mark.parametrize("door", ["embedded", "rabbitmq"])
async def test_a_table_that_takes_no_writes_uses_up_no_event(
    house: House, database: Database, amqp: VirtualHost, door: str
) -> None:
    """As while an index is built: everything can be read, and every delivery fails."""
    async with connected(database.owner_dsn) as other, house.relaying(), house.notifying():
        accounts = await house.open(4)
        house.gateway.behaviour = lambda _: Reply(500)
        await house.move(accounts, [1])
        await until(lambda: waiting(house, 4))
        with capture_logs() as logs:
            async with other.transaction():
                await other.execute("lock table ni.sms_message in share mode")
                await house.move(accounts, range(2, 5))
                await until(lambda: waits(logs, "taking") >= 5, 40, "five rounds of taking")
                await until(lambda: waits(logs, "sending") >= 2, 40, "two rounds of sending")
        house.gateway.behaviour = accept
        await until(lambda: house.all_sent(16), 40)
    assert door == "embedded" or await asyncio.to_thread(put_aside, amqp) == []
    assert await house.world.owner.fetch("select from ni.event_dead") == []
    for account in accounts:
        assert house.told(account) == [1, 2, 3, 4]


def put_aside(amqp: VirtualHost) -> list[bytes]:
    """What is among the dead letters; it is taken."""
    with pika.BlockingConnection(pika.URLParameters(amqp.url)) as connection:
        channel = connection.channel()
        return list(iter(lambda: channel.basic_get("ni.dead", auto_ack=True)[2], None))


async def waiting(house: House, many: int) -> bool:
    return await house.statuses() == ["waiting"] * many


async def test_a_broker_that_is_away_leaves_the_sender_alone(
    scene: Scene, gateway: GatewayServer, superuser: asyncpg.Connection
) -> None:
    settings = scene.settings.model_copy(
        update={
            "sms_gateway_url": gateway.url,
            "amqp_url": f"amqp://ni:s3cret@127.0.0.1:{free_port()}/ni",
        }
    )
    await scene.subscribe(A, B)
    with capture_logs() as logs:
        async with at_work(sms.run, settings):
            await until(lambda: waits(logs, "taking") >= 1)
            before = await backends(superuser)
            await take_numbered(scene, A, 3)
            await until(lambda: waits(logs, "taking") >= 4)
            await take_numbered(scene, B, 3)
            await until(lambda: len(gateway.received) == 6)
            assert before <= await backends(superuser), "the sender's sessions were opened anew"
    told = [one["errors"] for one in logs if one["event"] == "sms_waits"]
    assert all(re.match("Unavailable: RabbitMQ cannot be reached", errors[0]) for errors in told)
    assert "s3cret" not in str(told)


@pytest.fixture
async def superuser(database: Database) -> AsyncIterator[asyncpg.Connection]:
    """Somebody who sees everybody's sessions."""
    async with connected(database.superuser_dsn) as connection:
        yield connection


async def backends(superuser: asyncpg.Connection) -> set[int]:
    """The notifier's sessions."""
    return set(await superuser.fetchval(BACKENDS))


async def test_forgetting_that_fails_ends_nothing_else(
    scene: Scene, gateway: GatewayServer, superuser: asyncpg.Connection
) -> None:
    settings = scene.settings.model_copy(update={"sms_gateway_url": gateway.url})
    await scene.owner.execute("revoke delete on ni.sms_inbox from ni_sms")
    await scene.subscribe(A)
    with capture_logs() as logs:
        async with at_work(sms.run, settings):
            await until(lambda: waits(logs, "forgetting") >= 1)
            before = await backends(superuser)
            await take_numbered(scene, A, 3)
            await until(lambda: len(gateway.received) == 3)
            await until(lambda: waits(logs, "forgetting") >= 3)
            assert before <= await backends(superuser), "the sender's sessions were opened anew"


async def test_a_fault_of_the_server_is_told_by_its_code(scene: Scene) -> None:
    """What PostgreSQL says may have a customer's text in it."""
    await scene.owner.execute("alter table ni.sms_message rename column late to later")
    with capture_logs() as logs:
        await scene.subscribe(A)
        taking = asyncio.create_task(take_numbered(scene, A, 1))
        await until(lambda: waits(logs, "taking") >= 1)
    taking.cancel()
    await asyncio.gather(taking, return_exceptions=True)
    told = next(one for one in logs if one["event"] == "sms_waits")
    assert told["errors"] == [f"UndefinedColumnError {asyncpg.UndefinedColumnError.sqlstate}"]
