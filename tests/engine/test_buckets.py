"""Eight buckets: postings between customers of two have a second row for the other's movements."""

from __future__ import annotations

import json
from typing import Any
from uuid import UUID

import pytest

from ni.decisions import Decision
from ni.identifiers import bucket_of
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

pytestmark = pytest.mark.parametrize("buckets", [8])

_ROWS = (
    "select bucket, home, status from ni.posting where posting_id = $1 order by home desc, bucket"
)


async def rows_of(world: World, posting: UUID) -> list[tuple[int, bool, str]]:
    """Bucket, home and status of a posting's rows, the home row first."""
    return [tuple(row) for row in await world.owner.fetch(_ROWS, posting)]


async def movements(world: World, account: str, **more: Any) -> list[dict[str, Any]]:
    """An account's movements, newest first."""
    page = await world.reads.movements(account, more.get("reference"), None, 50)
    assert page is not None
    return [json.loads(document) for document in page.documents]


@pytest.mark.parametrize("way", [(2, 5), (5, 2)])
async def test_a_posting_between_two_buckets_has_two_rows(
    world: World, way: tuple[int, int]
) -> None:
    """One at home with the debit customer, one where the credit customer lives; both follow."""
    one, two = [await world.open_in(bucket) for bucket in way]
    answer = await world.engine.submit(debit(one, 100, credit=two, reference="rent"))
    posting = id_of(answer)
    assert posting.int & 0xFFFF == way[0]
    assert await rows_of(world, posting) == [(way[0], True, "pending"), (way[1], False, "pending")]
    for name in (one, two):
        assert [m["posting_id"] for m in await movements(world, name)] == [str(posting)]
        (found,) = await movements(world, name, reference="rent")
        assert found == {"movement": "posting", **json.loads(answer.document)}
    assert (await world.available(one), await world.available(two)) == (999_00, 1001_00)
    cancelled = made(await world.engine.submit(cancel(posting)))
    assert {row[2] for row in await rows_of(world, posting)} == {"cancelled"}
    for name in (one, two):
        (found,) = await movements(world, name)
        assert found == {"movement": "posting", **cancelled}
    assert (await world.available(one), await world.available(two)) == (1000_00, 1000_00)
    assert await world.bank.faults() == []


async def test_one_bucket_or_one_customer_is_one_row(world: World) -> None:
    """The home is the debit customer's bucket, else the credit customer's, else the debit's."""
    one, two = [await world.open_in(3) for _ in range(2)]
    for command, bucket in [
        (debit(one, 1, credit=two), 3),
        (debit(one, 1), 3),
        (debit(CASH, 1, credit=one), 3),
        (debit(CASH, 1, credit=FEES), bucket_of(CASH, 8)),
    ]:
        posting = id_of(await world.engine.submit(command))
        assert await rows_of(world, posting) == [(bucket, True, "pending")]
        assert posting.int & 0xFFFF == bucket
        made(await world.engine.submit(cancel(posting)))


async def test_a_capture_between_two_buckets(world: World) -> None:
    one, two = [await world.open_in(bucket) for bucket in (6, 1)]
    held = id_of(await world.engine.submit(hold(one, 100)))
    assert held.int & 0xFFFF == 6
    posting = id_of(await world.engine.submit(capture(held, "0.40", credit_account=two)))
    assert await rows_of(world, posting) == [(6, True, "pending"), (1, False, "pending")]
    assert (await world.available(one), await world.available(two)) == (1000_00 - 40, 1000_40)
    assert [m["movement"] for m in await movements(world, one)] == ["posting", "hold"]
    assert [m["movement"] for m in await movements(world, two)] == ["posting"]


async def test_what_internal_accounts_have_pending_is_summed_over_all_buckets(world: World) -> None:
    """Every posting counts once, whichever bucket it is in and however many rows it has."""
    names = [await world.open_in(bucket) for bucket in range(8)]
    for name in names:
        made(await world.engine.submit(debit(name, 10)))
        made(await world.engine.submit(debit(CASH, 3, credit=name)))
    last = id_of(await world.engine.submit(debit(FEES, 5, credit=CASH)))
    made(await world.engine.submit(debit(names[0], 4, credit=names[1])))
    assert (await world.balance(CASH))["pending"] == f"0.{8 * 7 + 5}"
    assert len(await movements(world, CASH)) == 17
    made(await world.engine.submit(cancel(last)))
    assert (await world.balance(CASH))["pending"] == f"0.{8 * 7}"
    async with world.stranger() as packet:
        await unload(packet)
    balance = await world.balance(CASH)
    assert (balance["booked"], balance["pending"]) == ("0.56", "0.00")
    assert await world.available(names[1]) == 1000_00 - 7 + 4
    assert await world.bank.faults() == []


async def test_ids_of_buckets_that_do_not_exist(world: World) -> None:
    """A foreign id names nothing, and its refusal is kept under the key like any other."""
    foreign = UUID(int=UUID("01900000-0000-7000-8000-000000000000").int | 999)
    commands = [cancel(foreign, key="c"), capture(foreign, key="h")]
    for replayed in (False, True):
        answers = await world.engine.submit_batch(commands, atomic=False)
        assert decisions(answers) == ["posting_not_found", "hold_not_found"]
        assert [answer.replayed for answer in answers] == [replayed] * 2
    assert await world.reads.posting(foreign) is None
    assert await world.reads.hold(foreign) is None


async def test_a_key_belongs_to_the_bucket_of_its_first_account(world: World) -> None:
    """On accounts of different buckets the same key is two requests, as the documents say."""
    one, two, three = [await world.open_in(bucket) for bucket in (1, 2, 1)]
    first = await world.engine.submit(debit(one, 1, key="same"))
    other = await world.engine.submit(debit(two, 1, key="same"))
    third = await world.engine.submit(debit(three, 1, key="same", fingerprint=b"another"))
    made(first)
    assert (other.decision, other.replayed) == (Decision.approved, False)
    assert third.decision is Decision.idempotency_key_reused
