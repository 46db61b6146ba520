"""What became of tries is noted together, and none of them suffers by another."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import asyncpg
import pytest

from ni.sms.gateway import Message, Outcome
from ni.sms.settler import Settler
from ni.sms.store import Settled
from tests.sms.scene import Scene
from tests.sms.sending import take_numbered

ACCOUNTS = [f"CZ{number:010}" for number in range(9, 0, -1)]
LOCK = "select from ni.sms_account where account = any ($1) for update"
WRITERS = "select distinct xmin::text from ni.sms_message where status <> 'waiting'"


async def leased(scene: Scene, buckets: int = 1) -> list[Message]:
    """One message of each account, in the order of ACCOUNTS."""
    await scene.subscribe(*ACCOUNTS)
    for account in ACCOUNTS:
        await take_numbered(scene, account, 1, buckets)
    given = [message for b in range(buckets) for message in await scene.store.lease(b, 100)]
    return sorted(given, key=lambda message: ACCOUNTS.index(message.account))


@pytest.mark.parametrize("buckets", [1, 8])
async def test_those_that_end_together_are_one_transaction(scene: Scene, buckets: int) -> None:
    """Each gets its own answer, in whatever order the rows are locked."""
    messages = await leased(scene, buckets)
    assert await scene.settle(messages[3], Outcome("sent"), 0)
    settler = Settler(scene.store)
    outcomes = [Outcome("dead", "x") if n % 2 else Outcome("sent") for n in range(9)]
    found = await asyncio.gather(
        *(settler.settle(Settled(*pair, 0)) for pair in zip(messages, outcomes, strict=True))
    )
    assert found == [n != 3 for n in range(9)]
    status = {row["account"]: row["status"] for row in await scene.rows()}
    expected = ["dead" if n % 2 and n != 3 else "sent" for n in range(9)]
    assert [status[account] for account in ACCOUNTS] == expected
    assert len(await scene.owner.fetch(WRITERS)) == 2


async def test_what_ends_meanwhile_waits_for_the_next_one(scene: Scene) -> None:
    messages = await leased(scene)
    settler = Settler(scene.store)
    async with scene.owner.transaction():
        await scene.owner.execute(LOCK, [messages[0].account])
        first = asyncio.create_task(settler.settle(Settled(messages[0], Outcome("sent"), 0)))
        await asyncio.sleep(0.1)
        rest = [
            asyncio.create_task(settler.settle(Settled(message, Outcome("sent"), 0)))
            for message in messages[1:]
        ]
        rest.pop().cancel()  # whoever does not wait any more holds up nobody
        await asyncio.sleep(0.1)
        assert not any(task.done() for task in (first, *rest))
    assert await asyncio.gather(first, *rest) == [True] * 8
    assert len(await scene.owner.fetch(WRITERS)) == 2


async def test_only_the_culprit_fails(scene: Scene) -> None:
    messages = await leased(scene)
    settler = Settler(scene.store)
    outcomes = [Outcome("dead", "\0" if n == 4 else "x") for n in range(9)]
    found = await asyncio.gather(
        *(settler.settle(Settled(*pair, 0)) for pair in zip(messages, outcomes, strict=True)),
        return_exceptions=True,
    )
    assert isinstance(found.pop(4), asyncpg.DataError)
    assert found == [True] * 8
    statuses = list((await scene.statuses()).values())
    assert (statuses.count("dead"), statuses.count("waiting")) == (8, 1)


async def test_a_database_that_is_away_is_told_to_all_of_them(scene: Scene) -> None:
    messages = await leased(scene)
    settler = Settler(scene.store)
    await scene.owner.execute("revoke execute on all functions in schema ni from ni_sms, public")
    gone = asyncio.create_task(settler.settle(Settled(messages.pop(), Outcome("sent"), 0)))
    waiting = asyncio.create_task(settle_all(settler, messages))
    await asyncio.sleep(0)
    gone.cancel()  # whoever does not wait any more keeps nobody from hearing it
    found = await waiting
    assert [type(error) for error in found] == [asyncpg.InsufficientPrivilegeError] * 8


@pytest.mark.parametrize("limits", [{"transaction_timeout_ms": 600}])
async def test_one_that_is_locked_is_the_only_one_that_fails(scene: Scene) -> None:
    """Its neighbours' texts are not sent again because of it."""
    messages = await leased(scene)
    settler = Settler(scene.store)
    async with scene.owner.transaction():
        await scene.owner.execute(LOCK, [messages[4].account])
        found = await settle_all(settler, messages)
    assert isinstance(found.pop(4), asyncpg.LockNotAvailableError)
    assert found == [True] * 8
    statuses = list((await scene.statuses()).values())
    assert (statuses.count("sent"), statuses.count("waiting")) == (8, 1)


@pytest.mark.parametrize("limits", [{"transaction_timeout_ms": 600}])
async def test_when_all_are_locked_they_are_not_asked_for_one_by_one(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    messages = await leased(scene)
    settler = Settler(scene.store)
    tries = []
    settle = scene.store.settle

    async def counted(settled: Sequence[Settled]) -> list[bool]:
        tries.append(len(settled))
        return await settle(settled)

    monkeypatch.setattr(scene.store, "settle", counted)
    async with scene.owner.transaction():
        await scene.owner.execute(LOCK, ACCOUNTS)
        found = await settle_all(settler, messages)
    assert [type(error) for error in found] == [asyncpg.LockNotAvailableError] * 9
    assert tries == [9, 1, 1]
    assert await settle_all(settler, messages) == [True] * 9


async def settle_all(settler: Settler, messages: Sequence[Message]) -> list[bool | BaseException]:
    """All sent at one time."""
    outcome = Outcome("sent")
    return await asyncio.gather(
        *(settler.settle(Settled(message, outcome, 0)) for message in messages),
        return_exceptions=True,
    )
