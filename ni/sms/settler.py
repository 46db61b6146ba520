"""What became of tries, noted together: those that end while others are noted wait for these.

Each commit is a write to the disk on which decisions wait for theirs.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import TYPE_CHECKING, Final, TypeAlias

import asyncpg

from ni.sms.store import EVENTS_FAULTS, Settled, took_too_long

if TYPE_CHECKING:
    from ni.sms.store import Store

Waiting: TypeAlias = tuple[Settled, "asyncio.Future[bool]"]

_KEPT_OUT: Final = (asyncpg.LockNotAvailableError, asyncpg.DeadlockDetectedError)
KEPT_OUT_MAX: Final = 2
"""So many accounts of one batch may be in somebody else's hands; with more it is all of them."""


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
            error = await self._settle(batch)
            if error is None:
                continue
            if len(batch) > 1 and (isinstance(error, EVENTS_FAULTS) or _is_kept_out(error)):
                await self._settle_singly(batch)
            else:
                _fail(batch, error)

    async def _settle(self, batch: Sequence[Waiting]) -> Exception | None:
        """Note these in one transaction, or tell why none of them was."""
        try:
            found = await self._store.settle([settled for settled, _ in batch])
        except Exception as error:
            return error
        for (_, noted), ours in zip(batch, found, strict=True):
            if not noted.done():  # whoever waited may have been cancelled
                noted.set_result(ours)
        return None

    async def _settle_singly(self, batch: Sequence[Waiting]) -> None:
        """So that only the culprit fails."""
        kept_out = 0
        for place, one in enumerate(batch):
            error = await self._settle([one])
            if error is None:
                continue
            _fail([one], error)
            kept_out += not isinstance(error, EVENTS_FAULTS)
            if kept_out == KEPT_OUT_MAX:
                _fail(batch[place + 1 :], error)
                return


def _is_kept_out(error: Exception) -> bool:
    """Whether it may be about one account, which somebody else has locked."""
    return isinstance(error, _KEPT_OUT) or took_too_long(error)


def _fail(batch: Sequence[Waiting], error: Exception) -> None:
    for _, noted in batch:
        if not noted.done():
            noted.set_exception(error)
