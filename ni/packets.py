"""Packets: unload to the core, accept and reject; each under one commit with its answer.

The work is done by the functions of migrations/functions/unload.sql and accept.sql; here are the
order of calls, the keys, and what to do when the core refuses a posting with an error of its own:
it is found (`ni.culprits`) and left as that posting's problem, so that the rest is booked.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable, Iterator
from contextlib import AbstractAsyncContextManager, contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, TypeVar
from uuid import UUID

import asyncpg

from ni import clock
from ni.batch_state import Answer, refuse
from ni.culprits import Failed, Refusal, Search
from ni.database import LOST_CONNECTION
from ni.decisions import NOT_STORED, Decision
from ni.documents import unload_document
from ni.errors import BrokenPromise, Overloaded, Unavailable
from ni.settings import Settings
from ni.sql import query

if TYPE_CHECKING:
    from ni.database import Pool, Session

ENTER: Final = "SELECT * FROM ni.enter_unload_v1($1, $2)"
UNLOAD: Final = "SELECT * FROM ni.unload_packet_v1($1, $2, $3, $4, $5, $6, $7, $8)"
ACCEPT: Final = "SELECT * FROM ni.accept_unload_v1($1, $2, $3, $4, $5, $6, $7)"
REJECT: Final = "SELECT * FROM ni.reject_unload_v1($1, $2, $3, $4, $5, $6)"
NOTHING_DEFERRED: Final = "SET CONSTRAINTS ALL IMMEDIATE"
"""What the core would test at the commit is tested before: a trial run has no commit."""
PROBLEMS_SHOWN_MAX: Final = 1_000
CHANGED_SINCE_VERDICT: Final = "NI003"
BROKEN_PROMISE: Final = "NI001"
RETRIED: Final = (
    asyncpg.DeadlockDetectedError,
    asyncpg.SerializationError,
    asyncpg.LockNotAvailableError,
    *LOST_CONNECTION,
)
OUTAGES: Final = frozenset({"25", "42", "53", "55", "57", "58", "XX"})
"""Classes of SQLSTATE that tell of the server, its disk or its rights: no posting's fault."""

_Result = TypeVar("_Result")


def checkpoint(_name: str) -> None:
    """A named point of a run, where tests stop or kill the process."""


@dataclass(slots=True, frozen=True, kw_only=True)
class Order:
    """What a client wants of a packet. `by` calls; `client` is whose packet it is.

    Without a key the answer is not kept (NI's own runs).
    """

    client: str
    packet: str
    by: str
    key: str | None
    fingerprint: bytes


@dataclass(slots=True)
class _Job:
    """What a run does once it has entered the packet; `number` is the run that it is about.

    `work` gets the session, the packet's last number and the only postings to take (None: all);
    `status` is theirs, and `failed` those that the core has refused with an error.
    """

    status: str
    work: Callable[[Session, int, list[UUID] | None], Awaitable[Answer]]
    number: int | None = None
    failed: Failed = field(default_factory=list)


class _CoreRefusedError(Exception):
    """The core answered a run with an error that no new try would mend."""

    def __init__(self, state: str, words: str) -> None:
        super().__init__(words)
        self.state = state


class _KeyTakenError(Exception):
    """Another run has kept an answer under the same key meanwhile."""


class Packets:
    """Runs of packets, through a pool whose transactions may last."""

    def __init__(self, pool: Pool, settings: Settings, patience_s: float | None = None) -> None:
        """`patience_s`: how long one step is tried again; None: as long as the whole may take."""
        self.pool = pool
        self._settings = settings
        self._patience_s = float(settings.unload_timeout_s) if patience_s is None else patience_s
        self._inside = 0

    async def unload(self, order: Order, *, accepted: bool) -> Answer:
        """Write what is pending in a packet to the core.

        Raises Unavailable when the core is out of order or it could not be done within the
        setting's time, Overloaded when too many are asked for at once, BrokenPromise.
        """

        async def work(session: Session, last: int, only: list[UUID] | None) -> Answer:
            return await self._unload(session, order, last, job.failed, only, accepted=accepted)

        job = _Job("pending", work)
        return await self._booked(order, job)

    async def accept(self, order: Order, number: int | None, actor: str | None) -> Answer:
        """Let a run that waits count in the core. Raises as `unload` does."""

        async def work(session: Session, _last: int, only: list[UUID] | None) -> Answer:
            run = await self._waiting(session, order, job.number)
            if isinstance(run, Answer):
                return run
            job.number = run
            row = await session.fetchrow(
                ACCEPT, order.client, order.packet, run, order.by, actor, job.failed, only
            )
            return await self._told(session, order, row)

        job = _Job("awaiting_acceptance", work, number)
        return await self._booked(order, job)

    async def reject(
        self, order: Order, number: int | None, reason: str, actor: str | None
    ) -> Answer:
        """Take a run that waits out of the core. Raises as `unload` does."""

        async def work(session: Session, _last: int) -> Answer:
            run = await self._waiting(session, order, number)
            if isinstance(run, Answer):
                return run
            row = await session.fetchrow(
                REJECT, order.client, order.packet, run, order.by, actor, reason
            )
            return await self._told(session, order, row)

        try:
            with self._admitted():
                return await self._tried(order, work, self._deadline())
        except _CoreRefusedError as error:
            raise BrokenPromise(f"the core refuses the packet: {error}") from error

    @contextmanager
    def _admitted(self) -> Iterator[None]:
        if self._inside >= self._settings.unload_queue_max:
            raise Overloaded("too many packets are being unloaded")
        self._inside += 1
        try:
            yield
        finally:
            self._inside -= 1

    async def _booked(self, order: Order, job: _Job) -> Answer:
        """The answer of a job, done without the postings that the core refuses with an error."""
        with self._admitted():
            return await self._done(order, job, self._deadline())

    async def _done(self, order: Order, job: _Job, deadline: float) -> Answer:
        search = Search(
            lambda only: self._trial(order, job, only, deadline),
            deadline,
            self._settings.unload_culprits_max,
        )
        exhausted = False
        while True:
            try:
                return await self._tried(
                    order, lambda session, last: job.work(session, last, None), deadline
                )
            except _CoreRefusedError as error:
                if exhausted:
                    raise BrokenPromise(f"the core refuses the packet: {error}") from error
                rows = await self._again(lambda: self._candidates(order, job), deadline)
                known = {item[0] for item in job.failed}
                found = await search.round([row[0] for row in rows if row[0] not in known])
                exhausted = not found
                job.failed += found

    # One try -----------------------------------------------------------------------------------

    def _deadline(self) -> float:
        return clock.monotonic() + self._settings.unload_timeout_s

    async def _tried(
        self, order: Order, work: Callable[[Session, int], Awaitable[Answer]], deadline: float
    ) -> Answer:
        """Run `work` in a transaction, again while it fails for a passing reason."""
        return await self._again(lambda: self._run(order, work), deadline)

    async def _again(self, attempt: Callable[[], Awaitable[_Result]], deadline: float) -> _Result:
        """The result of `attempt`, tried until the deadline while it fails for a passing reason.

        Raises Unavailable, BrokenPromise, or _CoreRefusedError for an error that may be a
        posting's.
        """
        pause_ms = self._settings.retry_pause_ms
        deadline = min(deadline, clock.monotonic() + self._patience_s)
        while True:
            try:
                return await attempt()
            except (*RETRIED, _KeyTakenError) as error:
                reason: Exception = error
            except asyncpg.PostgresError as error:
                if error.sqlstate == BROKEN_PROMISE:
                    raise BrokenPromise(str(error)) from error
                state = error.sqlstate or ""
                if state[:2] in OUTAGES:
                    raise Unavailable(f"the core is out of order: {error}") from error
                if state != CHANGED_SINCE_VERDICT:
                    raise _CoreRefusedError(state, str(error)) from error
                reason = error
            if clock.monotonic() + pause_ms / 1000 > deadline:
                raise Unavailable("the packet could not be unloaded in time") from reason
            await asyncio.sleep(random.uniform(0.5, 1) * pause_ms / 1000)
            pause_ms = min(pause_ms * 2, self._settings.unload_pause_max_ms)

    async def _run(self, order: Order, work: Callable[[Session, int], Awaitable[Answer]]) -> Answer:
        async with self._session() as session, session.transaction():
            entered = await session.fetchrow(ENTER, order.client, order.packet)
            checkpoint("entered")
            stored = await self._stored(session, order)
            if stored is not None:
                return stored
            if entered is None or entered["o_closed"]:
                return refuse(Decision.core_closed)
            if entered["o_number"] is None:
                answer = refuse(Decision.packet_not_found)
            else:
                answer = await work(session, entered["o_number"])
                await session.execute(NOTHING_DEFERRED)
            checkpoint("unloaded")
            await self._keep(session, order, answer)
            checkpoint("kept")
        checkpoint("committed")
        return answer

    async def _unload(
        self, session: Session, order: Order, last: int, failed: Failed, only: list[UUID] | None,
        *, accepted: bool,
    ) -> Answer:  # fmt: skip
        limit = self._settings.unload_postings_max
        row = await session.fetchrow(
            UNLOAD, order.client, order.packet, last + 1, accepted, order.by, failed, only, limit
        )
        if row is None:
            newest = await session.fetchrow(query("packet_unloads"), order.client, order.packet, 1)
            status = "booked" if newest is None else newest["status"]
            nothing = {"packet": order.packet, "number": last, "status": status, "booked": 0}
            return Answer(Decision.approved, unload_document(nothing, [], 0))
        return await self._told(session, order, row)

    async def _told(self, session: Session, order: Order, row: asyncpg.Record | None) -> Answer:
        if row is None:
            raise BrokenPromise("a run has no row")
        problems = await session.fetch(
            query("problems_of_run"),
            order.client,
            order.packet,
            row["number"],
            PROBLEMS_SHOWN_MAX,
        )
        document = unload_document(dict(row), [dict(p) for p in problems], row["problems"])
        return Answer(Decision.approved, document)

    async def _waiting(self, session: Session, order: Order, number: int | None) -> int | Answer:
        """The run to accept or reject: another client's packet, unloaded by another client."""
        row = await session.fetchrow(query("unload_waiting"), order.client, order.packet, number)
        if row is None:
            return refuse(Decision.packet_not_waiting)
        if order.by in (order.client, row["unloaded_by"]):
            return refuse(Decision.same_client)
        found: int = row["number"]
        return found

    # Keys --------------------------------------------------------------------------------------

    async def _stored(self, session: Session, order: Order) -> Answer | None:
        if order.key is None:
            return None
        row = await session.fetchrow(query("request_find"), order.by, order.key)
        if row is None:
            return None
        if row["fingerprint"] != order.fingerprint:
            return refuse(Decision.idempotency_key_reused)
        return Answer(Decision(row["decision"]), row["document"], replayed=True)

    async def _keep(self, session: Session, order: Order, answer: Answer) -> None:
        if order.key is None or answer.decision in NOT_STORED:
            return
        kept = await session.fetchval(
            query("request_keep"),
            order.by,
            order.key,
            order.fingerprint,
            int(answer.decision),
            answer.document,
        )
        if not kept:
            raise _KeyTakenError

    # What the core cannot book -----------------------------------------------------------------

    async def _candidates(self, order: Order, job: _Job) -> list[asyncpg.Record]:
        limit = self._settings.unload_postings_max
        async with self._session() as session:
            return await session.fetch(
                query("packet_candidates"),
                order.client,
                order.packet,
                job.status,
                job.number,
                limit,
            )

    async def _trial(
        self, order: Order, job: _Job, only: list[UUID], deadline: float
    ) -> Refusal | None:
        """Why the core refuses these postings; whatever comes out is rolled back.

        It is broken off at the deadline: nothing is lost with it.
        """

        async def attempt() -> None:
            async with asyncio.timeout(max(0.0, deadline - clock.monotonic())):
                await self._rolled_back(order, job, only)

        try:
            await self._again(attempt, deadline)
        except _CoreRefusedError as error:
            return Refusal(error.state, str(error))
        return None

    async def _rolled_back(self, order: Order, job: _Job, only: list[UUID]) -> None:
        async with self._session() as session:
            transaction = session.transaction()
            await transaction.start()
            try:
                entered = await session.fetchrow(ENTER, order.client, order.packet)
                if entered is None or entered["o_number"] is None:
                    return  # the core has closed: the next try of the packet says so
                await job.work(session, entered["o_number"], only)
                await session.execute(NOTHING_DEFERRED)
            finally:
                await transaction.rollback()

    def _session(self) -> AbstractAsyncContextManager[Session]:
        return self.pool.acquire(timeout=self._settings.connect_timeout_ms / 1000)
