"""Queues of events in PostgreSQL, as the relay fills them where there is no RabbitMQ."""

from __future__ import annotations

import re
from functools import partial
from itertools import groupby
from typing import TYPE_CHECKING, Final

from ni import clock
from ni.event_bodies import Bodies
from ni.outbox import ACCOUNT, BUCKET, ID, LAP, TYPE, though_locked

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ni.database import Pool
    from ni.outbox import Outbox, Row
    from ni.settings import Settings

DELIVER: Final = "SELECT ni.deliver_events_v1($1, $2, $3, $4, $5)"
SWEEP: Final = "SELECT ni.sweep_event_queues_v1($1)"
TURN: Final = "SELECT ni.turn_deliveries_v1($1)"
FILE_BYTES_MAX: Final = 8_388_608
LOOK_S: Final = 1
_WORD: Final = r"[^.]+"


def pattern_of(types: Sequence[str]) -> str:
    """The regular expression of a topic exchange's patterns: `*` is one word, `#` the rest.

    Raises ValueError when `#` is not the last word.
    """
    return f"^({'|'.join(map(_expression, types))})$"


def _expression(pattern: str) -> str:
    if pattern == "#":
        return r".*"
    words = pattern.removesuffix(".#").split(".")
    if "#" in words:
        raise ValueError(f"in {pattern}, # is not the last word")
    found = r"\.".join(_WORD if word == "*" else re.escape(word) for word in words)
    return found + (r"(\..*)?" if pattern.endswith(".#") else "")


class EmbeddedSink:
    """Gives events to every queue that wants them and takes them out of the outbox, at once.

    What no queue wants is gone, too; but while there is no lasting queue at all, everything stays
    for the first one, and nothing more goes until the outbox is read from its start: nothing may
    overtake what came before that queue. What cannot be made into an event stays, and its
    account's later events.
    """

    def __init__(self, pool: Pool, settings: Settings) -> None:
        self._pool = pool
        self._settings = settings
        self._bodies = Bodies()
        self._stuck: set[str] = set()
        self._is_for_nobody = False
        """There was no lasting queue, so everything is left."""
        self._looked_at = clock.monotonic()
        """When there was none at last."""
        self.came_back = 0
        self.last_type_back = ""

    async def sweep(self) -> None:
        """Remove queues whose consumers are gone, and the file of what was delivered."""
        await self._pool.fetchval(SWEEP, self._settings.event_lease_s)
        await self._pool.fetchval(TURN, FILE_BYTES_MAX)

    def start_over(self, outbox: Outbox) -> None:
        """Read the outbox from its start: what was left there is tried again."""
        self._stuck.clear()
        self._is_for_nobody = False
        outbox.start_over()

    async def deliver(self, outbox: Outbox, rows: Sequence[Row]) -> None:
        """Deliver rows in their order. Raises what the database raises."""
        for place, group in groupby(rows, key=_place):
            await self._deliver_part(outbox, place, list(group))
        is_due = self._is_for_nobody and clock.monotonic() > self._looked_at + LOOK_S
        if is_due and await self._give((0, 0), []):
            self.start_over(outbox)

    async def _deliver_part(
        self, outbox: Outbox, place: tuple[int, int], rows: Sequence[Row]
    ) -> None:
        if not self._is_for_nobody:
            part = [(row, body) for row in rows if (body := self._body(row, outbox)) is not None]
            if not part or await self._give(place, part):
                outbox.forget(row[ID] for row, _ in part)
                return
            self._is_for_nobody = True
        for row in rows:
            outbox.skip(row[ID])
            self.came_back += 1
            self.last_type_back = row[TYPE]

    async def _give(self, place: tuple[int, int], part: Sequence[tuple[Row, bytes]]) -> bool:
        """False: there is no lasting queue."""
        ids = [row[ID] for row, _ in part]
        types = [row[TYPE] for row, _ in part]
        bodies = [body for _, body in part]
        ask = partial(self._pool.fetchval, DELIVER, *place, ids, types, bodies)
        given = bool(await though_locked(ask))
        if not given:
            self._looked_at = clock.monotonic()
        return given

    def _body(self, row: Row, outbox: Outbox) -> bytes | None:
        account = row[ACCOUNT]
        body = None if account in self._stuck else self._bodies.of(row)
        if body is None:
            outbox.skip(row[ID])
            if account is not None:
                self._stuck.add(account)
        return body


def _place(row: Row) -> tuple[int, int]:
    return row[BUCKET], row[LAP]
