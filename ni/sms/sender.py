"""Messages out: the next one of each account whose turn it is, several accounts at a time.

A message is leased, sent, and what became of it is noted. A sender that dies leaves its leases to
run out; the message is then sent again with the same id and the same text. An account whose message
fails pauses alone; all pause when the gateway asks for it, or fails for everybody.
"""

from __future__ import annotations

import asyncio
import random
from typing import TYPE_CHECKING, Final

import structlog

from ni import clock
from ni.sms.gateway import Outcome
from ni.sms.health import Health
from ni.sms.masks import mask_account, mask_phone
from ni.sms.settler import Settler
from ni.sms.store import Settled

if TYPE_CHECKING:
    from ni.settings import Settings
    from ni.sms.gateway import Gateway, Message
    from ni.sms.store import Store

DOUBLINGS_MAX: Final = 20

log = structlog.get_logger()


class Sender:
    """Sends what waits. `wake` ends a pause between two looks."""

    def __init__(
        self, store: Store, gateway: Gateway, settings: Settings, buckets: int, wake: asyncio.Event
    ) -> None:
        self._store = store
        self._settler = Settler(store)
        self._gateway = gateway
        self._settings = settings
        self._buckets = buckets
        self._wake = wake
        self._health = Health(settings.sms_pause_ms, settings.sms_pause_max_s)
        self._under_way: set[asyncio.Task[None]] = set()

    async def run(self, stop: asyncio.Event) -> None:
        """Work until `stop` is set; what is under way then is brought to its end.

        Raises what asyncpg raises.
        """
        try:
            while not stop.is_set():
                self._wake.clear()
                began = await self.begin()
                if began == 0 or self._room() == 0:
                    await self._rest(stop)
                self._raise_failures()
        finally:
            await asyncio.gather(*self._under_way, return_exceptions=True)
        self._raise_failures()

    async def begin(self) -> int:
        """Lease what there is room for, and begin to send it; how many messages that were.

        Raises what asyncpg raises.
        """
        began = 0
        for bucket in random.sample(range(self._buckets), self._buckets):
            if (room := self._room()) == 0:
                break
            for message in await self._store.lease(bucket, room):
                self._under_way.add(asyncio.create_task(self._try(message)))
                began += 1
        return began

    async def _try(self, message: Message) -> None:
        failures_max = self._settings.sms_failures_max
        if message.failures > failures_max:
            outcome = Outcome("dead", "failures")
        else:
            outcome = await self._gateway.send(message)
            self._note(message, outcome)
            if outcome.status == "retry" and outcome.counts and message.failures == failures_max:
                outcome = Outcome("dead", f"failures {outcome.reason}")
        pause_ms = max(self._pause_ms(message.tries), outcome.pause_all_s * 1000)
        still_ours = await self._settler.settle(Settled(message, outcome, pause_ms))
        _tell(message, outcome, still_ours=still_ours)

    def _note(self, message: Message, outcome: Outcome) -> None:
        now = clock.monotonic()
        if outcome.status == "retry":
            self._health.note_failed(message.account, now)
        else:
            self._health.note_passed()
        if outcome.pause_all_s:
            self._health.pause(outcome.pause_all_s, now)

    def _pause_ms(self, tries: int) -> int:
        """Twice as long each time, up to the longest pause; spread over its second half."""
        longest_ms = self._settings.sms_pause_max_s * 1000
        pause_ms = self._settings.sms_pause_ms << min(tries - 1, DOUBLINGS_MAX)
        pause_ms = min(pause_ms, longest_ms)
        return random.randint(pause_ms // 2, pause_ms)

    def _room(self) -> int:
        under_way = sum(not task.done() for task in self._under_way)
        free = self._settings.sms_connections - under_way
        return self._health.room(free, under_way, clock.monotonic())

    def _raise_failures(self) -> None:
        done = {task for task in self._under_way if task.done()}
        self._under_way -= done
        errors = [error for task in done if (error := task.exception()) is not None]
        if errors:
            raise errors[0]

    async def _rest(self, stop: asyncio.Event) -> None:
        """Until something is taken in or ends, or it is time for the next look."""
        waits = {asyncio.create_task(self._wake.wait()), asyncio.create_task(stop.wait())}
        try:
            await asyncio.wait(
                waits | self._under_way,
                timeout=self._settings.sms_interval_ms / 1000,
                return_when=asyncio.FIRST_COMPLETED,
            )
        finally:
            for wait in waits:
                wait.cancel()


def _tell(message: Message, outcome: Outcome, *, still_ours: bool) -> None:
    about = {
        "event_id": str(message.event_id),
        "account": mask_account(message.account),
        "phone": mask_phone(message.phone),
        "tries": message.tries,
        "reason": outcome.reason,
    }
    if not still_ours:
        log.warning("sms_lease_lost", status=outcome.status, **about)
    elif outcome.status == "dead":
        log.error("sms_dead", **about)
    elif outcome.status == "retry":
        log.warning("sms_not_sent", pause_all_s=outcome.pause_all_s, **about)
    else:
        log.debug("sms_sent", **about)
