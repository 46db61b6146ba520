"""Publishes outbox rows to RabbitMQ: many at one time, of each account one.

A row is delivered when the broker has confirmed it and has not returned it. While one event of an
account waits for that, the account's later ones wait behind it: whatever comes back, none of them
has gone before. What comes back (no queue takes it, or the broker refuses it) is stuck: it stays in
the outbox, its account's later events with it, and everything is tried again later. So is what
cannot be made into an event. Of a type of which everything comes back hardly any is tried until
then, so that it takes no room from the others, however much of it there is.

What waits behind its account's event is kept in memory, and no account may fill that: each has as
much as is left free. With more it is parked: the rest stays in the outbox until what it has is
gone.
"""

from __future__ import annotations

import asyncio
from collections import Counter, deque
from collections.abc import Callable
from itertools import islice, takewhile
from typing import TYPE_CHECKING, Final

from pika import BasicProperties
from pika.exceptions import AMQPError
from pika.spec import Basic

from ni import clock
from ni.amqp import EXCHANGE
from ni.event_bodies import Bodies
from ni.events import MEDIA_TYPE
from ni.outbox import ACCOUNT, ID, TYPE

if TYPE_CHECKING:
    from pika.channel import Channel
    from pika.frame import Method

    from ni.amqp import Broker, ChannelDoor
    from ni.outbox import Outbox, Row
    from ni.settings import Settings

SLICE: Final = 100
"""Events that are published before the loop looks at what else there is."""
READ_AHEAD: Final = 10
"""Pages that may be read and not published yet."""
PARKED_NAMED_MAX: Final = 1_000
HOPELESS: Final = 100
"""So many events of a type have come back in a row: of the next ones one in so many is tried."""
_PERSISTENT: Final = BasicProperties(  # type: ignore[no-untyped-call]  # pika leaves its types out
    content_type=MEDIA_TYPE, delivery_mode=2
)
_ID_AT: Final = len('{"specversion":"1.0","id":"')
_ID_LENGTH: Final = 36


class Publisher:
    """One channel's window. `may_publish` is asked before each slice.

    A row that was given to it goes one of these ways:

        delivered   `_settle`      confirmed: out of the outbox, and its account's next one may go
        kept behind `_keep_behind` its account has an event in flight: it waits in memory
        parked      `_keep_behind` too much of its account waits: the outbox keeps it, and the
                                   account's later ones, until what waits has gone (`ran_dry`)
        stuck       `_leave`       it came back or cannot be published: the outbox keeps it, and
                                   its account's later ones, until `start_over`
    """

    def __init__(
        self, broker: Broker, door: ChannelDoor, outbox: Outbox, settings: Settings,
        may_publish: Callable[[], bool],
    ) -> None:  # fmt: skip
        self._broker = broker
        self._channel: Channel = door.channel
        self._door = door
        self._outbox = outbox
        self._settings = settings
        self._window = settings.relay_window
        self._ahead_max = settings.relay_page * READ_AHEAD
        self._may_publish = may_publish
        self._ready: deque[Row] = deque()
        self._behind: dict[str, deque[Row]] = {}
        """The accounts of which an event is in flight, or is next, and what waits behind it."""
        self._behind_count = 0
        self._next: deque[str] = deque()
        """Accounts whose event in flight was confirmed, and which have more."""
        self._in_flight: dict[int, tuple[Row, float]] = {}
        """By delivery tag, in the order of these, and since when."""
        self._next_tag = 1
        self._bodies = Bodies()
        self._returned: set[str] = set()
        self._stuck: set[str] = set()
        self._parked: set[str] = set()
        self._in_vain: Counter[str] = Counter()
        """By type, what came back, or was not even tried, since one was confirmed."""
        self._scheduled = False
        self._blocked_at = float("-inf")
        self.delivered: list[Row] = []
        """Confirmed, to be taken out of the outbox."""
        self.changed: Final = asyncio.Event()
        """Set when something was confirmed or came back."""
        self.confirmed = 0
        self.came_back = 0
        self.last_type_back = ""
        self.ran_dry = False
        """Whether all that was kept of a parked account has gone: the outbox has more of it."""

    async def start(self) -> None:
        """Ask for confirms. Raises Unavailable."""
        self._channel.add_on_return_callback(self._note_returned)
        await self._door.answer(
            self._channel.confirm_delivery, ack_nack_callback=self._note_confirmed
        )

    # What is published next ----------------------------------------------------------------------

    @property
    def waiting(self) -> int:
        """Rows that were given and are not in flight yet."""
        return len(self._ready) + self._behind_count

    @property
    def has_room(self) -> bool:
        """Whether more may be read."""
        return self.waiting < self._ahead_max and not self.is_overfull

    @property
    def parked(self) -> list[str]:
        """Accounts of which nothing need be read now; the first of them, if they are very many."""
        return list(islice(self._parked, PARKED_NAMED_MAX))

    @property
    def in_flight(self) -> int:
        """Events that wait for their confirm."""
        return len(self._in_flight)

    @property
    def is_idle(self) -> bool:
        """Whether there is nothing to publish and nothing to wait for."""
        return not (self.waiting or self._in_flight)

    @property
    def is_overfull(self) -> bool:
        """Whether so many accounts are stuck that no more of them can be kept in mind."""
        return len(self._stuck) >= self._settings.relay_stuck_max

    @property
    def late_type(self) -> str | None:
        """The type of the oldest event in flight, when the broker owes its answer for too long.

        While the broker says why it answers nothing, no time passes.
        """
        if self._broker.blocked:
            self._blocked_at = clock.monotonic()
        if not self._in_flight:
            return None
        row, since = next(iter(self._in_flight.values()))
        waited_s = clock.monotonic() - max(since, self._blocked_at)
        limit_s = self._settings.relay_confirm_timeout_ms / 1000
        return str(row[TYPE]) if waited_s > limit_s else None

    def add(self, rows: list[Row]) -> None:
        """Publish these too, in this order."""
        self._ready.extend(rows)
        self._pump()

    def start_over(self) -> None:
        """Read the outbox from its start: what was stuck or parked is given out anew.

        With it goes what is still here of those accounts and would come before it.
        """
        kept: deque[Row] = deque()
        for row in self._ready:
            if row[ACCOUNT] in self._stuck or row[ACCOUNT] in self._parked:
                self._outbox.skip(row[ID])
            else:
                kept.append(row)
        self._ready = kept
        self._stuck.clear()
        self._parked.clear()
        self._in_vain.clear()
        self.ran_dry = False
        self._outbox.start_over()

    def pump_again(self) -> None:
        """Go on with what could not be published a moment ago."""
        self._pump()

    def _pump(self) -> None:
        """Publish a slice, as far as the window goes."""
        if self._broker.blocked or not self._may_publish() or self.is_overfull:
            return
        room = min(SLICE, self._window - len(self._in_flight))
        while room > 0 and self._next:
            self._behind_count -= 1
            self._publish(self._behind[self._next.popleft()].popleft())
            room -= 1
        ready = self._ready
        while room > 0 and ready:
            row = ready.popleft()
            if self._may_go(row):
                self._publish(row)
                room -= 1
        more = ready or self._next
        if more and len(self._in_flight) < self._window and not self._scheduled:
            self._scheduled = True
            asyncio.get_running_loop().call_soon(self._pump_on)

    def _may_go(self, row: Row) -> bool:
        """Whether it is its turn; else it is kept behind, or left in the outbox."""
        account = row[ACCOUNT]
        if account is None:
            return True
        if account in self._stuck or account in self._parked:
            self._outbox.skip(row[ID])
            return False
        waiting = self._behind.get(account)
        if waiting is None:
            self._behind[account] = deque()
            return True
        self._keep_behind(row, account, waiting)
        return False

    def _keep_behind(self, row: Row, account: str, waiting: deque[Row]) -> None:
        if len(waiting) < self._ahead_max - self._behind_count:
            waiting.append(row)
            self._behind_count += 1
        else:
            self._parked.add(account)
            self._outbox.skip(row[ID])

    def _pump_on(self) -> None:
        self._scheduled = False
        self._pump()

    def _publish(self, row: Row) -> None:
        body = self._bodies.of(row) if self._is_tried(row[TYPE]) else None
        if body is None:
            self._leave(row)
            return
        try:
            self._channel.basic_publish(EXCHANGE, row[TYPE], body, _PERSISTENT, mandatory=True)
        except AMQPError:
            return  # the connection has ended, and whoever waits for that hears it
        self._in_flight[self._next_tag] = row, clock.monotonic()
        self._next_tag += 1

    def _is_tried(self, kind: str) -> bool:
        """Whether an event of this type may be taken; now and then one that hardly may."""
        in_vain = self._in_vain[kind]
        if in_vain < HOPELESS:
            return True
        self._in_vain[kind] += 1
        return in_vain % HOPELESS == 0

    # What the broker says ------------------------------------------------------------------------

    def _note_returned(
        self, _channel: Channel, _method: Basic.Return, _properties: BasicProperties, body: bytes
    ) -> None:
        """It comes before the confirm of the same event."""
        self._returned.add(body[_ID_AT : _ID_AT + _ID_LENGTH].decode())

    def _note_confirmed(self, frame: Method[Basic.Ack | Basic.Nack]) -> None:
        method = frame.method
        refused, last = isinstance(method, Basic.Nack), method.delivery_tag
        tags = [last]
        if method.multiple:
            tags = list(takewhile(lambda tag: tag <= last, self._in_flight))
        for tag in tags:
            row, _ = self._in_flight.pop(tag, (None, None))
            if row is not None:
                self._settle(row, refused=refused)
        self.changed.set()
        self._pump()

    def _settle(self, row: Row, *, refused: bool) -> None:
        if self._returned and str(row[ID]) in self._returned:
            self._returned.discard(str(row[ID]))
            refused = True
        if refused:
            self._note_refused(row)
            self._leave(row)
            return
        self._in_vain.pop(row[TYPE], None)
        self.confirmed += 1
        self.delivered.append(row)
        account = row[ACCOUNT]
        if account is None:
            return
        if self._behind[account]:
            self._next.append(account)
        else:
            del self._behind[account]
            self.ran_dry = self.ran_dry or account in self._parked

    def _note_refused(self, row: Row) -> None:
        self._in_vain[row[TYPE]] += 1
        self.came_back += 1
        self.last_type_back = row[TYPE]

    def _leave(self, row: Row) -> None:
        """It is stuck: it stays in the outbox, and its account's later events."""
        self._outbox.skip(row[ID])
        account = row[ACCOUNT]
        if account is not None:
            self._stuck.add(account)
            later = self._behind.pop(account)
            self._behind_count -= len(later)
            for behind in later:
                self._outbox.skip(behind[ID])
