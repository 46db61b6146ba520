"""Arrests, closings and limit changes during unloads: every verdict is the contract's.

The core's changes are logged with their transactions. The run keeps the snapshot of its verdict,
so a model that knows neither NI's code nor its tables can say what the verdict had to be. A core
that locks an account's row before it changes it comes wholly before the verdict or wholly after
the run's commit.
"""

from __future__ import annotations

import asyncio
import random
import re
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, Final
from uuid import UUID, uuid4

import asyncpg
import pytest

from ni import core_ledger
from ni.errors import NiError
from tests.engine.world import CASH, debit, id_of, made
from tests.packets.desk import Desk, open_desk
from tests.packets.verdict_model import Asked, Core, Line, Snapshot, verdicts
from tests.races.arena import rounds
from tests.support.databases import Database

LOG: Final = (Path(__file__).parent / "core_log.sql").read_text()
ACCOUNTS: Final = 30
POSTINGS: Final = 60
PACKETS: Final = ("one", "two", "three", "four")
THROWERS: Final = 3
TAKEN: Final = (
    "select p.posting_id, p.debit_account, p.credit_account, p.debit_customer, p.credit_customer,"
    " p.currency, p.link_id, p.legal_reference, p.status, r.code, r.detail"
    " from ni.posting p left join ni.problem r on r.posting_id = p.posting_id and r.raised_at = $3"
    " where p.home and p.packet = $1 and p.unload_number = $2 and p.posting_id <> all ($4)"
)
RUN: Final = (
    "select xmin::text as xid, coalesce(decided_at, verdict_at) as judged_at,"
    " coalesce(decided_snapshot, verdict_snapshot)::text as seen from ni.unload"
    " where packet = $1 and number = $2"
)
LINES: Final = (
    "select xid::text, seen::text, made_by, relation, key, account, row_after::text"
    " from core.test_log order by line"
)


@dataclass
class Run:
    """One verdict and what it said."""

    xid: int
    snapshot: Snapshot
    at: datetime
    taken: list[Asked]
    said: dict[UUID, tuple[str, str] | None]


@dataclass
class Storm:
    """A desk, and a core that changes its accounts all the time."""

    desk: Desk
    names: list[str]
    runs: list[Run] = field(default_factory=list)
    thrown: Counter[str] = field(default_factory=Counter)
    throwers: set[int] = field(default_factory=set)
    """The server's processes of the core's sessions."""

    async def fill(self, packet: str) -> None:
        """Postings of every kind into a packet: linked, with a court order, between customers."""
        commands = []
        for _ in range(POSTINGS):
            one, other = random.sample(self.names, 2)
            sides = random.choice(((one, other), (one, CASH), (CASH, one)))
            more: dict[str, Any] = {"packet": packet}
            if random.random() < 0.15:
                more["legal_reference"] = "order 9"
            commands.append((sides, more))
        for (_, first), (_, second) in zip(commands[::5], commands[1::5], strict=False):
            first["link_id"] = second["link_id"] = uuid4()
        posted = (
            self.desk.world.engine.submit(debit(sides[0], 1_00, sides[1], **more))
            for sides, more in commands
        )
        for answer in await asyncio.gather(*posted):
            id_of(answer)

    async def unload(self, packet: str, *, accepted: bool) -> None:
        """Unload, or unload and accept, and keep what each verdict said."""
        document = await self.desk.unload(packet, accepted=accepted)
        before = await self._keep(packet, document["number"], [])
        if document["status"] == "awaiting_acceptance":
            await asyncio.sleep(random.uniform(0, 0.05))
            made(await self.desk.accept(packet, document["number"]))
            problems = [one for one, said in before.said.items() if said is not None]
            await self._keep(packet, document["number"], problems)

    async def _keep(self, packet: str, number: int, not_taken: list[UUID]) -> Run:
        async with self.desk.world.stranger() as owner:
            row = await owner.fetchrow(RUN, packet, number)
            assert row is not None
            taken = await owner.fetch(TAKEN, packet, number, row["judged_at"], not_taken)
        asked = [Asked.of(posting) for posting in taken]
        said = {p["posting_id"]: (p["code"], p["detail"]) if p["code"] else None for p in taken}
        assert all((p["status"] == "problem") == (p["code"] is not None) for p in taken)
        run = Run(int(row["xid"]), Snapshot.parse(row["seen"]), row["judged_at"], asked, said)
        self.runs.append(run)
        return run

    async def throw(self, stop: asyncio.Event) -> None:
        """What a bank does to its accounts, one thing after the other."""
        async with AsyncExitStack() as stack:
            dsn = self.desk.world.database.core_dsn
            core = await stack.enter_async_context(core_ledger.core_session(dsn))
            owner = await stack.enter_async_context(self.desk.world.stranger())
            self.throwers |= {core.get_server_pid(), owner.get_server_pid()}
            while not stop.is_set():
                name = CASH if random.random() < 0.03 else random.choice(self.names)
                what = random.choice(list(THROWN))
                # it was closed already, had no block, or is just gone
                with suppress(NiError, asyncpg.ForeignKeyViolationError):
                    await self._thrown(what, core if what in LOCK_FIRST else owner, name)
                await asyncio.sleep(random.uniform(0, 0.01))

    async def _thrown(self, what: str, session: asyncpg.Connection, name: str) -> None:
        try:
            await THROWN[what](session, name)
            self.thrown[what] += 1
        except asyncpg.DeadlockDetectedError as error:
            # A core that locks nothing may stand in its own way, but nobody of NI in its.
            met = {int(pid) for pid in re.findall(r"[Pp]rocess (\d+)", error.detail or "")}
            if not met or met - self.throwers:
                raise

    async def slow_core(self, stop: asyncio.Event) -> None:
        """A core transaction holds the cash account, so that runs stand still after the verdict."""
        async with self.desk.world.stranger() as owner:
            while not stop.is_set():
                async with owner.transaction():
                    await owner.execute(
                        "select from core.account where account = $1 for update", CASH
                    )
                    await asyncio.sleep(random.uniform(0, 0.08))
                await asyncio.sleep(random.uniform(0, 0.05))

    async def calm(self) -> None:
        """Everything is lifted and opened, every problem is pending again."""
        owner = self.desk.world.owner
        await owner.execute("delete from core.block")
        await owner.execute(
            "update core.account set status = 'active', currency = 'CZK',"
            " kind = case account when $1 then 'internal' else 'customer' end"
            " where account = any ($2)",
            CASH,
            [CASH, *self.names],
        )
        for problem in await self.desk.problems():
            made(await self.desk.settle(UUID(problem["posting_id"]), "retry"))


async def _block(session: asyncpg.Connection, name: str) -> None:
    await core_ledger.block(session, name, random.choice(core_ledger.SIDES), "order 1")


async def _block_for_a_moment(session: asyncpg.Connection, name: str) -> None:
    """A block whose beginning and end lie so near that verdicts fall on both sides of them."""
    begin = await session.fetchval("select ni.clock()") + timedelta(
        milliseconds=random.randrange(-20, 40)
    )
    end = begin + timedelta(milliseconds=random.randrange(1, 40))
    await core_ledger.block(session, name, "all", "order 2", valid_from=begin, valid_to=end)


async def _unblock(session: asyncpg.Connection, name: str) -> None:
    await core_ledger.unblock(session, name)


async def _close(session: asyncpg.Connection, name: str) -> None:
    if name != CASH:
        await core_ledger.close_account(session, name)


async def _limit(session: asyncpg.Connection, name: str) -> None:
    await core_ledger.set_limit(session, name, random.randrange(100_00))


async def _reopen(session: asyncpg.Connection, name: str) -> None:
    await session.execute("update core.account set status = 'active' where account = $1", name)


async def _currency(session: asyncpg.Connection, name: str) -> None:
    if name != CASH:
        currency = random.choice(("CZK", "CZK", "EUR"))
        await session.execute(
            "update core.account set currency = $2 where account = $1", name, currency
        )


async def _block_unlocked(session: asyncpg.Connection, name: str) -> None:
    """A core that locks nothing, and dates back."""
    await session.execute(
        "insert into core.block (account, side, legal_reference, valid_from)"
        " values ($1, 'debit', 'order 3', '1990-01-01T00:00:00Z')",
        name,
    )


async def _kind(session: asyncpg.Connection, name: str) -> None:
    kind = random.choice(("customer", "customer", "internal"))
    if name != CASH:
        await session.execute("update core.account set kind = $2 where account = $1", name, kind)


async def _lose(session: asyncpg.Connection, name: str) -> None:
    """The account goes and comes back, with what it had, in another transaction."""
    if name == CASH:
        return
    async with session.transaction():
        await session.execute("delete from core.block where account = $1", name)
        gone = await session.fetchrow(
            "delete from core.account where account = $1 returning *", name
        )
    await asyncio.sleep(random.uniform(0, 0.02))
    if gone is not None:
        await session.execute("insert into core.account select ($1::core.account).*", tuple(gone))


LOCK_FIRST: Final = {
    "block": _block, "moment": _block_for_a_moment, "unblock": _unblock, "close": _close,
    "limit": _limit,
}  # fmt: skip
THROWN: Final = LOCK_FIRST | {
    "reopen": _reopen, "currency": _currency, "unlocked": _block_unlocked, "freed": _unblock,
    "kind": _kind, "lose": _lose,
}  # fmt: skip


@asynccontextmanager
async def storm_of(database: Database) -> AsyncIterator[Storm]:
    """A storm that has not begun; the log knows the core as it is."""
    async with open_desk(database, unload_connections=4) as desk:
        names = await desk.world.open(ACCOUNTS, balance=1_000_000_00)
        await desk.world.owner.execute(LOG)
        yield Storm(desk, names)


WANTED: Final = {
    "booked", "account_blocked", "account_closed", "account_not_found", "account_kind_mismatch",
    "linked_problem",
}  # fmt: skip
"""The verdicts that a storm must have met before it tells anything; chance may need more rounds."""
ROUNDS_MAX: Final = 60


@pytest.mark.parametrize("buckets", [1, 8])
async def test_every_verdict_is_the_contracts(database: Database) -> None:
    async with storm_of(database) as storm:
        for number in range(ROUNDS_MAX):
            if number >= rounds(4, full=40) and told_by(storm.runs).keys() >= WANTED:
                break
            await one_storm(storm)
        log = [Line.of(row) for row in await storm.desk.world.owner.fetch(LINES)]
        assert_verdicts(storm.runs, log)
        assert_before_or_after(storm.runs, log, set(storm.names))
        assert told_by(storm.runs).keys() >= WANTED
        assert storm.thrown.keys() >= {"block", "close", "limit", "unlocked", "kind", "lose"}
        assert await storm.desk.world.bank.faults() == []


async def one_storm(storm: Storm) -> None:
    """Packets are filled and unloaded while the core's weather goes over their accounts."""
    await asyncio.gather(*(storm.fill(packet) for packet in PACKETS))
    stop = asyncio.Event()
    weather = [asyncio.create_task(storm.throw(stop)) for _ in range(THROWERS)]
    weather.append(asyncio.create_task(storm.slow_core(stop)))
    await asyncio.sleep(random.uniform(0, 0.1))
    await asyncio.gather(
        *(storm.unload(name, accepted=turn > 0) for turn, name in enumerate(PACKETS))
    )
    stop.set()
    await asyncio.gather(*weather)
    await storm.calm()


def told_by(runs: list[Run]) -> Counter[str]:
    """How often each verdict was given."""
    return Counter(said[0] if said else "booked" for run in runs for said in run.said.values())


STATES: Final = ("fine", "blocked", "closed", "currency")


async def test_the_first_fault_is_the_contracts(database: Database) -> None:
    """Two sides in trouble: the order of the tests says which one is told."""
    async with storm_of(database) as storm:
        desk, names = storm.desk, iter(storm.names * 2)
        pairs = [(one, other) for one in STATES for other in STATES]
        sides = {state: (next(names), next(names)) for state in STATES}
        for one, other in pairs:
            await desk.post(sides[one][0], 1_00, sides[other][1])
        owner = desk.world.owner
        for name in sides["blocked"]:
            await desk.world.bank.block(name, "all")
        for name in sides["closed"]:
            await desk.world.bank.close_account(name)
        for name in sides["currency"]:
            await owner.execute("update core.account set currency = 'EUR' where account = $1", name)
        await storm.unload("p", accepted=True)
        [run] = storm.runs
        log = [Line.of(row) for row in await owner.fetch(LINES)]
        expected = verdicts(run.taken, Core.at(log, run.snapshot), run.at)
        said = {one: verdict and verdict[0] for one, verdict in run.said.items()}
        assert said == {one: faults[0][0] if faults else None for one, faults in expected.items()}


def assert_verdicts(runs: list[Run], log: list[Line]) -> None:
    """Booked exactly when nothing is wrong; else a fault that the posting has, and its account."""
    for run in runs:
        expected = verdicts(run.taken, Core.at(log, run.snapshot), run.at)
        for posting, faults in expected.items():
            said = run.said[posting]
            assert (said is None) == (not faults), (posting, said, faults, run.at, run.snapshot)
            if said is not None:
                account = said[1].partition(":")[0]
                assert (said[0], account) in faults, (posting, said, faults)


def assert_before_or_after(runs: list[Run], log: list[Line], customers: set[str]) -> None:
    """Changes that lock the account first are seen by the verdict, or themselves see the run.

    Nothing is booked on an account that the verdict did not find.
    """
    after = 0
    for run in runs:
        there = Core.at(log, run.snapshot).accounts.keys()
        sides = {side[0] for asked in run.taken for side in (asked.debit, asked.credit)}
        touched = sides & customers & there
        for line in log:
            if line.made_by == "ni_core" and line.account in touched:
                seen = run.snapshot.sees(line.xid)
                assert seen or line.seen.sees(run.xid), (run.xid, run.snapshot, line)
                after += not seen
    assert after, "no change came after a verdict"
