"""Events in: from the door into the table of messages, a batch at a time.

A delivery is acknowledged after the commit that keeps its message, so an event is told even when
this process dies anywhere; what comes twice is found by its id. While too many messages wait,
events stay in their queue.

A fault of the database is no fault of an event. What has been delivered by then is kept in hand
until the database answers again: given back it would count as tried once more, and after some
rounds be put aside.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Sequence
from contextlib import aclosing, suppress
from typing import TYPE_CHECKING, Final, TypeVar
from uuid import UUID
from zoneinfo import ZoneInfo

import structlog

from ni.deliveries import MAIN_QUEUE
from ni.errors import Unavailable
from ni.events import BadEvent, Event, parse
from ni.faults import told_faults
from ni.identifiers import parse_id
from ni.sms.room import Room
from ni.sms.store import DATABASE_FAULTS, EVENTS_FAULTS, NewMessage
from ni.sms.texts import TYPES, event_time, render_text

if TYPE_CHECKING:
    from ni.deliveries import Delivery, Door
    from ni.settings import Settings
    from ni.sms.store import Store, Subscriber

LOOK_S: Final = 1
"""Pause between two looks for room for more messages."""

FIRST_PAUSE_S: Final = 0.1
LONGEST_PAUSE_S: Final = 5.0
"""Pauses of a call that the database could not answer; they double."""

SEQUENCE_MAX: Final = 2**63 - 1
_ACCOUNT: Final = re.compile(r"[A-Z0-9-]{1,34}")

_Result = TypeVar("_Result")

log = structlog.get_logger()


class Inbox:
    """Takes events over. `taken` is set whenever there may be something new to send."""

    def __init__(
        self, store: Store, door: Door, settings: Settings, zone: ZoneInfo, taken: asyncio.Event
    ) -> None:
        self._store = store
        self._door = door
        self._settings = settings
        self._zone = zone
        self._taken = taken
        self._room = Room(store, settings)

    async def run(self) -> None:
        """Work until cancelled.

        Raises Unavailable when the door is lost, and what asyncpg raises while nothing is in hand.
        """
        batch_max, gather_s = self._settings.sms_batch, self._settings.sms_gather_ms / 1000
        enough = min(batch_max, self._settings.event_prefetch_max)
        while True:
            if await self._room.left() <= 0:
                await asyncio.sleep(LOOK_S)
                continue
            async with (
                self._door.consume(MAIN_QUEUE, TYPES, 2 * batch_max) as deliveries,
                aclosing(batches_of(deliveries, enough, gather_s)) as batches,
            ):
                async for batch in batches:
                    await self.take(batch)
                    if await _insist(self._room.left) <= 0:
                        # What was delivered and is not taken goes back to its queue.
                        log.warning("sms_full", waiting_max=self._settings.sms_waiting_max)
                        break

    async def take(self, batch: Sequence[Delivery]) -> None:
        """Keep the messages of a batch and acknowledge it; what is no event is put aside.

        Waits for a database that is away. Raises what the door raises: what is not acknowledged
        comes again.
        """
        known: list[tuple[Delivery, Event]] = []
        for delivery in batch:
            try:
                known.append((delivery, _checked(parse(delivery.event_body))))
            except BadEvent as error:
                await _put_aside(delivery, str(error))
        accounts = sorted({event.subject for _, event in known if event.subject})
        wanted = await _insist(lambda: self._store.subscribers(accounts))
        told: list[tuple[Delivery, NewMessage]] = []
        silent: list[Delivery] = []
        for delivery, event in known:
            try:
                message = self._message(event, wanted.get(event.subject or ""))
            except BadEvent as error:
                await _put_aside(delivery, str(error))
                continue
            if message is None:
                silent.append(delivery)
            else:
                told.append((delivery, message))
        await self._keep(told)
        for delivery in silent:
            await delivery.ack()

    def _message(self, event: Event, subscriber: Subscriber | None) -> NewMessage | None:
        """The message of an event, without a text when the customer shall not be told of it.

        None: nobody is ever told of this account.
        """
        if subscriber is None:
            return None
        at = event_time(event.time)
        wanted = event.type in subscriber.types and at >= subscriber.since
        text = render_text(event, subscriber.language, self._zone) if wanted else None
        in_turn, late = (text.in_turn, text.late) if text is not None else (None, None)
        return NewMessage(
            UUID(event.id), subscriber.account, event.data["sequence"], event.type, at,
            subscriber.phone, subscriber.language, in_turn, late,
        )  # fmt: skip

    async def _keep(self, told: Sequence[tuple[Delivery, NewMessage]]) -> None:
        if not told:
            return
        messages = [message for _, message in told]
        try:
            taken = await _insist(lambda: self._store.take(messages))
        except EVENTS_FAULTS as error:
            if len(told) > 1:  # one by one, so that only the culprit is put aside
                for one in told:
                    await self._keep([one])
                return
            await _put_aside(told[0][0], f"the database refuses it: {type(error).__name__}")
            return
        for delivery, _ in told:
            await delivery.ack()
        self._room.note_kept(taken.seen)
        repeated = len(told) - taken.seen - taken.too_old
        if repeated:
            log.info("sms_repeats_dropped", events=repeated)
        if taken.too_old:
            log.error("sms_too_old", events=taken.too_old)
        if taken.too_many:
            log.error("sms_too_many", texts=taken.too_many)
        self._taken.set()


async def _insist(call: Callable[[], Awaitable[_Result]]) -> _Result:
    """The result of a call of the database, which is made again until there is one.

    Raises what says that the event itself is at fault.
    """
    pause_s = FIRST_PAUSE_S
    while True:
        try:
            return await call()
        except EVENTS_FAULTS:
            raise
        except DATABASE_FAULTS as error:
            log.warning("sms_waits", work="taking", errors=told_faults(error))
        await asyncio.sleep(pause_s)
        pause_s = min(2 * pause_s, LONGEST_PAUSE_S)


def _checked(event: Event) -> Event:
    """The event, when what the tables and the texts need of it is sound. Raises BadEvent."""
    if parse_id(event.id) is None:
        raise BadEvent("the id is no UUID")
    account = event.subject
    if not account or _ACCOUNT.fullmatch(account) is None:
        raise BadEvent("the subject is no account")
    if event.data["account"] != account:
        raise BadEvent("the subject is not the account of the data")
    sequence = event.data["sequence"]
    if sequence is not None and (type(sequence) is not int or not 0 < sequence <= SEQUENCE_MAX):
        raise BadEvent("the sequence is no number of a change")
    return event


async def _put_aside(delivery: Delivery, reason: str) -> None:
    log.error("sms_bad_event", reason=reason[:200], attempt=delivery.attempt)
    await delivery.dead_letter(reason[:200])


async def batches_of(
    deliveries: AsyncIterator[Delivery], batch_max: int, gather_s: float
) -> AsyncGenerator[list[Delivery], None]:
    """What comes within `gather_s` of the first one, at most `batch_max`.

    What was tried before comes alone, so nothing is waited for.
    """
    queue: asyncio.Queue[Delivery] = asyncio.Queue(batch_max)
    in_hand: list[Delivery] = []
    batch: list[Delivery] = []

    async def read() -> None:
        async for delivery in deliveries:
            in_hand.append(delivery)
            await queue.put(delivery)
            in_hand.clear()

    reader = asyncio.create_task(read())
    try:
        while True:
            first = asyncio.create_task(queue.get())
            try:
                await asyncio.wait({first, reader}, return_when=asyncio.FIRST_COMPLETED)
                if not first.done():
                    await reader  # raises what the door raised
                    return
            finally:
                if not first.cancel():
                    batch.append(first.result())
            if batch[0].attempt == 1 and queue.qsize() + 1 < batch_max:
                await asyncio.sleep(gather_s)
            while len(batch) < batch_max and not queue.empty():
                batch.append(queue.get_nowait())
            given, batch = batch, []
            yield given
    finally:
        reader.cancel()
        await asyncio.gather(reader, return_exceptions=True)
        await _give_back(queue, [*batch, *in_hand])


async def _give_back(queue: asyncio.Queue[Delivery], rest: list[Delivery]) -> None:
    while not queue.empty():
        rest.append(queue.get_nowait())
    with suppress(Unavailable):  # a door that is lost gives back what it gave out by itself
        for delivery in rest:
            await delivery.retry(0)
