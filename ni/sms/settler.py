"""What became of tries, noted together: those that end while others are noted wait for these.

Each commit is a write to the disk on which decisions wait for theirs.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import TYPE_CHECKING, TypeAlias

from ni.sms.store import EVENTS_FAULTS, Settled

if TYPE_CHECKING:
    from ni.sms.store import Store

Waiting: TypeAlias = tuple[Settled, "asyncio.Future[bool]"]


class Settler:
    """Notes outcomes, one transaction at a time."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._waiting: list[Waiting] = []
        self._work: asyncio.Task[None] | None = None

    async def settle(self, settled: Settled) -> bool:
        """Note one. False: the lease had ended before. Raises what asyncpg raises."""
        noted: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        self._waiting.append((settled, noted))
        if self._work is None or self._work.done():
            self._work = asyncio.create_task(self._settle_waiting())
        return await noted

    async def _settle_waiting(self) -> None:
        while self._waiting:
            batch, self._waiting = self._waiting, []
            await self._settle(batch)

    async def _settle(self, batch: Sequence[Waiting]) -> None:
        try:
            found = await self._store.settle([settled for settled, _ in batch])
        except EVENTS_FAULTS as error:
            if len(batch) == 1:
                _fail(batch, error)
                return
            for one in batch:  # so that only the culprit fails
                await self._settle([one])
        except Exception as error:
            _fail(batch, error)
        else:
            for (_, noted), ours in zip(batch, found, strict=True):
                if not noted.done():
                    noted.set_result(ours)


def _fail(batch: Sequence[Waiting], error: Exception) -> None:
    for _, noted in batch:
        if not noted.done():
            noted.set_exception(error)
