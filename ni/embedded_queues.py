"""Queues of events in PostgreSQL, as the relay fills them where there is no RabbitMQ."""

from __future__ import annotations

import re
from itertools import groupby
from typing import TYPE_CHECKING, Final

from ni.events import render_row
from ni.outbox import BUCKET, ID, LAP, TYPE

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ni.database import Pool
    from ni.outbox import Outbox, Row
    from ni.settings import Settings

DELIVER: Final = "SELECT ni.deliver_events_v1($1, $2, $3, $4, $5)"
SWEEP: Final = "SELECT ni.sweep_event_queues_v1($1)"
TURN: Final = "SELECT ni.turn_deliveries_v1($1)"
FILE_BYTES_MAX: Final = 8_388_608
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

    What no queue wants is gone, too; but while there is no lasting queue at all, it stays for the
    first one.
    """

    def __init__(self, pool: Pool, settings: Settings) -> None:
        self._pool = pool
        self._settings = settings
        self.came_back = 0
        self.last_type_back = ""

    async def sweep(self) -> None:
        """Remove queues whose consumers are gone, and the file of what was delivered."""
        await self._pool.fetchval(SWEEP, self._settings.event_lease_s)
        await self._pool.fetchval(TURN, FILE_BYTES_MAX)

    async def deliver(self, outbox: Outbox, rows: Sequence[Row]) -> None:
        """Deliver rows in their order. Raises what the database raises."""
        for (bucket, lap), group in groupby(rows, key=lambda row: (row[BUCKET], row[LAP])):
            part = list(group)
            left = await self._pool.fetchval(
                DELIVER, bucket, lap, [row[ID] for row in part], [row[TYPE] for row in part],
                [render_row(row) for row in part],
            )  # fmt: skip
            unwanted = set(left)
            for row in part:
                if row[ID] in unwanted:
                    outbox.skip(row[ID])
                    self.came_back += 1
                    self.last_type_back = row[TYPE]
            outbox.forget(row[ID] for row in part if row[ID] not in unwanted)
