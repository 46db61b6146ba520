"""A storm on the core while the day opens and closes and the copy is brought back.

Many snapshots, each in one statement: in none does a row of the copy differ from the core's without
a note. NI_TORTURE=1 runs it longer.
"""

from __future__ import annotations

import asyncio
import os
import random
import re
from dataclasses import dataclass, field
from typing import Final

import asyncpg
import pytest

from ni.night_copy import note_everything
from tests.night_copy.scene import DIFFERENCES, Scene, names

SECONDS: Final = 120 if os.environ.get("NI_TORTURE") else 8
SNAPSHOTS_MIN: Final = 2_000 if os.environ.get("NI_TORTURE") else 50
KEYS: Final = 40
CORES: Final = 4
REPEATABLE_SHARE: Final = 0.15
NI_PROCESSES: Final = "select pid from pg_stat_activity where application_name like 'ni %'"
STATEMENTS: Final = (
    "update core.account set balance = balance + 1 where account = any($1)",
    "update core.account set credit_limit = 5 where account = any($1)",
    "delete from core.account where account = any($1)",
    "insert into core.account (account, kind, currency) select n, 'customer', 'CZK'"
    " from unnest($1::text[]) as n on conflict do nothing",
    "insert into core.account (account, kind, currency) select n, 'customer', 'CZK'"
    " from unnest($1::text[]) as n on conflict (account) do update set balance = 3",
    "update core.account set account = 'R' || account where account = any($1)"
    " and not exists (select from core.account as o where o.account = 'R' || $1[1])"
    " and account = $1[1]",
    "insert into core.block (account, side, legal_reference, valid_from)"
    " select n, 'all', 'o', now() from unnest($1::text[]) as n",
    "delete from core.block where account = any($1)",
    "update core.block set account = $1[1] where account = any($1)",
)


@dataclass
class Storm:
    """What happened, and when it ends."""

    over: asyncio.Event = field(default_factory=asyncio.Event)
    committed: int = 0
    repeatable_refused: int = 0
    deadlocks: int = 0
    by_ni: list[str] = field(default_factory=list)
    flips: int = 0
    snapshots: int = 0
    untold: list[str] = field(default_factory=list)


async def write(scene: Scene, storm: Storm, number: int) -> None:
    """A core session: transactions of a few statements over a few keys, in order."""
    session = await scene.session()
    await session.execute("set lock_timeout = '5s'")
    keys = names(KEYS) + ["R" + name for name in names(4)]
    while not storm.over.is_set():
        repeatable = random.random() < REPEATABLE_SHARE
        chosen = sorted(random.sample(keys, random.randint(1, 6)))
        try:
            async with session.transaction(
                isolation="repeatable_read" if repeatable else "read_committed"
            ):
                await session.fetch(
                    "select from core.account where account = any($1) order by account for update",
                    chosen,
                )
                for statement in random.sample(STATEMENTS, random.randint(1, 3)):
                    await session.execute(statement, chosen)
                await asyncio.sleep(random.choice((0, 0, 0.002, 0.02)))
                if random.random() < 0.1:
                    raise asyncpg.DataError("undone")
            storm.committed += 1
        except asyncpg.SerializationError:
            assert repeatable
            storm.repeatable_refused += 1
        except asyncpg.DeadlockDetectedError as error:
            storm.deadlocks += 1
            of_ni = {row[0] for row in await session.fetch(NI_PROCESSES)}
            storm.by_ni += [str(error.detail)] if of_ni & _processes(error) else []
        except (asyncpg.DataError, asyncpg.UniqueViolationError):
            pass
        await asyncio.sleep(0.001 * number)


def _processes(error: asyncpg.DeadlockDetectedError) -> set[int]:
    return {int(number) for number in re.findall(r"[Pp]rocess (\d+)", str(error.detail))}


async def turn(scene: Scene, storm: Storm) -> None:
    """Day and night by turns; a night begins whatever is noted: nothing may rest on exactness."""
    session = await scene.session(scene.database.owner_dsn)
    while not storm.over.is_set():
        for mode in ("night", "day"):
            async with session.transaction():
                await session.execute("lock table ni.gate in exclusive mode")
                await session.execute("update ni.mode set mode = $1, epoch = epoch + 1", mode)
            storm.flips += 1
            await asyncio.sleep(random.uniform(0.02, 0.15) * (3 if mode == "day" else 1))


async def bring_back(scene: Scene, storm: Storm) -> None:
    """The worker; now and then somebody wants a full copy."""
    while not storm.over.is_set():
        if random.random() < 0.05:
            await note_everything(scene.pool)
        await scene.bring_back()
        await asyncio.sleep(0.005)


async def look(scene: Scene, storm: Storm) -> None:
    """Snapshots, each one statement."""
    session = await scene.session(scene.database.owner_dsn)
    while not storm.over.is_set():
        for row in await session.fetch(DIFFERENCES):
            if not row["noted"]:
                storm.untold.append(f"{row['relation']} {row['key']}")
        storm.snapshots += 1
        await asyncio.sleep(0.002)


@pytest.mark.timeout(SECONDS + 120)
@pytest.mark.parametrize("buckets", [1, 8])
async def test_no_snapshot_differs_without_a_note(scene: Scene) -> None:
    await scene.owner.execute("alter table core.block drop constraint block_account_fkey")
    scene.settings.night_copy_chunk = 8
    await scene.open(KEYS)
    storm = Storm()
    async with asyncio.TaskGroup() as group:
        for number in range(CORES):
            group.create_task(write(scene, storm, number))
        group.create_task(turn(scene, storm))
        for _ in range(2):
            group.create_task(bring_back(scene, storm))
        group.create_task(look(scene, storm))
        await asyncio.sleep(SECONDS)
        storm.over.set()
    print(storm)
    assert storm.untold == []
    assert storm.by_ni == [], "two core sessions may deadlock by themselves, not with NI"
    assert storm.snapshots >= SNAPSHOTS_MIN
    assert storm.flips >= 10
    assert storm.committed >= 100
    await scene.turn("day")
    assert (await scene.bring_back()).exact
    assert await scene.is_the_same()
