"""The whole way of an event: engine, relay, notifier and gateway, behind either door."""

from __future__ import annotations

import asyncio
import os
import random
import subprocess
import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Final

from ni.settings import Settings
from ni.sms.subscriptions import subscribe
from tests.engine.world import World, debit, made
from tests.sms.gateway_server import GatewayServer
from tests.sms.scene import PHONE, sms_settings, until
from tests.support.bank import CoreAccount
from tests.support.databases import Database
from workers import relay, sms

_ROOT: Final = Path(__file__).parents[2]


class House:
    """One bank with its notifier; `amqp_url` empty: the embedded door."""

    def __init__(self, world: World, gateway: GatewayServer, amqp_url: str, **more: Any) -> None:
        self.world = world
        self.gateway = gateway
        known = {
            "amqp_url": amqp_url,
            "sms_gateway_url": gateway.url,
            "event_poll_ms": 10,
            "event_lease_s": 1,
        } | more
        self.settings = sms_settings(world.database, **known)

    async def open(self, many: int) -> list[str]:
        """Customers' accounts with texts wanted."""
        accounts = [f"CZ{number:010}" for number in range(2000, 2000 + many)]
        await self.world.bank.open_accounts(CoreAccount(a, balance=10**9) for a in accounts)
        await self.subscribe(accounts)
        return accounts

    async def subscribe(self, accounts: Sequence[str], language: str = "en") -> None:
        """Want texts about accounts from now on."""
        for account in accounts:
            await subscribe(self.world.owner, account, PHONE, language)

    async def move(self, accounts: Sequence[str], numbers: Sequence[int]) -> None:
        """A debit of each account for each number, in order; the amount is the number."""
        for number in numbers:
            for account in accounts:
                made(await self.world.engine.submit(debit(account, number * 100)))

    async def statuses(self) -> list[str]:
        """What has become of each message."""
        rows = await self.world.owner.fetch("select status from ni.sms_message")
        return [row["status"] for row in rows]

    async def all_sent(self, many: int) -> bool:
        """Whether `many` messages are there and sent."""
        return await self.statuses() == ["sent"] * many

    def told(self, account: str) -> list[int]:
        """The numbers of an account's texts, in the order of their first arrival."""
        texts = self.gateway.texts(f"*{account[-4:]}:")
        return [int(text.split("CZK ")[1].split(".")[0]) for text in texts]

    @asynccontextmanager
    async def relaying(self) -> AsyncIterator[None]:
        """The relay at work while the block lasts."""
        settings = self.settings.model_copy(update={"database_url": self.world.database.engine_dsn})
        async with at_work(relay.run, settings):
            yield

    @asynccontextmanager
    async def notifying(self) -> AsyncIterator[None]:
        """The notifier at work while the block lasts."""
        async with at_work(sms.run, self.settings):
            yield


@asynccontextmanager
async def at_work(run: Any, settings: Settings) -> AsyncIterator[None]:
    """A worker in this process, ended the polite way."""
    stop = asyncio.Event()
    task = asyncio.create_task(run(settings, stop))
    try:
        yield
    finally:
        stop.set()
        async with asyncio.timeout(15):
            await task


class NotifierProcess:
    """`python -m workers sms`, started and killed again and again."""

    def __init__(self, database: Database, settings: Settings, folder: Path) -> None:
        self._log = folder / "sms.log"
        # Nothing but its own role's address is known to it.
        self._environment = os.environ | {
            "NI_HOME": str(folder),
            "NI_SMS_DATABASE_URL": database.sms_dsn,
            "NI_SMS_GATEWAY_URL": settings.sms_gateway_url,
            "NI_AMQP_URL": settings.amqp_url,
            "NI_SMS_PAUSE_MS": "5",
            "NI_SMS_PAUSE_MAX_S": "1",
            "NI_SMS_TIMEOUT_MS": "300",
            "NI_SMS_FAILURES_MAX": "1000",
            "NI_SMS_LEASE_S": "1",
            "NI_EVENT_LEASE_S": "1",
            "NI_EVENT_ATTEMPTS_MAX": "1000",
            "NI_DELIVERY_NICE": "0",  # other tests beside it decide
        }
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "workers", "sms"],
                cwd=_ROOT, env=self._environment, stdin=subprocess.DEVNULL, stdout=log, stderr=log,
            )  # fmt: skip

    def kill(self) -> None:
        """SIGKILL, and the process is reaped."""
        if self._process is not None:
            self._process.kill()
            self._process.wait(10)
            self._process = None

    def stop(self) -> int:
        """SIGTERM; its exit code."""
        assert self._process is not None
        self._process.terminate()
        code = self._process.wait(20)
        self._process = None
        return code

    def log(self) -> str:
        return self._log.read_text()

    async def live_and_die(self, gateway: GatewayServer) -> None:
        """Start it, and kill it somewhere in its work."""
        self.start()
        enough = len(gateway.received) + random.randint(1, 12)
        await until(lambda: len(gateway.received) >= enough, 30, "work")
        await asyncio.sleep(random.uniform(0, 0.02))
        self.kill()
