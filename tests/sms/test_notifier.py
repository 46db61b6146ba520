"""From a decision to a text at the gateway, behind both doors, also when the notifier is killed."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.engine.world import debit, decisions, hold, id_of, open_world, release
from tests.sms.gateway_server import GatewayServer, Received, Reply, accept
from tests.sms.house import House, NotifierProcess
from tests.sms.scene import until
from tests.support.databases import Database

ROUNDS = 5
DOORS = pytest.mark.parametrize("door", ["embedded", "rabbitmq"])


@pytest.fixture
async def house(
    database: Database, gateway: GatewayServer, door: str, request: pytest.FixtureRequest
) -> AsyncIterator[House]:
    """A bank with a notifier behind `door`."""
    url = request.getfixturevalue("amqp").url if door == "rabbitmq" else ""
    async with open_world(database, refused_events=True) as world:
        yield House(world, gateway, url, sms_failures_max=1_000)


@DOORS
@pytest.mark.parametrize("buckets", [1, 8])
async def test_every_movement_becomes_a_text(house: House, door: str, buckets: int) -> None:
    async with house.relaying(), house.notifying():
        accounts = await house.open(4)
        await house.move(accounts, range(1, 6))
        await until(lambda: house.all_sent(20))
    for account in accounts:
        assert house.told(account) == [1, 2, 3, 4, 5]
    text = "Account *2000: CZK 1.00 debited. Available: CZK 9,999,999.00."
    assert text in house.gateway.texts()


@DOORS
async def test_each_type_is_told(house: House, door: str) -> None:
    async with house.relaying(), house.notifying():
        [account] = await house.open(1)
        submit = house.world.engine.submit
        held = id_of(await submit(hold(account, 700_00)))
        await submit(release(held, "200.00"))
        assert decisions([await submit(debit(account, 10**10))]) == ["insufficient_funds"]
        await until(lambda: house.all_sent(3))
    assert house.gateway.texts() == [
        "Account *2000: CZK 700.00 held. Available: CZK 9,999,300.00.",
        "Account *2000: CZK 200.00 released from a hold. Available: CZK 9,999,500.00.",
        "Account *2000: a debit of CZK 100,000,000.00 was refused. Available: CZK 9,999,500.00.",
    ]


@DOORS
async def test_a_notifier_that_is_killed_loses_and_changes_nothing(
    house: House, door: str, home: Path
) -> None:
    """At any step: what the gateway sees is each event's id, one text for it, in order."""

    def whimsical(_: Received) -> Reply:
        return random.choice([Reply(), Reply(), Reply(500), Reply(cut=5), Reply(delay_s=0.4)])

    house.gateway.behaviour = whimsical
    accounts = await house.open(10)
    process = NotifierProcess(house.world.database, house.settings, home)
    async with house.relaying():
        for number in range(1, ROUNDS + 1):
            await house.move(accounts, [number])
            await process.live_and_die(house.gateway)
        house.gateway.behaviour = accept
        process.start()
        await until(lambda: house.all_sent(10 * ROUNDS), 60, f"{process.log()[-1500:]}")
        assert process.stop() == 0
    ids = {one.id for one in house.gateway.received}
    assert len(ids) == 10 * ROUNDS
    assert house.gateway.changed() == set()
    for account in accounts:
        assert house.told(account) == list(range(1, ROUNDS + 1))


@DOORS
async def test_a_gateway_that_comes_back_gets_everything(house: House, door: str) -> None:
    await house.gateway.stop()
    async with house.relaying(), house.notifying():
        accounts = await house.open(3)
        await house.move(accounts, range(1, 4))
        await until(lambda: all_waiting(house, 9))
        await house.gateway.start()
        await until(lambda: house.all_sent(9))
    for account in accounts:
        assert house.told(account) == [1, 2, 3]


async def all_waiting(house: House, many: int) -> bool:
    return await house.statuses() == ["waiting"] * many


@DOORS
async def test_events_wait_in_their_queue_while_too_many_texts_wait(
    house: House, door: str
) -> None:
    await house.gateway.stop()
    house.settings = house.settings.model_copy(update={"sms_waiting_max": 20, "sms_batch": 5})
    async with house.relaying(), house.notifying():
        accounts = await house.open(1)
        await house.move(accounts, range(1, 61))
        await until(lambda: at_least_waiting(house, 20))
        await asyncio.sleep(1.5)
        assert 20 <= len(await house.statuses()) < 20 + house.settings.sms_batch
        await house.gateway.start()
        await until(lambda: house.all_sent(60), 40)
    assert house.told(accounts[0]) == list(range(1, 61))


async def at_least_waiting(house: House, many: int) -> bool:
    return len(await house.statuses()) >= many


@DOORS
async def test_two_notifiers_share_the_work(house: House, door: str) -> None:
    async with house.relaying(), house.notifying(), house.notifying():
        accounts = await house.open(6)
        await house.move(accounts, range(1, 11))
        await until(lambda: house.all_sent(60))
    for account in accounts:
        assert house.told(account) == list(range(1, 11))
    assert len(house.gateway.received) == 60
