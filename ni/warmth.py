"""Keeps the sessions of the idle mode warm, so that the first calls after a switch are not slow.

What a session has called it has planned. By night nothing of a day's session reaches the core: the
functions see the mode first.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING, Any, Final

import asyncpg
import structlog

from ni.database import LOST_CONNECTION

if TYPE_CHECKING:
    from ni.database import Mode, Pool, Pools

WARM_INTERVAL_S: Final = 60
PATIENCE_S: Final = 0.2

Calls = Callable[["Mode"], Sequence[tuple[str, tuple[Any, ...]]]]
"""For the idle mode: texts and arguments of harmless calls."""

log = structlog.get_logger()


async def keep_warm(pools: Pools, calls: Calls) -> None:
    """Call these functions in every idle session of the idle mode, each minute, until cancelled."""
    while True:
        mode: Mode = "night" if pools.mode == "day" else "day"
        try:
            await warm(pools.of(mode), calls(mode))
        except (*LOST_CONNECTION, asyncpg.PostgresError) as error:
            log.warning("idle_pool_not_warm", error=type(error).__name__)
        await asyncio.sleep(WARM_INTERVAL_S)


async def warm(pool: Pool, calls: Sequence[tuple[str, tuple[Any, ...]]]) -> None:
    """Make these calls in every session of a pool that nobody uses.

    It never waits for one that is in use, for it holds the others meanwhile, and work that the
    mode has just brought may want them. Raises what asyncpg raises.
    """
    async with AsyncExitStack() as held:
        for _ in range(pool.get_size()):
            if not pool.get_idle_size():
                return
            session = await held.enter_async_context(pool.acquire(timeout=PATIENCE_S))
            for text, arguments in calls:
                await session.fetchrow(text, *arguments)
