"""Whose turn it is to lock, decide and write among the lanes of one process.

Transactions that run side by side share the same processors and one event loop: their round trips
delay each other, and each decides a part of what one could have decided at once. In turns, the
next transaction begins when the one before commits, and takes what came meanwhile.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Final

End = Callable[[], None]
"""Ends a turn; may be called again."""


class Turns:
    """One turn at a time, unless the one before lasts longer than a lane's patience.

    A transaction that waits for a row of another process keeps its turn: the other lanes then go on
    without one.
    """

    def __init__(self, patience_ms: int) -> None:
        self._lock: Final = asyncio.Lock()
        self._patience_s: Final = patience_ms / 1000

    async def take(self) -> End:
        """Wait for the turn, as long as patience lasts; returns what ends it."""
        if self._lock.locked():
            try:
                async with asyncio.timeout(self._patience_s):
                    await self._lock.acquire()
            except TimeoutError:
                return no_turn
        else:
            await self._lock.acquire()
        held = True

        def end() -> None:
            nonlocal held
            if held:
                held = False
                self._lock.release()

        return end


def no_turn() -> None:
    """The end of a turn that was not had."""
