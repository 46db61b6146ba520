"""The worker around it: what it needs, what it survives, and how it ends."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import time
import traceback
from pathlib import Path
from typing import Any

import asyncpg
import pytest

from ni.amqp import Broker
from ni.errors import NiError
from ni.session import connected
from ni.settings import Settings
from ni.up import Up
from tests.engine.world import open_world
from tests.sms.gateway_server import GatewayServer, Reply
from tests.sms.house import House
from tests.sms.scene import until
from tests.support.databases import Database
from workers import sms

_ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize(
    ("settings", "complaint"),
    [
        ({}, "NI_SMS_DATABASE_URL"),
        ({"sms_database_url": "x", "sms_gateway_url": "nowhere"}, "NI_SMS_GATEWAY_URL"),
        ({"sms_database_url": "x", "day_timezone": "Mars/Olympus"}, "NI_DAY_TIMEZONE"),
    ],
    ids=["address", "gateway", "zone"],
)
async def test_what_is_wrong_ends_it_at_once(settings: dict[str, Any], complaint: str) -> None:
    with pytest.raises(NiError, match=complaint):
        await sms.run(Settings(**settings), asyncio.Event())


def test_the_process_says_what_it_lacks(home: Path) -> None:
    environment = {n: v for n, v in os.environ.items() if not n.startswith("NI_")}
    done = subprocess.run(
        [sys.executable, "-m", "workers", "sms"],
        cwd=_ROOT, env=environment | {"NI_HOME": str(home)}, capture_output=True, timeout=60,
        check=False, text=True,
    )  # fmt: skip
    assert done.returncode == 1
    assert done.stderr.startswith("ni: the notifier has a role of its own")


@pytest.mark.parametrize(
    "url",
    ["amqp://ni:Xy3/abc@rabbit/ni", "amqp://ni:Xy3@[rabbit/ni", "amqp://ni:Xy3@rabbit:Xy3/ni",
     "Xy3://ni:Xy3@rabbit/ni"],
)  # fmt: skip
async def test_an_address_that_is_none_is_not_told(url: str) -> None:
    """A password that was not written as an address has it looks like a port."""
    with pytest.raises(NiError, match="NI_AMQP_URL") as caught:
        await Broker.open(Settings(amqp_url=url), "ni test")
    assert "Xy3" not in "".join(traceback.format_exception(caught.value))


async def test_it_survives_the_loss_of_its_sessions(
    database: Database, gateway: GatewayServer
) -> None:
    async with open_world(database) as world, connected(database.superuser_dsn) as superuser:
        house = House(world, gateway, "")
        accounts = await house.open(5)
        async with house.relaying(), house.notifying():
            for number in range(1, 7):
                await house.move(accounts, [number])
                await end_sessions(superuser)
                await asyncio.sleep(0.1)
            await until(lambda: house.all_sent(30), 60)
    for account in accounts:
        assert house.told(account) == [1, 2, 3, 4, 5, 6]
    assert gateway.changed() == set()


async def end_sessions(superuser: asyncpg.Connection) -> None:
    """As a restart of the database does to the notifier."""
    await superuser.execute(
        "select pg_terminate_backend(pid) from pg_stat_activity"
        " where usename = 'ni_sms' and datname = current_database()"
    )


async def test_it_ends_in_the_time_of_a_try(database: Database, gateway: GatewayServer) -> None:
    gateway.behaviour = lambda _: Reply(delay_s=30)
    async with open_world(database) as world:
        house = House(world, gateway, "")
        accounts = await house.open(3)
        async with house.relaying():
            async with house.notifying():
                await house.move(accounts, [1])
                await until(lambda: len(gateway.received) == 3)
                began = time.monotonic()
            assert time.monotonic() - began < 5
        # What the gateway had in its hands is noted as a failure, and tried again by the next one.
        gateway.behaviour = lambda _: Reply()
        async with house.relaying(), house.notifying():
            await until(lambda: house.all_sent(3))
    assert gateway.changed() == set()


@pytest.mark.parametrize("address", ["", "postgresql://ni_sms:word@127.0.0.1:1/bank"])
def test_ni_up_starts_it_where_its_address_is_known(address: str) -> None:
    assert ("sms" in Up(Settings(sms_database_url=address), tell=print).workers()) is bool(address)
