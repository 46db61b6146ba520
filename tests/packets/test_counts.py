"""Every count that guards money: a row that is not written undoes the whole run."""

from __future__ import annotations

from pathlib import Path
from typing import Final
from uuid import UUID

import asyncpg
import pytest

from ni.errors import BrokenPromise
from tests.engine.world import CASH, CLIENT, made
from tests.packets.desk import Desk

SWALLOW: Final = (Path(__file__).parent / "swallow.sql").read_text()
MARK: Final = (
    "select ni.mark_postings_v1(array(select ctid from ni.posting), $1, 'booked', $2, 'p', 1,"
    " ni.clock())"
)
RESOLVE: Final = (
    "select ni.write_resolutions_v1(0::smallint,"
    " array[row($1, ni.clock(), 'retry', 'why', 'who', null)::ni.resolution_v1])"
)
BROKEN_PROMISE: Final = "NI001"


async def _swallow(desk: Desk, what: str, condition: str) -> None:
    """From now on writes to a table do nothing."""
    await desk.world.owner.execute(SWALLOW)
    await desk.world.owner.execute(
        f"create trigger swallow before {what} for each row when ({condition})"
        " execute function public.swallow()"
    )


@pytest.mark.parametrize(
    ("what", "condition", "message"),
    [
        pytest.param("insert on core.entry", "new.amount < 0", "entry", id="entry"),
        pytest.param("update on core.account", "new.kind = 'customer'", "balance", id="balance"),
        pytest.param("update on core.account", f"new.account = '{CASH}'", "balance", id="internal"),
        pytest.param("insert on ni.applied", "true", "applied", id="applied"),
        pytest.param("insert on ni.problem", "true", "problem", id="problem"),
        pytest.param("delete on ni.unbooked", "true", "unbooked", id="unbooked"),
    ],
)
async def test_a_write_that_is_not_done_undoes_the_run(
    desk: Desk, what: str, condition: str, message: str
) -> None:
    [account, arrested] = await desk.world.open(2, balance=100_00)
    for name in (account, arrested):
        await desk.post(name, 10_00)
    await desk.world.bank.block(arrested, "debit")
    await _swallow(desk, what, condition)
    before = await desk.world.bank.fingerprint()
    with pytest.raises(BrokenPromise, match=f"{message} rows written"):
        await desk.unload()
    assert await desk.world.bank.fingerprint() == before


@pytest.mark.parametrize("buckets", [8])
async def test_a_second_row_that_is_not_there_undoes_the_run(desk: Desk) -> None:
    payer, payee = [await desk.world.open_in(bucket) for bucket in (0, 1)]
    await desk.post(payer, 10_00, payee)
    await desk.world.owner.execute("delete from ni.posting where not home")
    with pytest.raises(BrokenPromise, match="second rows written: 0, decided: 1"):
        await desk.unload()


@pytest.mark.parametrize("decision", ["accept", "reject"])
async def test_a_run_that_waits_is_decided_with_all_its_postings(desk: Desk, decision: str) -> None:
    [account] = await desk.world.open()
    await desk.post(account, 10_00)
    await desk.unload(accepted=False)
    await desk.world.owner.execute("update ni.unload set booked = 2")
    with pytest.raises(BrokenPromise, match="waiting rows written: 1, decided: 2"):
        await (desk.accept() if decision == "accept" else desk.reject())


async def test_a_rejected_run_takes_all_its_entries_out(desk: Desk) -> None:
    [account] = await desk.world.open()
    await desk.post(account, 10_00)
    await desk.unload(accepted=False)
    await desk.world.owner.execute("delete from core.entry where amount > 0")
    with pytest.raises(BrokenPromise, match="entry rows written: 1, decided: 2"):
        await desk.reject()


async def test_postings_are_marked_from_the_status_that_they_were_taken_in(desk: Desk) -> None:
    [account] = await desk.world.open()
    posting = await desk.post(account, 10_00)
    with pytest.raises(asyncpg.PostgresError, match="posting rows written: 0") as caught:
        await desk.world.owner.execute(MARK, "awaiting_acceptance", CLIENT)
    assert caught.value.sqlstate == BROKEN_PROMISE
    assert await desk.statuses(posting) == ["pending"]


async def test_a_problem_is_settled_once(desk: Desk) -> None:
    [account] = await desk.world.open()
    posting = await desk.post(account, 10_00)
    await desk.world.bank.block(account, "debit")
    await desk.unload()
    made(await desk.settle(posting, "retry"))
    for movement in (posting, UUID(int=0)):
        with pytest.raises(asyncpg.PostgresError, match="problem rows written: 0") as caught:
            await desk.world.owner.execute(RESOLVE, movement)
        assert caught.value.sqlstate == BROKEN_PROMISE
