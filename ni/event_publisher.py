"""Publishes outbox rows to RabbitMQ: many at one time, of each account one.

A row is delivered when the broker has confirmed it and has not returned it. While one event of an
account waits for that, the account's later ones wait behind it: whatever comes back, none of them
has gone before. What comes back (no queue takes it, or the broker refuses it) is stuck: it stays in
the outbox, its account's later events with it, and everything is tried again later.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING, Final

from pika import BasicProperties
from pika.exceptions import AMQPError
from pika.spec import Basic

from ni import clock
from ni.amqp import EXCHANGE
from ni.events import MEDIA_TYPE, render_row
from ni.outbox import ACCOUNT, ID, TYPE

if TYPE_CHECKING:
    from pika.channel import Channel
    from pika.frame import Method

    from ni.amqp import Broker, ChannelDoor
    from ni.outbox import Outbox, Row
    from ni.settings import Settings

SLICE: Final = 100
"""Events that are published before the loop looks at what else there is."""
HOPELESS: Final = 100
"""So many events come back in a row: nothing is tried any more until later."""
_PERSISTENT: Final = BasicProperties(  # type: ignore[no-untyped-call]  # pika leaves its types out
    content_type=MEDIA_TYPE, delivery_mode=2
)
_ID_AT: Final = len('{"specversion":"1.0","id":"')
_ID_LENGTH: Final = 36


class Publisher:
    """One channel's window. `may_publish` is asked before each slice."""

    def __init__(
        self,
        broker: Broker,
        door: ChannelDoor,
        outbox: Outbox,
        settings: Settings,
        may_publish: Callable[[], bool],
    ) -> None:
        self._broker = broker
        self._channel: Channel = door.channel
        self._door = door
        self._outbox = outbox
        self._settings = settings
        self._window = settings.relay_window
        self._may_publish = may_publish
        self._ready: deque[Row] = deque()
        self._behind: dict[str, deque[Row]] = {}
        """The accounts of which an event is in flight, or is next, and what waits behind it."""
        self._behind_count = 0
        self._next: deque[str] = deque()
        """Accounts whose event in flight was confirmed, and which have more."""
        self._in_flight: dict[int, Row] = {}
        self._first_tag = 1
        self._next_tag = 1
        self._returned: set[str] = set()
        self._stuck: set[str] = set()
        self._in_vain = 0
        self._scheduled = False
        self._last_answer_at = clock.monotonic()
        self.delivered: list[Row] = []
        """Confirmed, to be taken out of the outbox."""
        self.changed: Final = asyncio.Event()
        """Set when something was confirmed or came back."""
        self.confirmed = 0
        self.came_back = 0
        self.last_type_back = ""

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
    def in_flight(self) -> int:
        """Events that wait for their confirm."""
        return len(self._in_flight)

    @property
    def is_hopeless(self) -> bool:
        """Whether everything comes back."""
        return self._in_vain >= HOPELESS or len(self._stuck) >= self._settings.relay_stuck_max

    @property
    def is_late(self) -> bool:
        """Whether the broker owes an answer for too long; not while it says why."""
        if self._broker.blocked or not self._in_flight:
            self._last_answer_at = clock.monotonic()
        limit_s = self._settings.relay_confirm_timeout_ms / 1000
        return clock.monotonic() - self._last_answer_at > limit_s

    def add(self, rows: list[Row]) -> None:
        """Publish these too, in this order."""
        self._ready.extend(rows)
        self._pump()

    def start_over(self) -> None:
        """What was stuck is tried again; the outbox gives it out anew."""
        kept = [row for row in self._ready if not self._is_stuck(row)]
        self._ready = deque(kept)
        self._stuck.clear()
        self._in_vain = 0

    def _is_stuck(self, row: Row) -> bool:
        return row[ACCOUNT] in self._stuck

    def pump_again(self) -> None:
        """Go on with what could not be published a moment ago."""
        self._pump()

    def _pump(self) -> None:
        """Publish a slice, as far as the window goes."""
        if self._broker.blocked or not self._may_publish() or self.is_hopeless:
            return
        room = min(SLICE, self._window - len(self._in_flight))
        while room > 0 and self._next:
            self._behind_count -= 1
            self._publish(self._behind[self._next.popleft()].popleft())
            room -= 1
        ready, behind, stuck = self._ready, self._behind, self._stuck
        while room > 0 and ready:
            row = ready.popleft()
            account = row[ACCOUNT]
            if account is not None:
                if account in stuck:
                    self._outbox.skip(row[ID])
                    continue
                waiting = behind.get(account)
                if waiting is not None:
                    waiting.append(row)
                    self._behind_count += 1
                    continue
                behind[account] = deque()
            self._publish(row)
            room -= 1
        more = ready or self._next
        if more and len(self._in_flight) < self._window and not self._scheduled:
            self._scheduled = True
            asyncio.get_running_loop().call_soon(self._pump_on)

    def _pump_on(self) -> None:
        self._scheduled = False
        self._pump()

    def _publish(self, row: Row) -> None:
        if not self._in_flight:
            self._last_answer_at = clock.monotonic()
        self._in_flight[self._next_tag] = row
        self._next_tag += 1
        try:
            self._channel.basic_publish(
                EXCHANGE, row[TYPE], render_row(row), _PERSISTENT, mandatory=True
            )
        except AMQPError:
            return  # the connection has ended, and whoever waits for that hears it

    # What the broker says ------------------------------------------------------------------------

    def _note_returned(
        self, _channel: Channel, _method: Basic.Return, _properties: BasicProperties, body: bytes
    ) -> None:
        """It comes before the confirm of the same event."""
        self._returned.add(body[_ID_AT : _ID_AT + _ID_LENGTH].decode())

    def _note_confirmed(self, frame: Method[Basic.Ack | Basic.Nack]) -> None:
        method = frame.method
        refused = isinstance(method, Basic.Nack)
        self._last_answer_at = clock.monotonic()
        first = self._first_tag if method.multiple else method.delivery_tag
        for tag in range(first, method.delivery_tag + 1):
            row = self._in_flight.pop(tag, None)
            if row is not None:
                self._settle(row, refused=refused)
        if method.multiple or first == self._first_tag:
            self._first_tag = method.delivery_tag + 1
        self.changed.set()
        self._pump()

    def _settle(self, row: Row, *, refused: bool) -> None:
        if self._returned and str(row[ID]) in self._returned:
            self._returned.discard(str(row[ID]))
            refused = True
        if refused:
            self._hold_back(row)
            return
        self._in_vain = 0
        self.confirmed += 1
        self.delivered.append(row)
        account = row[ACCOUNT]
        if account is None:
            return
        if self._behind[account]:
            self._next.append(account)
        else:
            del self._behind[account]

    def _hold_back(self, row: Row) -> None:
        self._in_vain += 1
        self.came_back += 1
        self.last_type_back = row[TYPE]
        self._outbox.skip(row[ID])
        account = row[ACCOUNT]
        if account is not None:
            self._stuck.add(account)
            later = self._behind.pop(account)
            self._behind_count -= len(later)
            for behind in later:
                self._outbox.skip(behind[ID])
