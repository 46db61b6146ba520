"""Pages of the outbox: complete, in order, and bounded whatever lies in it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Final

import asyncpg
import pytest

from ni.database import close_pool, open_pool
from ni.outbox import SEEN_MAX, Outbox, Row
from ni.session import connected
from ni.settings import Settings
from tests.events.house import Teller, first_read, now_us
from tests.support.databases import Database

SHORT: Final = 50
"""A transaction's limit in milliseconds; the margin is then a second and a tenth."""
CLOCK: Final = "create or replace function ni.clock() returns timestamptz language sql volatile as"


@pytest.fixture
def limit_ms() -> int:
    """The limit of a decision's transaction, which the margin follows."""
    return 2_000


@pytest.fixture
async def outbox(database: Database, buckets: int, limit_ms: int) -> AsyncIterator[Outbox]:
    """Read by nobody yet."""
    pool = await open_pool(Settings(database_url=database.engine_dsn), "day", 1)
    made = Outbox(pool, Settings(transaction_timeout_ms=limit_ms), buckets)
    made.start_over()
    yield made
    await close_pool(pool)


async def to_the_end(
    outbox: Outbox, size: int, without: list[str] | None = None
) -> list[list[Row]]:
    """Pages until everything was read."""
    pages = []
    while not outbox.is_at_end:
        pages.append(await outbox.page(size, without or []))
    return pages


async def write_old(teller: Teller, accounts: list[str]) -> None:
    """Events of an hour ago: a floor passes them at once."""
    await teller.write(teller.rows(accounts, now_us() - 3_600_000_000))


async def test_what_is_left_out_is_walked_over_in_bounded_steps(
    outbox: Outbox, teller: Teller
) -> None:
    await write_old(teller, ["HOT", "HOT2"] * (SEEN_MAX + 500))
    await write_old(teller, ["A", "B"])
    first = await outbox.page(10, ["HOT", "HOT2"])
    assert len(first) == 1, "how far it came"
    assert not outbox.is_at_end
    assert outbox.has_more
    pages = await to_the_end(outbox, 10, ["HOT", "HOT2"])
    assert len(pages) == 2
    given = [row["account"] for page in pages for row in page]
    assert [name for name in given if name in ("A", "B")] == ["A", "B"]
    assert len(given) <= 3


async def test_fresh_ones_that_are_left_out_do_not_hide_what_is_behind(
    outbox: Outbox, teller: Teller
) -> None:
    """The floor cannot follow: something may still be committed below."""
    await teller.write(teller.rows(["HOT"] * (SEEN_MAX + 5_000), now_us() - 100_000))
    await teller.tell(["A"])
    for _ in range(3):
        rows = await outbox.page(10, ["HOT"])
        if rows and rows[-1]["account"] == "A":
            break
    else:
        pytest.fail("A is never seen")


@pytest.mark.parametrize("buckets", [64])
async def test_a_page_is_about_its_size_however_many_buckets_there_are(
    outbox: Outbox, teller: Teller
) -> None:
    accounts = [f"CZ{number}" for number in range(500)] * 8 + ["HOT"] * 2_000
    await write_old(teller, accounts)
    pages = await to_the_end(outbox, 100)
    assert max(map(len, pages)) <= 200
    assert sum(map(len, pages)) == len(accounts)
    found = first_read(row for page in pages for row in page)
    assert found == {name: list(range(1, last + 1)) for name, last in teller.sequences.items()}
    assert len(pages) <= 4 * len(accounts) / 100, "one full bucket alone gets the others' room"
    assert await outbox.page(100) == []


@pytest.mark.parametrize("limit_ms", [SHORT])
async def test_what_was_skipped_is_not_given_out_again_when_the_floor_passes_it(
    outbox: Outbox, teller: Teller, owner: asyncpg.Connection
) -> None:
    await teller.tell(["A", "B"])
    await owner.execute("update ni.outbox set account = null, sequence = null")
    first, second = await outbox.page(10)
    outbox.skip(first["event_id"])
    await asyncio.sleep(1.3)
    for _ in range(3):
        assert await outbox.page(10) == []
    outbox.start_over()
    assert [row["event_id"] for row in await outbox.page(10)] == [first["event_id"]]
    outbox.skip(second["event_id"])
    outbox.start_over()
    assert [row["event_id"] for row in await outbox.page(10)] == [second["event_id"]]


async def test_a_clock_that_goes_back_loses_nothing(outbox: Outbox, teller: Teller) -> None:
    """New ids are then below the floor: the outbox is read from its start at once."""
    await teller.owner.execute(f"{CLOCK} 'select clock_timestamp()'")
    await teller.tell(["A"])
    assert len(await outbox.page(100)) == 1
    await teller.owner.execute(f"{CLOCK} $$select clock_timestamp() - interval '1 hour'$$")
    await teller.write(teller.rows(["A"], now_us() - 3_600_000_000))
    assert await outbox.page(100) == []
    assert [row["sequence"] for row in await outbox.page(100)] == [2]


async def test_a_clock_that_went_back_between_two_pages_is_noticed(
    outbox: Outbox, teller: Teller
) -> None:
    """Also when the second one reads a later time than the first."""
    await teller.owner.execute(f"{CLOCK} 'select clock_timestamp()'")
    await teller.tell(["A"])
    assert len(await outbox.page(100)) == 1
    await outbox.page(100)
    await asyncio.sleep(1.5)
    await teller.owner.execute(f"{CLOCK} $$select clock_timestamp() - interval '1 second'$$")
    began = outbox.started_at
    assert await outbox.page(100) == []
    assert outbox.started_at > began
    assert await outbox.page(100) == [], "what was given out already is not given out again"


@pytest.mark.parametrize("over", [False, True])
async def test_a_clock_that_goes_forward_changes_no_order(
    outbox: Outbox, teller: Teller, database: Database, over: bool
) -> None:
    """What a transaction has had open since before is not old yet, whatever the clock says now."""
    hour_us = 3_600_000_000
    await teller.owner.execute(f"{CLOCK} 'select clock_timestamp()'")
    await teller.tell(["A"])
    assert len(await outbox.page(100)) == 1
    async with connected(database.owner_dsn) as slow:
        async with slow.transaction():
            await teller.write(teller.rows(["A"]), slow)
            await teller.owner.execute(f"{CLOCK} $$select clock_timestamp() + interval '1 hour'$$")
            if over:
                outbox.start_over()
            await teller.write(teller.rows(["B"], now_us() + hour_us))
            assert [row["account"] for row in await outbox.page(100)] == ["B"]
    await teller.write(teller.rows(["A"], now_us() + hour_us))
    assert [row["sequence"] for row in await outbox.page(100)] == [2, 3]


@pytest.mark.parametrize("limit_ms", [SHORT])
async def test_after_a_step_forward_the_floor_moves_on(outbox: Outbox, teller: Teller) -> None:
    """As soon as nothing from before the step can be open any more."""
    await teller.owner.execute(f"{CLOCK} 'select clock_timestamp()'")
    assert await outbox.page(100) == []
    await teller.owner.execute(f"{CLOCK} $$select clock_timestamp() + interval '1 hour'$$")
    assert await outbox.page(100) == []
    await asyncio.sleep(1.3)
    assert await outbox.page(100) == []
    await teller.write(teller.rows(["A"], now_us() + 3_600_000_000 - 3_000_000))
    assert await outbox.page(100) == [], "below the floor"
    outbox.start_over()
    assert len(await outbox.page(100)) == 1
