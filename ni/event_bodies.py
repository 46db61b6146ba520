"""The bytes of outbox rows as they leave, and what is said of rows that have none.

A row may name a type or a currency that this version does not know: an older one runs again, or a
currency has left ISO 4217. It is never published as something else and never dropped.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import structlog

from ni import clock
from ni.events import render_row
from ni.outbox import ID, TYPE

if TYPE_CHECKING:
    from ni.outbox import Row

TOLD_EVERY_S: Final = 10

log = structlog.get_logger()


class Bodies:
    """Makes bodies. Of what cannot be made one is told at a time, and how many there were."""

    def __init__(self) -> None:
        self._untold = 0
        self._tell_at = clock.monotonic()

    def of(self, row: Row) -> bytes | None:
        """The body of a row; None when it has none, which is told as an error."""
        try:
            return render_row(row)
        except (KeyError, ValueError) as error:
            reason = f"{type(error).__name__}: {error}"
        self._tell(row, reason)
        return None

    def _tell(self, row: Row, reason: str) -> None:
        self._untold += 1
        if clock.monotonic() < self._tell_at:
            return
        log.error("relay_event_unreadable", events=self._untold, type=row[TYPE],
                  id=str(row[ID]), error=reason,
                  hint="it stays in the outbox, and its account's later events")  # fmt: skip
        self._untold = 0
        self._tell_at = clock.monotonic() + TOLD_EVERY_S
