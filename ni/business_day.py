"""The bank's day: close it, open it, tell how it stands. One place for API and workers.

A switch is idempotent by state: asked for the mode that there is, it changes nothing and answers
with the same document. The steps of the switch itself are in `ni.day_switch`.
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Final

import asyncpg
import structlog

from ni.batch_state import Answer, refuse
from ni.database import LOST_CONNECTION, switch_session
from ni.day_reads import EVERYTHING, STATE, DayReads
from ni.day_switch import CORE_HELD, DayOrder, DaySwitch, checkpoint
from ni.decisions import Decision
from ni.errors import Unavailable
from ni.night_copy import resynchronise_within
from ni.sql import query
from ni.straight_through import last_pass

if TYPE_CHECKING:
    from ni.database import Mode, Pool
    from ni.day_reads import Viewer
    from ni.reads import Reads
    from ni.settings import Settings

PASSING: Final = (
    asyncpg.DeadlockDetectedError,
    asyncpg.SerializationError,
    asyncpg.LockNotAvailableError,
    *LOST_CONNECTION,
)

log = structlog.get_logger()


class BusinessDay:
    """Closes and opens the day; `unload_pool` serves the last pass before a close."""

    def __init__(self, reads: Reads, unload_pool: Pool, settings: Settings) -> None:
        self.reads: Final = DayReads(reads)
        self._pools = reads.pools
        self._unload_pool = unload_pool
        self._settings = settings

    async def status(self, viewer: Viewer = EVERYTHING) -> str:
        """The document of the day as `viewer` may see it. Raises Unavailable."""
        return await self.reads.document(viewer)

    async def close(self, order: DayOrder, *, require_unloaded: bool = False) -> Answer:
        """Day to night: a last pass, what is noted brought back, running unloads drained, the flip.

        The answer is the day's document, or why it stays day: packets_unfinished,
        night_copy_not_exact. Raises Unavailable: whether it is night is told by a new call.
        """
        async with self._session() as session:
            early = await self._found(session, order, "night")
            if early is not None:
                return early
            if await session.fetchval(CORE_HELD) is None:
                done = await last_pass(
                    self._unload_pool, self._settings, self._settings.drain_timeout_s
                )
                log.info("last_pass", packets=done.packets, postings=done.postings)
                await self._bring_copy_back()
            checkpoint("passed")
            switch = DaySwitch(session, self._settings, order)
            refused = await switch.close(require_unloaded=require_unloaded)
            return await self._ended(session, order, "night", switch, refused)

    async def open(self, order: DayOrder) -> Answer:
        """Night to day. The answer is the day's document, or core_still_closed.

        Raises Unavailable: whether it is day is told by a new call.
        """
        async with self._session() as session:
            early = await self._found(session, order, "day")
            if early is not None:
                return early
            switch = DaySwitch(session, self._settings, order)
            refused = await switch.open()
            return await self._ended(session, order, "day", switch, refused)

    async def _bring_copy_back(self) -> None:
        """What the copy lacks, as far as it is to be had in a moment: else the close is refused.

        Whatever stops this is told by the question that follows, whether the copy is exact.
        """
        limit_ms = self._settings.night_copy_close_ms
        if not limit_ms:
            return
        try:
            done = await resynchronise_within(self._pools.day, self._settings, limit_ms)
        except (asyncpg.PostgresError, *LOST_CONNECTION) as error:
            log.warning("copy_not_brought_back", error=f"{type(error).__name__}: {error}")
        else:
            log.info("copy_brought_back", keys=done.keys, exact=done.exact)

    @asynccontextmanager
    async def _session(self) -> AsyncIterator[asyncpg.Connection]:
        """A session for a switch, so that it stands in no queue with decisions and reads.

        Raises Unavailable in place of what passes.
        """
        try:
            async with switch_session(self._settings) as session:
                yield session
        except PASSING as error:
            raise Unavailable(
                f"the switch was broken off ({type(error).__name__}); ask again, it tells"
            ) from error

    async def _ended(
        self, session: asyncpg.Connection, order: DayOrder, to: Mode, switch: DaySwitch,
        refused: Answer | None,
    ) -> Answer:  # fmt: skip
        if refused is not None:
            log.warning("day_not_switched", to=to, reason=json.loads(refused.document))
            return refused
        if switch.made:
            self._pools.mode = to
            log.info("day_switched", to=to, by=order.by, took_ms=switch.switch_ms)
        return await self._told(session, order)

    # Keys ----------------------------------------------------------------------------------------

    async def _found(self, session: asyncpg.Connection, order: DayOrder, to: Mode) -> Answer | None:
        """The answer that the key has had, or that the state gives; None: there is work to do."""
        stored = await self._stored(session, order)
        if stored is not None:
            return stored
        row = await session.fetchrow(STATE, order.by, order.key)
        if row is None:
            return None
        if row["o_made"] is not None and row["o_made"] != to:
            # The answer was lost before it was kept; the switch tells what the key stood for.
            return refuse(Decision.idempotency_key_reused)
        if to not in (row["o_mode"], row["o_made"]):
            return None
        return await self._told(session, order)

    async def _stored(self, session: asyncpg.Connection, order: DayOrder) -> Answer | None:
        if order.key is None:
            return None
        row = await session.fetchrow(query("request_find"), order.by, order.key)
        if row is None:
            return None
        if row["fingerprint"] != order.fingerprint:
            return refuse(Decision.idempotency_key_reused)
        return Answer(Decision(row["decision"]), row["document"], replayed=True)

    async def _told(self, session: asyncpg.Connection, order: DayOrder) -> Answer:
        """The day as it is now, kept under the key; of two at once both tell what was kept."""
        document = await self.status()
        if order.key is not None:
            kept = await session.fetchval(
                query("request_keep"), order.by, order.key, order.fingerprint,
                int(Decision.approved), document,
            )  # fmt: skip
            if not kept:
                return await self._stored(session, order) or Answer(Decision.approved, document)
        return Answer(Decision.approved, document)
