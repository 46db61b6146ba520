"""What a consumer of events is given, whatever stands behind its door.

A queue gets a copy of every event of its types, from the moment when somebody first consumes it.
A delivery belongs to its consumer until it is acknowledged, given back or put aside as dead; what
a consumer had when it died is delivered again. The same event may thus come twice, with the same
bytes.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import AbstractAsyncContextManager
from typing import Final, Protocol

ALL_TYPES: Final = ("ni.#",)
"""The pattern of every type."""

MAIN_QUEUE: Final = "ni.sms"
"""The queue of the SMS notifier."""


class Delivery(Protocol):
    """One event in the hands of a consumer, which must end it in one of three ways, once."""

    @property
    def event_body(self) -> bytes:
        """The event as it was published; `ni.events.parse` reads it."""

    @property
    def attempt(self) -> int:
        """1 for the first delivery. Past the limit (NI_EVENT_ATTEMPTS_MAX) the door itself puts
        the event aside."""

    async def ack(self) -> None:
        """It is done, and comes again only if this process or the door is lost before that has
        been noted, in a moment. Raises Unavailable when the door is lost already."""

    async def retry(self, after_s: float) -> None:
        """Let it come again, not before `after_s` seconds. Returns at once. Later events of the
        queue do not wait for it, unless it is among those that come one by one because they were
        in the hands of a consumer that ended. Raises Unavailable as `ack` does."""

    async def dead_letter(self, reason: str) -> None:
        """Put it aside for a person to look at. Raises Unavailable as `ack` does."""


class Door(Protocol):
    """Where consumers get events."""

    def consume(
        self,
        queue: str,
        types: Sequence[str] = ALL_TYPES,
        prefetch: int = 100,
        *,
        temporary: bool = False,
    ) -> AbstractAsyncContextManager[AsyncIterator[Delivery]]:
        """The events of `queue`, as they come, while the block lasts; it is made when missing.

        `types` are patterns as a topic exchange has them (`ni.posting.*`, `ni.#`). At most
        `prefetch` deliveries are in the consumer's hands at one time, and it may be only one until
        that is done, so it waits for no more before it does what it has. A `temporary` queue goes
        away with its consumer. The iteration raises Unavailable when the door is lost; the
        caller opens it anew after a pause.
        """
