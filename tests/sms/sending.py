"""A sender at work, for the tests of what it sends and in which order."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final

from ni.sms.gateway import open_gateway
from ni.sms.sender import Sender
from tests.sms.gateway_server import GatewayServer
from tests.sms.scene import Scene, make_event

A: Final = "CZ0000002378"
B: Final = "CZ0000003006"
C: Final = "CZ0000004114"


@asynccontextmanager
async def sending(
    scene: Scene, gateway: GatewayServer | None, buckets: int = 1
) -> AsyncIterator[Sender]:
    """A sender at work while the block lasts."""
    url = gateway.url if gateway else ""
    settings = scene.settings.model_copy(update={"sms_gateway_url": url})
    stop = asyncio.Event()
    async with open_gateway(settings) as http:
        sender = Sender(scene.store, http, settings, buckets, scene.wake)
        task = asyncio.create_task(sender.run(stop))
        try:
            yield sender
        finally:
            stop.set()
            scene.wake.set()
            with contextlib.suppress(asyncio.CancelledError):
                await task


def amounts(gateway: GatewayServer, mark: str) -> list[str]:
    """The amounts of an account's texts, in the order of their first arrival."""
    return [text.split("CZK ")[1].split()[0] for text in gateway.texts(mark)]


async def take_numbered(scene: Scene, account: str, many: int, buckets: int = 1) -> None:
    """Events 1 to `many` of an account; the amount says the number."""
    await scene.take(
        *(make_event(account, n, amount=f"{n}.00", buckets=buckets) for n in range(1, many + 1))
    )


async def all_done(scene: Scene) -> bool:
    return "waiting" not in (await scene.statuses()).values()
