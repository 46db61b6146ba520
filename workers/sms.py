"""The SMS notifier: takes events in and sends texts out, each at its own pace.

Taking, sending and forgetting go on beside each other, and a fault of one leaves the others alone.
Two notifiers at once do no harm: an event is kept once, and an account's messages are leased one at
a time.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Final

import structlog

from ni.database import close_pool
from ni.errors import NiError
from ni.event_door import open_door
from ni.faults import told_faults
from ni.schedule import zone_of
from ni.sms.forgetter import Forgetter
from ni.sms.gateway import check_gateway, open_gateway
from ni.sms.inbox import Inbox
from ni.sms.sender import Sender
from ni.sms.store import DATABASE_FAULTS, Store, open_sms_pool
from workers.pauses import pause

if TYPE_CHECKING:
    from ni.settings import Settings

PAUSE_S: Final = 1
FAULTS: Final = (*DATABASE_FAULTS, NiError)

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
        except* FAULTS as errors:
            log.warning("sms_waits", work="starting", errors=told_faults(errors))
        await pause(stop, PAUSE_S)


async def _work(settings: Settings, stop: asyncio.Event) -> None:
    pool = await open_sms_pool(settings)
    try:
        store = Store(pool, settings)
        buckets = await store.buckets()
        # The notifier's own role at the events' door, too.
        door = open_door(settings.model_copy(update={"database_url": settings.sms_database_url}))
        wake = asyncio.Event()
        inbox = Inbox(store, door, settings, zone_of(settings), wake)
        forgetter = Forgetter(store, settings)
        async with open_gateway(settings) as gateway, asyncio.TaskGroup() as tasks:
            sender = Sender(store, gateway, settings, buckets, wake)
            beside = [
                tasks.create_task(_again("taking", inbox.run, stop)),
                tasks.create_task(_forget(forgetter, settings, stop)),
            ]
            await tasks.create_task(_again("sending", lambda: sender.run(stop), stop))
            for task in beside:
                task.cancel()
    finally:
        await close_pool(pool)


async def _again(work: str, call: Callable[[], Awaitable[object]], stop: asyncio.Event) -> None:
    """Do it, after each fault anew, until it ends by itself or `stop` is set."""
    while not stop.is_set():
        try:
            await call()
        except FAULTS as error:
            log.warning("sms_waits", work=work, errors=told_faults(error))
            await pause(stop, PAUSE_S)
        else:
            return


async def _forget(forgetter: Forgetter, settings: Settings, stop: asyncio.Event) -> None:
    """Forget what is old, a round at a time."""
    while not stop.is_set():
        await _again("forgetting", forgetter.round, stop)
        await pause(stop, settings.sms_prune_interval_s)
