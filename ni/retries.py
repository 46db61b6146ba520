"""The one place that tries a transaction again.

Deadlocks, serialisation failures, lock time-outs, a changed mode and a lost connection are tried
again within the deadline, reading the mode anew. After a lost connection the request keys tell
what had been committed.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Sequence
from typing import Final

import asyncpg

from ni import clock, transaction
from ni.batch_state import Answer
from ni.commands import Command
from ni.database import LOST_CONNECTION, Seat
from ni.errors import BrokenPromise, Unavailable
from ni.settings import Settings
from ni.transaction import UNHEARD, Progress

PASSING: Final = (
    asyncpg.DeadlockDetectedError,
    asyncpg.SerializationError,
    asyncpg.LockNotAvailableError,
    transaction.Redo,
)
REQUEST_KEY: Final = "request_pkey"
"""Violated by a key that another transaction has just used."""
BROKEN_PROMISE: Final = "NI001"
KEY_REDOS_MAX: Final = 3
PAUSE_MAX_MS: Final = 250


async def decide_with_retries(
    seat: Seat, settings: Settings, buckets: int, commands: Sequence[Command], deadline: float,
    *, atomic: bool, progress: Progress = UNHEARD,
) -> list[Answer]:  # fmt: skip
    """Run one transaction of commands, again and again while its failure is a passing one.

    `progress` hears of every try.

    Raises Unavailable when the deadline passes first, BrokenPromise, and any error of asyncpg
    that a new try would not mend (a key that stays taken after three redos is one).
    """
    pause_ms, key_redos = settings.retry_pause_ms, 0
    while True:
        mode = seat.pools.mode
        try:
            session = await seat.take(mode)
            return await transaction.run(
                session, mode, buckets, commands, atomic=atomic, progress=progress,
                tell_refused=settings.refused_events,
            )  # fmt: skip
        except transaction.WrongMode as wrong:
            seat.pools.mode = wrong.mode
            if clock.monotonic() > deadline:
                raise Unavailable("the mode does not stand still") from wrong
            continue  # nothing is in the way but the pool
        except ValueError:
            raise  # a value that cannot be sent: no new connection would help
        except (*PASSING, *LOST_CONNECTION) as error:
            reason: Exception = error
        except asyncpg.PostgresError as error:
            if error.sqlstate == BROKEN_PROMISE:
                raise BrokenPromise(str(error)) from error
            key_redos += 1
            if not _is_key_taken(error) or key_redos > KEY_REDOS_MAX:
                raise
            continue
        if clock.monotonic() + pause_ms / 1000 > deadline:
            raise Unavailable("the database did not answer in time") from reason
        await asyncio.sleep(random.uniform(0.5, 1) * pause_ms / 1000)
        pause_ms = min(pause_ms * 2, PAUSE_MAX_MS)


def _is_key_taken(error: asyncpg.PostgresError) -> bool:
    """Whether another transaction has just used a key of this one: the redo finds its answer."""
    return isinstance(error, asyncpg.UniqueViolationError) and (
        error.constraint_name == REQUEST_KEY
    )
