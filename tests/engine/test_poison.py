"""One command that fails, or one session that dies, never fails its neighbours."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import asyncpg
import pytest

import ni.transaction
from ni.batch_state import Answer, Effects
from ni.decisions import Decision
from tests.engine.hooks import before_write, count_runs
from tests.engine.unloader import unload
from tests.engine.world import (
    CASH,
    FEES,
    World,
    cancel,
    capture,
    debit,
    decisions,
    hold,
    id_of,
    made,
)

if TYPE_CHECKING:
    from ni.database import Session

BUCKETS = pytest.mark.parametrize("buckets", [1, 8])
LIMIT = 10**17
POISONS = {"NUL": "a\0b", "surrogate": "a\ud800b"}


@BUCKETS
@pytest.mark.parametrize("poison", POISONS)
async def test_a_poisoned_command_fails_alone(
    world: World, monkeypatch: pytest.MonkeyPatch, poison: str
) -> None:
    """What a door should have refused reaches the engine beside fifty good commands."""
    names = await world.open(25)
    ends = count_runs(monkeypatch)
    commands = [debit(name, 1) for name in names * 2]
    commands.insert(25, debit(names[0], 1, narrative=POISONS[poison]))
    answers = await asyncio.gather(
        *(world.engine.submit(command) for command in commands), return_exceptions=True
    )
    culprit = answers.pop(25)
    assert isinstance(culprit, (asyncpg.PostgresError, ValueError)), culprit
    for answer in answers:
        assert isinstance(answer, Answer), answer
        made(answer)
    assert len(ends) <= 60, "it was tried again and again"
    assert await world.requests() == 50
    assert await world.bank.faults() == []


@BUCKETS
async def test_a_poisoned_item_of_a_batch_fails_alone(world: World) -> None:
    (one,) = await world.open()
    batch = [debit(one, 1), debit(one, 1, narrative="\0"), debit(one, 1)]
    answers = await world.engine.submit_batch(batch, atomic=False)
    assert decisions(answers) == ["approved", "internal_error", "approved"]
    assert await world.available(one) == 1000_00 - 2


async def test_a_poisoned_atomic_batch_changes_nothing(world: World) -> None:
    (one,) = await world.open()
    batch = [debit(one, 1), debit(one, 1, narrative="\0"), debit(one, 1)]
    with pytest.raises(asyncpg.PostgresError):
        await world.engine.submit_batch(batch, atomic=True)
    assert (await world.requests(), await world.available(one)) == (0, 1000_00)
    made(await world.engine.submit(debit(one, 1)))


@pytest.mark.parametrize("limits", [{"decision_timeout_ms": 600}])
async def test_a_poisoned_item_beside_a_busy_posting(world: World) -> None:
    """The batch ends at its deadline, and the lane serves the next one."""
    (one,) = await world.open()
    posting = id_of(await world.engine.submit(debit(one, 100)))
    batch = [debit(one, 1, narrative="\0"), cancel(posting), debit(one, 1)]
    async with world.stranger() as packet, packet.transaction():
        await packet.execute("select from ni.posting for update")
        async with asyncio.timeout(10):
            answers = await world.engine.submit_batch(batch, atomic=False)
    assert decisions(answers) == ["internal_error", "posting_being_unloaded", "approved"]
    async with asyncio.timeout(10):
        made((await world.engine.submit_batch([debit(one, 1)], atomic=False))[0])


@BUCKETS
async def test_an_account_that_the_core_has_deleted_fails_alone(world: World) -> None:
    """NI has locked it before; now the core knows it no more."""
    gone, one = await world.open(2)
    made(await world.engine.submit(debit(gone, 1)))
    async with world.stranger() as packet:
        await unload(packet)
    await world.owner.execute("delete from core.account where account = $1", gone)
    commands = [debit(gone, 1), debit(one, 1), hold(gone, 1), debit(CASH, 1, credit=gone)]
    answers = await world.engine.submit_batch(commands, atomic=False)
    assert decisions(answers) == [
        "account_not_found", "approved", "account_not_found", "account_not_found",
    ]  # fmt: skip


@BUCKETS
async def test_a_session_that_is_killed_before_its_commit(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing of it is there; the next try has the one effect."""
    names = await world.open(10)

    async def kill(session: Session, _effects: Effects) -> None:
        if not killed:
            killed.append(session.get_server_pid())
            superuser = await asyncpg.connect(world.database.superuser_dsn)
            await superuser.execute("select pg_terminate_backend($1, 5000)", killed[0])
            await superuser.close()

    killed: list[int] = []
    before_write(monkeypatch, kill)
    answers = await asyncio.gather(*(world.engine.submit(debit(n, 7)) for n in names))
    assert killed
    assert decisions(answers) == ["approved"] * 10
    assert not any(answer.replayed for answer in answers)
    assert [await world.available(name) for name in names] == [1000_00 - 7] * 10
    assert await world.bank.faults() == []


@BUCKETS
async def test_a_session_that_is_lost_after_its_commit(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nobody knows whether it committed; the keys tell, and there is one effect."""
    (one,) = await world.open()
    lost: list[str] = []

    def checkpoint(name: str) -> None:
        if name == "committed" and not lost:
            lost.append(name)
            raise ConnectionResetError("the answer to COMMIT was lost")

    monkeypatch.setattr(ni.transaction, "checkpoint", checkpoint)
    answer = await world.engine.submit(debit(one, 7))
    assert made(answer)["debit"] == {"available_after": "999.93", "sequence": 1}
    assert answer.replayed
    assert await world.available(one) == 1000_00 - 7


@BUCKETS
async def test_every_idle_session_is_killed(world: World) -> None:
    """As after a restart of the server: the pools connect again, nobody hears an error."""
    (one,) = await world.open()
    made(await world.engine.submit(debit(one, 1)))
    superuser = await asyncpg.connect(world.database.superuser_dsn)
    await superuser.execute(
        "select pg_terminate_backend(pid, 5000) from pg_stat_activity"
        " where datname = current_database() and usename = 'ni_engine'"
    )
    await superuser.close()
    answers = await asyncio.gather(*(world.engine.submit(debit(one, 1)) for _ in range(20)))
    assert decisions(answers) == ["approved"] * 20
    assert await world.available(one) == 1000_00 - 21


@BUCKETS
async def test_sums_are_bounded_and_neighbours_are_fine(world: World) -> None:
    """Up to ± 10^17 minor units, not one more; what would pass refuses itself alone."""
    rich = await world.open_in(0, balance=LIMIT - 5)
    deep = await world.open_in(world.buckets - 1, balance=5 - LIMIT)
    (one,) = await world.open()
    commands: list[Any] = [
        debit(CASH, 6, credit=rich),
        debit(one, 1),
        debit(CASH, 5, credit=rich),
        debit(deep, 6, check="none"),
        debit(deep, 5, check="none"),
        debit(one, 1, credit=rich),
        debit(deep, 1, credit=one, check="none"),
        debit(one, 1),
    ]
    answers = await world.engine.submit_batch(commands, atomic=False)
    assert decisions(answers) == [
        "amount_out_of_range", "approved", "approved", "amount_out_of_range",
        "approved", "amount_out_of_range", "amount_out_of_range", "approved",
    ]  # fmt: skip
    balances = [(await world.balance(name))["available"] for name in (rich, deep, one)]
    assert balances == [f"{LIMIT // 100}.00", f"-{LIMIT // 100}.00", "999.98"]
    assert await world.bank.faults() == []


async def test_the_sum_of_holds_is_bounded(world: World) -> None:
    (one,) = await world.open(balance=LIMIT, credit_limit=LIMIT)
    largest = 10**15 - 1
    answers = []
    for amount in [largest] * 100 + [100, 1]:
        answers.append(await world.engine.submit(hold(one, amount)))
    assert decisions(answers) == ["approved"] * 101 + ["amount_out_of_range"]
    over = capture(id_of(answers[-2]), "100000000000.00", over_capture="none")
    made(await world.engine.submit(over))
    assert await world.bank.faults() == []


async def test_internal_sums_are_not_bounded_by_one_account(world: World) -> None:
    """An internal account stands on one side of almost everything; its sum may be large."""
    answers = [await world.engine.submit(debit(CASH, 10**15 - 1, credit=FEES)) for _ in range(200)]
    assert {answer.decision for answer in answers} == {Decision.approved}
    assert (await world.balance(FEES))["pending"] == "1999999999999998.00"
