"""How many more texts may wait.

They are counted now and then, and what is kept is taken off in between. A count walks everything
that waits, and what is done as long as anybody's transaction is open: so it may take up its share
of the time and no more, and one that does not end in time counts for nothing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import structlog

from ni import clock
from ni.sms.store import DATABASE_FAULTS, took_too_long

if TYPE_CHECKING:
    from ni.settings import Settings
    from ni.sms.store import Store

COUNTED_FOR_S: Final = 60.0
"""For so long a count is believed, for there may be other notifiers."""
FULL_FOR_S: Final = 1.0
"""For so long it is believed when nothing more may be kept."""
TIME_SHARE: Final = 20
"""A count is followed by at least so many times as long without one."""
UNCOUNTED: Final = 10
"""One part in so many of the limit may be kept where nobody knows how many wait."""

log = structlog.get_logger()


class Room:
    """What is left of NI_SMS_WAITING_MAX, as far as this process knows."""

    def __init__(self, store: Store, settings: Settings) -> None:
        self._store = store
        self._most = settings.sms_waiting_max
        self._left = 0
        self._counted_at = self._not_before = float("-inf")

    def note_kept(self, texts: int) -> None:
        """So many more wait."""
        self._left -= texts

    async def left(self) -> int:
        """How many more may wait, 0 or less: none. Raises what asyncpg raises."""
        now = clock.monotonic()
        believed_s = COUNTED_FOR_S if self._left > 0 else FULL_FOR_S
        if now >= max(self._counted_at + believed_s, self._not_before):
            await self._count(now)
        return self._left

    async def _count(self, began: float) -> None:
        try:
            self._left = self._most - await self._store.waiting(self._most)
        except DATABASE_FAULTS as error:
            if not took_too_long(error):
                raise
            self._left = max(self._left, self._most // UNCOUNTED, 1)
            log.warning("sms_count_given_up", error=type(error).__name__)
        self._counted_at = clock.monotonic()
        self._not_before = self._counted_at + TIME_SHARE * (self._counted_at - began)
