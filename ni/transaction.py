"""One transaction of the engine: lock and read, decide, write, commit.

This is the shell around the pure decision. It knows tables only through the functions of
migrations/functions/decide.sql, and buckets: every lock call comes before the first write call,
in the buckets' order.
"""

from __future__ import annotations

import random
from collections import defaultdict
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, Final
from uuid import UUID

import asyncpg

from ni.batch_state import Answer, Snapshot, StoredRequest
from ni.clock import EPOCH
from ni.commands import Command, accounts_of, movement_of
from ni.database import LOST_CONNECTION
from ni.decide import decide, request_bucket
from ni.decisions import Decision
from ni.identifiers import RANDOM_BITS, bucket_of, bucket_of_id
from ni.movements import AccountFigures, Hold, Posting
from ni.turns import End, no_turn
from ni.writing import write

if TYPE_CHECKING:
    from ni.database import Mode, Session

LOCATE: Final = "SELECT * FROM ni.locate_v1($1, $2, $3)"
OPEN: Final = "SELECT ni.open_positions_v1($1, $2, $3)"
PLACE: Final = "SELECT ni.place_positions_v1($1, $2)"
LOCK: Final = "SELECT * FROM ni.lock_v1($1, $2, $3, $4, $5, $6, $7, $8)"
FIGURES: Final = "SELECT * FROM ni.figures_v1($1, $2, $3)"


Locked = tuple[int, datetime, asyncpg.Record]
"""A bucket, its instant, and what was read there."""


def _nobody_reads(_snapshot: Snapshot) -> None:
    """Nobody wants to hear what was read."""


@dataclass(frozen=True, slots=True)
class Progress:
    """Who hears how far a transaction is."""

    read: Callable[[Snapshot], None] = _nobody_reads
    """Called with what was read under the locks."""
    written: End = no_turn
    """Called when nothing but the commit is left."""


UNHEARD: Final = Progress()


class WrongMode(Exception):
    """The bank has changed between day and night; the batch belongs to the other pool."""

    def __init__(self, mode: Mode) -> None:
        super().__init__(mode)
        self.mode = mode


class Redo(Exception):
    """What was locked is not what is needed any more; nothing was written."""


class NoPosition(Redo):
    """An account has no position to lock yet."""


def checkpoint(_name: str) -> None:
    """A named point of the transaction, where tests stop or kill the process."""


@dataclass(slots=True)
class BucketPlan:
    """What to lock and look up in one bucket."""

    accounts: set[str] = field(default_factory=set)
    keys: list[tuple[str, str]] = field(default_factory=list)
    holds: list[UUID] = field(default_factory=list)
    postings: list[UUID] = field(default_factory=list)


class Plan:
    """What a batch must lock, by bucket, and which named movements exist at all."""

    def __init__(self, commands: Sequence[Command], buckets: int) -> None:
        self.buckets = buckets
        self.parts: defaultdict[int, BucketPlan] = defaultdict(BucketPlan)
        self.named: defaultdict[int, list[UUID]] = defaultdict(list)
        self.located: set[UUID] = set()
        for command in commands:
            for account in accounts_of(command):
                self.add_account(account)
            if command.key is not None:
                part = self.parts[request_bucket(command, buckets)]
                part.keys.append((command.client, command.key))
            movement = movement_of(command)
            if movement is not None and bucket_of_id(movement) < buckets:
                self.named[bucket_of_id(movement)].append(movement)

    def add_account(self, account: str) -> None:
        """Lock this account, in its bucket."""
        self.parts[bucket_of(account, self.buckets)].accounts.add(account)

    async def locate(self, connection: Session) -> None:
        """Find the accounts of the movements that commands name, without locks."""
        for bucket, movements in sorted(self.named.items()):
            for row in await connection.fetch(LOCATE, bucket, movements, movements):
                movement, debit, credit = row
                self.located.add(movement)
                self.add_account(debit)
                part = self.parts[bucket]
                if credit is None:
                    part.holds.append(movement)
                else:
                    self.add_account(credit)
                    part.postings.append(movement)


async def run(
    connection: Session,
    mode: Mode,
    buckets: int,
    commands: Sequence[Command],
    *,
    atomic: bool = False,
    tell_refused: bool = False,
    progress: Progress = UNHEARD,
) -> list[Answer]:
    """Decide `commands` in one transaction; the answers are true once this returns.

    Raises WrongMode, Redo, and what asyncpg raises; nothing is committed then (after a lost
    connection the keys tell).
    """
    try:
        await connection.execute("BEGIN")
        plan = Plan(commands, buckets)
        await plan.locate(connection)
        snapshot = await _lock_opened(connection, mode, plan)
        snapshot.tell_refused = tell_refused
        progress.read(snapshot)
        checkpoint("locked")
        answers, effects = decide(snapshot, commands)
        checkpoint("decided")
        if atomic and (refused := _refuse_all(answers)):
            await connection.execute("ROLLBACK")
            return refused
        if effects.any:
            await write(connection, effects, buckets)
        checkpoint("written")
        progress.written()
        await connection.execute("COMMIT")
    except BaseException:
        await _abandon(connection)
        raise
    checkpoint("committed")
    return answers


def warm_calls(mode: Mode) -> list[tuple[str, tuple[Any, ...]]]:
    """What plans the hot functions in a session of the idle `mode`.

    Functions behind the gate find the mode wrong and read no base; what does is called by itself,
    by day, when the night's base is there and nobody needs it.
    """
    calls: list[tuple[str, tuple[Any, ...]]] = [
        (LOCATE, (0, [], [])),
        (OPEN, (0, mode, [])),
        (LOCK, (0, mode, EPOCH, [], [], [], [], [])),
    ]
    if mode == "night":
        calls += [(PLACE, (0, [])), (FIGURES, (0, EPOCH, []))]
    return calls


async def _abandon(connection: Session) -> None:
    try:
        await connection.execute("ROLLBACK")
    except (asyncpg.PostgresError, *LOST_CONNECTION):
        with suppress(asyncpg.InterfaceError):  # the pool has it back already
            connection.terminate()  # whatever it still held is freed with it


def _refuse_all(answers: list[Answer]) -> list[Answer] | None:
    """For an atomic batch with a refusal: the first culprit's own answer, the rest refused."""
    culprit = next((a for a in answers if a.decision is not Decision.approved), None)
    if culprit is None:
        return None
    return [a if a is culprit else Answer(Decision.batch_refused, "{}") for a in answers]


async def _lock_opened(connection: Session, mode: Mode, plan: Plan) -> Snapshot:
    """Lock; first decisions on accounts begin anew, and make the positions before any lock."""
    try:
        return await _lock(connection, mode, plan)
    except NoPosition:
        await connection.execute("ROLLBACK")
        await connection.execute("BEGIN")
    for bucket, part in sorted(plan.parts.items()):
        await connection.execute(OPEN, bucket, mode, list(part.accounts))
    return await _lock(connection, mode, plan)


async def _lock(connection: Session, mode: Mode, plan: Plan) -> Snapshot:
    """Every lock call, in the buckets' order; one instant for all of them."""
    floor = EPOCH
    locked: list[Locked] = []
    for bucket, part in sorted(plan.parts.items()):
        clients = [client for client, _ in part.keys]
        keys = [key for _, key in part.keys]
        row = await connection.fetchrow(
            LOCK, bucket, mode, floor, list(part.accounts), clients, keys, part.holds, part.postings
        )
        assert row is not None, "a function with OUT parameters returns one row"
        if row["o_mode"] != mode:
            raise WrongMode(row["o_mode"])
        if not row["o_complete"]:
            raise NoPosition("an account has no position")
        floor = row["o_instant"]
        locked.append((bucket, floor, row))
    return _snapshot(plan, floor, locked)


def _snapshot(plan: Plan, instant: datetime, locked: list[Locked]) -> Snapshot:
    last = locked[-1][2]
    snapshot = Snapshot(
        instant_us=(instant - EPOCH) // timedelta(microseconds=1),
        epoch=last["o_epoch"],
        mode=last["o_mode"],
        business_date=last["o_business_date"],
        next_business_date=last["o_next_business_date"],
        buckets=plan.buckets,
        salt=random.getrandbits(RANDOM_BITS),
    )
    for bucket, read_at, row in locked:
        _add_rows(snapshot, bucket, row)
        if read_at < instant:
            _require_no_expiry_between(row, read_at, instant)
    found = snapshot.holds.keys() | snapshot.postings.keys()
    snapshot.busy = frozenset(plan.located - found)
    for posting in snapshot.postings.values():
        if not {posting.debit_account, posting.credit_account} <= snapshot.accounts.keys():
            raise Redo("a posting was moved to other accounts")
    return snapshot


def _add_rows(snapshot: Snapshot, bucket: int, row: asyncpg.Record) -> None:
    for view in row["o_accounts"] or ():
        snapshot.accounts[view[0]] = AccountFigures(*view)
    for view in row["o_requests"] or ():
        client, key, fingerprint, decision, document = view
        stored = StoredRequest(fingerprint, Decision(decision), document)
        snapshot.requests[bucket, client, key] = stored
    for view in row["o_holds"] or ():
        snapshot.holds[view["hold_id"]] = Hold(*view[1:])
    for view in row["o_postings"] or ():
        snapshot.postings[view["posting_id"]] = Posting(*view[1:])
    snapshot.expired += [Hold(*view[1:]) for view in row["o_expired"] or ()]


def _require_no_expiry_between(row: asyncpg.Record, read_at: datetime, instant: datetime) -> None:
    """Buckets are read one after the other; no hold may expire in the microseconds between."""
    for view in row["o_accounts"] or ():
        expiry = view["following_expiry"] or view["next_expiry"]
        if expiry is not None and read_at < expiry <= instant:
            raise Redo("a hold expired between two buckets' locks")
