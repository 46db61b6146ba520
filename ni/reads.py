"""Reads: an account's balance, holds and movements. None of them locks a position."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, Final, Literal, TypeVar
from uuid import UUID

import asyncpg

from ni import clock
from ni.database import LOST_CONNECTION, Pools
from ni.documents import balance_document, hold_document, posting_document
from ni.errors import Unavailable
from ni.identifiers import bucket_of, bucket_of_id
from ni.movements import Hold, Posting
from ni.settings import Settings
from ni.sql import query

if TYPE_CHECKING:
    from ni.database import Mode, Session

BALANCE: Final = "SELECT * FROM ni.balance_v1($1, $2, $3)"
KIND: Final = "SELECT * FROM ni.account_kind_v1($1, $2)"
PAUSE_MAX_MS: Final = 100
PASSING: Final = (
    asyncpg.LockNotAvailableError,
    asyncpg.DeadlockDetectedError,
    asyncpg.SerializationError,
)
"""A core that takes its tables as a whole, one after the other, meets reads in another order."""
_Result = TypeVar("_Result")


def warm_calls(mode: Mode) -> list[tuple[str, tuple[Any, ...]]]:
    """What plans the reads of a base in a session of the idle `mode`, which reads none."""
    return [(BALANCE, (0, mode, "-")), (KIND, (mode, "-"))]


@dataclass(slots=True)
class Page:
    """Documents of one page and the id after which the next begins, if there is one."""

    documents: list[str]
    next_id: UUID | None


class Reads:
    """Reads through pools of their own, so that they never wait for a writer's connection."""

    def __init__(self, pools: Pools, settings: Settings, buckets: int) -> None:
        self.pools: Final = pools
        self._settings = settings
        self._buckets = buckets

    async def balance(self, account: str) -> str | None:
        """The balance document of an account; None: the core does not know it."""
        bucket = bucket_of(account, self._buckets)
        row = await self.by_mode(
            lambda session, mode: session.fetchrow(BALANCE, bucket, mode, account)
        )
        return None if row["o_kind"] is None else balance_document(account, dict(row))

    async def hold(self, hold_id: UUID) -> Hold | None:
        """A hold as it is now; its expiry counts from its instant on, swept or not."""
        bucket = bucket_of_id(hold_id)
        if bucket >= self._buckets:
            return None
        rows = await self.fetch(query("hold_read"), bucket, hold_id)
        return Hold(*rows[0][1:]) if rows else None

    async def posting(self, posting_id: UUID) -> Posting | None:
        """A posting as it is now."""
        bucket = bucket_of_id(posting_id)
        if bucket >= self._buckets:
            return None
        rows = await self.fetch(query("posting_read"), bucket, posting_id)
        return Posting(*rows[0][1:]) if rows else None

    async def holds(
        self,
        account: str,
        status: str | None,
        reference: str | None,
        before: UUID | None,
        size: int,
    ) -> Page | None:
        """An account's holds, newest first; None: the core does not know the account."""
        if await self._kind(account) is None:
            return None
        bucket = bucket_of(account, self._buckets)
        name = "holds_of_account" if reference is None else "holds_of_account_by_reference"
        rows = await self.fetch(query(name), bucket, account, status, reference, before, size + 1)
        holds = [Hold(*row[1:]) for row in rows]
        return _page([(hold.hold_id, hold_document(hold)) for hold in holds], size)

    async def movements(
        self, account: str, reference: str | None, before: UUID | None, size: int
    ) -> Page | None:
        """An account's holds and postings, newest first; None: the core does not know it."""
        kind = await self._kind(account)
        if kind is None:
            return None
        own = [bucket_of(account, self._buckets)]
        buckets = own if kind == "customer" else list(range(self._buckets))
        suffix = "" if reference is None else "_by_reference"
        postings = await self.fetch(
            query(f"postings_of_account{suffix}"), buckets, account, reference, before, size + 1
        )
        holds = await self.fetch(
            query(f"holds_of_account{suffix}"), own[0], account, None, reference, before, size + 1
        )
        items = [_as_movement("posting", Posting(*row[1:])) for row in postings]
        items += [_as_movement("hold", Hold(*row[1:])) for row in holds]
        items.sort(key=lambda item: item[0], reverse=True)
        return _page(items, size)

    async def _kind(self, account: str) -> str | None:
        row = await self.by_mode(lambda session, mode: session.fetchrow(KIND, mode, account))
        kind: str | None = row["o_kind"]
        return kind

    async def fetch(
        self, sql: str, *arguments: Any, by: Mode | None = None
    ) -> list[asyncpg.Record]:
        """Run a query that names no base relation, through the pool of `by` or of the mode.

        Raises Unavailable.
        """
        return await self._with_session(
            lambda session: session.fetch(sql, *arguments), by or self.pools.mode, self._deadline()
        )

    async def by_mode(
        self, read: Callable[[Session, str], Awaitable[asyncpg.Record | None]]
    ) -> asyncpg.Record:
        """Read a base; when the mode has changed, again through the other pool.

        Raises Unavailable when a decision's time has passed.
        """
        deadline = self._deadline()
        while True:
            mode = self.pools.mode
            row = await self._with_session(partial(_call_with_mode, read, mode), mode, deadline)
            assert row is not None, "a function with OUT parameters returns one row"
            if row["o_mode"] == mode:
                return row
            self.pools.mode = row["o_mode"]
            if clock.monotonic() > deadline:
                raise Unavailable("the mode does not stand still")

    async def _with_session(
        self, read: Callable[[Session], Awaitable[_Result]], mode: Mode, deadline: float
    ) -> _Result:
        """Run one read by `mode`, again when its connection or a lock was not had."""
        pause_ms = self._settings.retry_pause_ms
        while True:
            try:
                timeout = self._settings.connect_timeout_ms / 1000
                async with self.pools.of(mode).acquire(timeout=timeout) as session:
                    return await read(session)
            except (*PASSING, *LOST_CONNECTION) as error:
                if clock.monotonic() + pause_ms / 1000 > deadline:
                    raise Unavailable("the database cannot be reached") from error
            await asyncio.sleep(random.uniform(0.5, 1) * pause_ms / 1000)
            pause_ms = min(pause_ms * 2, PAUSE_MAX_MS)

    def _deadline(self) -> float:
        return clock.monotonic() + self._settings.decision_timeout_ms / 1000


def _call_with_mode(
    read: Callable[[Session, str], Awaitable[asyncpg.Record | None]], mode: str, session: Session
) -> Awaitable[asyncpg.Record | None]:
    return read(session, mode)


def _as_movement(kind: Literal["hold", "posting"], record: Hold | Posting) -> tuple[UUID, str]:
    if isinstance(record, Hold):
        movement, document = record.hold_id, hold_document(record)
    else:
        movement, document = record.posting_id, posting_document(record)
    return movement, f'{{"movement":"{kind}",{document[1:]}'


def _page(items: list[tuple[UUID, str]], size: int) -> Page:
    documents = [document for _, document in items[:size]]
    return Page(documents, items[size - 1][0] if len(items) > size else None)
