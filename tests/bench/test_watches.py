"""What looks at the database beside a load sees what it is there for."""

from __future__ import annotations

import asyncio

import asyncpg
import pytest

from bench.processes import BenchError
from bench.watches import lock_watch, run_watch
from bench.world import CLIENT
from tests.bench.statements import statement
from tests.support.databases import Database


async def session(database: Database, name: str) -> asyncpg.Connection:
    """A session of NI's role under a name of its pools."""
    return await asyncpg.connect(database.engine_dsn, server_settings={"application_name": name})


@pytest.mark.parametrize(("holder", "seen"), [("ni unload", True), ("the core", False)])
async def test_a_decision_that_waits_for_an_unload_is_seen(
    database: Database, holder: str, seen: bool
) -> None:
    unload = await session(database, holder)
    decision = await session(database, "ni day")
    try:
        async with lock_watch(database.owner_dsn) as found:
            await unload.execute(statement("take"))
            waiting = asyncio.create_task(decision.execute(statement("want")))
            await asyncio.sleep(0.3)
            assert not waiting.done()
            await unload.execute(statement("give"))
            await waiting
    finally:
        await unload.close()
        await decision.close()
    assert found.samples > 10
    assert (found.with_locks > 0) is seen
    assert bool(found.kinds) is bool(found.told) is seen
    assert 0 < found.longest_gap_ms < 1000


async def test_every_committed_run_is_seen_with_a_time_after_its_commit(
    database: Database,
) -> None:
    owner: asyncpg.Connection = await asyncpg.connect(database.owner_dsn)
    try:
        async with run_watch(database.owner_dsn) as found:
            await owner.execute(statement("run"), CLIENT, "stp.1")
            before = await owner.fetchval("SELECT clock_timestamp()")
            await asyncio.sleep(0.2)
            await owner.execute(statement("run"), CLIENT, "by hand")
            await owner.execute(statement("run"), CLIENT, "stp.2")
        after = await owner.fetchval("SELECT clock_timestamp()")
    finally:
        await owner.close()
    assert sorted(found) == ["stp.1", "stp.2"]
    assert {number for number, _ in found.values()} == {1}
    assert (found["stp.1"][1] - before).total_seconds() < 0.1
    assert before < found["stp.2"][1] < after


async def test_a_watch_that_cannot_look_says_so(database: Database) -> None:
    with pytest.raises(BenchError, match="had to stop"):
        await watched_while_all_sessions_end(database)


async def watched_while_all_sessions_end(database: Database) -> None:
    superuser: asyncpg.Connection = await asyncpg.connect(database.superuser_dsn)
    try:
        async with lock_watch(database.owner_dsn):
            await asyncio.sleep(0.05)
            await superuser.execute(statement("end_others"))
            await asyncio.sleep(0.05)
    finally:
        await superuser.close()
