"""Forgetting: ids of events, texts and accounts that are not needed any more, in small steps.

A step is one short transaction. Nothing here stops texts: what fails is done in the next round.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from datetime import datetime
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from ni.settings import Settings
    from ni.sms.store import AccountKey, Store

STEPS_MAX: Final = 1_000
"""Steps of one kind in one round."""
ACCOUNT_STEPS_MAX: Final = 20
"""So many are enough: an account is a small row, and there is one a customer."""
COUNTED_AT_ONCE: Final = 100_000
"""Events that one step counts."""
FIRST: Final = (-1, "")

Step = Callable[[datetime | None], Awaitable[tuple[int, datetime | None]]]


class Forgetter:
    """Goes on in each round where the last one ended."""

    def __init__(self, store: Store, settings: Settings) -> None:
        self._store = store
        self._settings = settings
        self._ids_from: datetime | None = None
        self._messages_from: datetime | None = None
        self._accounts_after: AccountKey = FIRST

    async def round(self) -> tuple[int, int, int]:
        """Ids, messages and accounts that went. Raises what asyncpg raises."""
        await self._store.raise_floor(None)
        crowded = await self._crowded()
        if crowded is not None:
            await self._store.raise_floor(crowded)
        ids, self._ids_from = await self._steps(self._store.forget_ids, self._ids_from)
        messages, self._messages_from = await self._steps(
            self._store.forget_messages, self._messages_from
        )
        return ids, messages, await self._accounts()

    async def _crowded(self) -> datetime | None:
        """The newest event that is beyond the inbox's limit, if there are so many."""
        at, left = None, self._settings.sms_inbox_max
        while left > 0:
            places = min(left, COUNTED_AT_ONCE)
            at = await self._store.place(at, places)
            if at is None:
                return None
            left -= places
        return at

    async def _steps(self, step: Step, since: datetime | None) -> tuple[int, datetime | None]:
        total = 0
        for _ in range(STEPS_MAX):
            count, since = await step(since)
            total += count
            if count < self._settings.sms_prune_step:
                break
        return total, since

    async def _accounts(self) -> int:
        total = 0
        for _ in range(ACCOUNT_STEPS_MAX):
            count, last = await self._store.forget_accounts(self._accounts_after)
            total += count
            self._accounts_after = FIRST if last is None else last
            if last is None:
                break
        return total
