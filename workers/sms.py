"""The SMS notifier: takes events in and sends texts out, each at its own pace.

Two of them at once do no harm: an event is kept once, and an account's messages are leased one at
a time.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final

import asyncpg
import structlog

from ni.database import LOST_CONNECTION, close_pool
from ni.errors import NiError
from ni.event_door import open_door
from ni.schedule import zone_of
from ni.sms.gateway import check_gateway, open_gateway
from ni.sms.inbox import Inbox
from ni.sms.sender import Sender
from ni.sms.store import Store, open_sms_pool
from workers.pauses import pause

if TYPE_CHECKING:
    from ni.settings import Settings

PAUSE_S: Final = 1
STEPS_MAX: Final = 1_000
"""Steps of forgetting in one round."""

log = structlog.get_logger()


async def run(settings: Settings, stop: asyncio.Event) -> None:
    """Work until `stop` is set; what the database or the door refuses is tried again after a pause.

    Raises NiError when a setting is missing or wrong.
    """
    if not settings.sms_database_url:
        raise NiError("the notifier has a role of its own: set NI_SMS_DATABASE_URL")
    check_gateway(settings)
    zone_of(settings)
    while not stop.is_set():
        try:
            await _work(settings, stop)
        except* (*LOST_CONNECTION, asyncpg.PostgresError, NiError) as errors:
            reasons = sorted({type(error).__name__ for error in _leaves(errors)})
            log.warning("sms_waits", errors=reasons)
        await pause(stop, PAUSE_S)


def _leaves(error: BaseException) -> list[BaseException]:
    if isinstance(error, BaseExceptionGroup):
        return [leaf for part in error.exceptions for leaf in _leaves(part)]
    return [error]


async def _work(settings: Settings, stop: asyncio.Event) -> None:
    pool = await open_sms_pool(settings)
    try:
        store = Store(pool, settings)
        # The notifier's own role at the events' door, too.
        door = open_door(settings.model_copy(update={"database_url": settings.sms_database_url}))
        wake = asyncio.Event()
        inbox = Inbox(store, door, settings, zone_of(settings), wake)
        async with open_gateway(settings) as gateway, asyncio.TaskGroup() as tasks:
            sender = Sender(store, gateway, settings, await store.buckets(), wake)
            taking = tasks.create_task(inbox.run())
            forgetting = tasks.create_task(_forget(store, settings, stop))
            await tasks.create_task(sender.run(stop))
            taking.cancel()
            forgetting.cancel()
    finally:
        await close_pool(pool)


async def _forget(store: Store, settings: Settings, stop: asyncio.Event) -> None:
    """Forget what is old, in small steps, a round at a time."""
    while not stop.is_set():
        for _ in range(STEPS_MAX):
            if settings.sms_prune_step not in await store.prune():
                break
        await pause(stop, settings.sms_prune_interval_s)
