"""How queues in PostgreSQL are filled: who counts, in which order, and beside whom."""

from __future__ import annotations

import asyncio
import random
import signal
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Final, cast
from uuid import uuid4

import asyncpg
import pytest

from ni.database import close_pool, open_pool
from ni.deliveries import Delivery
from ni.embedded_door import DROP, LEAVE, OPEN
from ni.embedded_queues import DELIVER, EmbeddedSink
from ni.errors import Unavailable
from ni.event_door import open_door
from ni.events import parse
from ni.outbox import LAP, Outbox
from ni.session import connected
from ni.settings import Settings
from tests.events.house import (
    WAITING,
    RelayProcess,
    Teller,
    assert_complete,
    first_deliveries,
    until,
    until_empty,
)
from tests.support.databases import Database

SHORT_S: Final = 1.0
LIMIT_S: Final = 20.0
MOVE: Final = "update ni.outbox set lap = 8 where account = 'A' and sequence = 1"
COUNT_ENDS: Final = Path(__file__).with_name("count_ends.sql").read_text()
ENDS: Final = "select last_value from ni.ends"
REFUSE_ENDS: Final = Path(__file__).with_name("refuse_ends.sql").read_text()
GIVEN: Final = "select event_id from ni.event_delivery where queue = $1"


@pytest.fixture
def settings(database: Database) -> Settings:
    """As a consumer has them, with short times."""
    return Settings(database_url=database.engine_dsn, event_lease_s=1, event_poll_ms=10)


class Side:
    """A relay's reader and the queues that it fills."""

    def __init__(self, pool: asyncpg.Pool, settings: Settings) -> None:
        self.outbox: Final = Outbox(pool, settings, 1)
        self.sink: Final = EmbeddedSink(pool, settings)

    async def deliver(self) -> None:
        """What one page has."""
        await self.sink.deliver(self.outbox, await self.outbox.page(1000))


@pytest.fixture
async def pool(settings: Settings) -> AsyncIterator[asyncpg.Pool]:
    """The sessions of a relay."""
    made = await open_pool(settings, "day", 2)
    yield made
    await close_pool(made)


@pytest.fixture
def side(pool: asyncpg.Pool, settings: Settings) -> Side:
    """A relay that does one step at a time."""
    return Side(pool, settings)


async def make_queue(settings: Settings, queue: str = "ni.test") -> None:
    """Open a lasting queue and leave it."""
    async with open_door(settings).consume(queue):
        pass


async def bodies(settings: Settings, count: int) -> list[bytes]:
    """So many events of the queue, each done."""
    found = []
    async with open_door(settings).consume("ni.test") as deliveries, asyncio.timeout(LIMIT_S):
        for _ in range(count):
            delivery: Delivery = await anext(deliveries)
            await delivery.ack()
            found.append(delivery.event_body)
    return found


async def given_now(owner: asyncpg.Connection) -> list[bytes]:
    """What lies in the queues, each done."""
    rows = await owner.fetch("delete from ni.event_delivery returning event_id, body")
    return [row["body"] for row in sorted(rows, key=lambda row: row["event_id"])]


async def test_a_follower_alone_is_given_nothing(
    settings: Settings, home: Path, teller: Teller, owner: asyncpg.Connection
) -> None:
    """What waits for the first lasting queue is there when that comes, all of it."""
    await teller.tell(["A", "B"])
    with RelayProcess(home, settings.database_url, "", relay_scan_s="1") as relay:
        await relay.until_logged("relay_unroutable")
        async with open_door(settings).consume("ni.tail", temporary=True) as followed:
            await teller.tell(["A", "C"])
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(3 * SHORT_S):
                    await anext(followed)
        assert await owner.fetchval(WAITING) == 4
        await make_queue(settings)
        await until_empty(owner)
        await until(lambda: "relay_routable_again" in relay.log(), relay.log)
    assert assert_complete(await bodies(settings, 4), teller) == 0


async def test_nothing_overtakes_what_waited_for_the_first_queue(
    settings: Settings, side: Side, teller: Teller, owner: asyncpg.Connection
) -> None:
    """Whenever the queue appears, an account's first deliveries are in its order."""
    await teller.tell(["A", "B"])
    await side.deliver()
    await make_queue(settings)
    await teller.tell(["A", "B", "C"])
    taken = []
    for _ in range(3):
        await side.deliver()
        taken += await given_now(owner)
    side.sink.start_over(side.outbox)
    await side.deliver()
    taken += await given_now(owner)
    assert await owner.fetchval(WAITING) == 0
    assert first_deliveries(map(parse, taken)) == {"A": [1, 2], "B": [1, 2], "C": [1]}


async def test_a_queue_that_appears_within_a_page_changes_no_order(
    settings: Settings, side: Side, teller: Teller, owner: asyncpg.Connection, pool: asyncpg.Pool
) -> None:
    """A page is given lap by lap, each in a commit of its own."""
    await teller.tell(["A", "A"])
    await owner.execute(MOVE)
    rows = await side.outbox.page(10)
    assert len({row[LAP] for row in rows}) == 2
    hasty = EmbeddedSink(cast(asyncpg.Pool, _MakesAQueue(pool, settings)), settings)
    await hasty.deliver(side.outbox, rows)
    taken = await given_now(owner)
    side.outbox.start_over()
    await side.deliver()
    taken += await given_now(owner)
    assert first_deliveries(map(parse, taken)) == {"A": [1, 2]}


class _MakesAQueue:
    """A pool beside which a queue appears as soon as something was asked."""

    def __init__(self, pool: asyncpg.Pool, settings: Settings) -> None:
        self._pool, self._settings = pool, settings

    async def fetchval(self, statement: str, *words: object) -> object:
        answer: object = await self._pool.fetchval(statement, *words)
        await make_queue(self._settings)
        return answer


async def test_the_first_queue_gets_soon_what_waits_for_it(
    settings: Settings, side: Side, teller: Teller, owner: asyncpg.Connection
) -> None:
    """Not only with the next round, which may be far off by then."""
    await teller.tell(["A", "B"])
    await side.deliver()
    await make_queue(settings)
    await asyncio.sleep(1.1 * SHORT_S)
    for _ in range(2):
        await side.deliver()
    assert await owner.fetchval(WAITING) == 0


async def test_a_relay_that_slept_delivers_nothing_again(
    settings: Settings, side: Side, teller: Teller, owner: asyncpg.Connection, pool: asyncpg.Pool
) -> None:
    """The page that it has in hand was delivered by another one, and what came of it is done."""
    await make_queue(settings)
    await teller.tell(["A", "B"])
    rows = await side.outbox.page(1)
    await Side(pool, settings).deliver()
    assert len(await given_now(owner)) == 2
    await side.sink.deliver(side.outbox, rows)
    assert await owner.fetch(GIVEN, "ni.test") == []
    await teller.tell(["A"])
    for _ in range(2):
        await side.deliver()
    assert len(await owner.fetch(GIVEN, "ni.test")) == 1


async def test_relays_that_die_or_sleep_and_followers_that_come_and_go(
    settings: Settings, home: Path, teller: Teller, owner: asyncpg.Connection
) -> None:
    """A lasting consumer gets each event once, in order, and nothing is left behind."""
    relays = [RelayProcess(home, settings.database_url, "", relay_page="20") for _ in range(2)]
    door = open_door(settings)
    async with door.consume("ni.test", prefetch=100) as deliveries:
        taken: list[bytes] = []
        taking = asyncio.create_task(_take_on(deliveries, taken))
        with relays[0], relays[1]:
            for number in range(4):
                relay = relays[number % 2]
                fault = signal.SIGKILL if number < 2 else signal.SIGSTOP
                async with door.consume("ni.tail", temporary=True):
                    await teller.tell(random.choices("ABCDEFGH", k=300))
                    await until(lambda: len(taken) > teller.told - 250)
                    relay.signal(fault)
                await teller.tell(random.choices("ABCDEFGH", k=50))
                await until(lambda: len(taken) > teller.told - 30)
                if fault is signal.SIGKILL:
                    relay.start()
                else:
                    relay.signal(signal.SIGCONT)
            await until_empty(owner)
            await until(lambda: len(taken) >= teller.told)
        taking.cancel()
    assert assert_complete(taken, teller) == 0
    assert await owner.fetch("select queue from ni.event_delivery") == []


async def _take_on(deliveries: AsyncIterator[Delivery], taken: list[bytes]) -> None:
    async for delivery in deliveries:
        taken.append(delivery.event_body)
        await delivery.ack()


async def test_a_follower_that_leaves_while_events_are_given_leaves_nothing(
    database: Database, settings: Settings, teller: Teller, owner: asyncpg.Connection
) -> None:
    await _two_queues(settings, owner)
    given = await _one_page(teller, owner)
    async with connected(database.owner_dsn) as relay:
        async with relay.transaction():
            await relay.fetchval(DELIVER, *given)
            leaving = asyncio.create_task(owner.execute(DROP, "ni.tail"))
            await asyncio.sleep(SHORT_S / 2)
        await leaving
    assert await owner.fetch(GIVEN, "ni.tail") == []
    assert len(await owner.fetch(GIVEN, "ni.test")) == 2


async def test_a_follower_that_is_leaving_is_given_nothing_and_holds_up_nobody(
    database: Database, settings: Settings, teller: Teller, owner: asyncpg.Connection
) -> None:
    await _two_queues(settings, owner)
    given = await _one_page(teller, owner)
    async with connected(database.owner_dsn) as follower:
        async with follower.transaction():
            await follower.execute(DROP, "ni.tail")
            async with asyncio.timeout(LIMIT_S / 2):
                await owner.fetchval(DELIVER, *given)
    assert await owner.fetch(GIVEN, "ni.tail") == []
    assert len(await owner.fetch(GIVEN, "ni.test")) == 2


async def test_consumers_come_and_go_while_events_are_given(
    database: Database, settings: Settings, teller: Teller, owner: asyncpg.Connection
) -> None:
    """Neither waits for the other."""
    await _two_queues(settings, owner)
    given = await _one_page(teller, owner)
    async with connected(database.owner_dsn) as relay, relay.transaction():
        await relay.fetchval(DELIVER, *given)
        async with asyncio.timeout(LIMIT_S / 2):
            holder = uuid4()
            assert await owner.fetchval(OPEN, "ni.test", "^.*$", False, 100, holder, 60) == "mine"
            await owner.execute(LEAVE, "ni.test", holder)
            assert await owner.fetchval(OPEN, "ni.new", "^.*$", True, 100, holder, 60) == "mine"


async def test_what_is_done_with_is_ended_together(
    settings: Settings, side: Side, teller: Teller, owner: asyncpg.Connection
) -> None:
    await make_queue(settings)
    await teller.tell([f"A{number}" for number in range(100)])
    await side.deliver()
    await owner.execute(COUNT_ENDS)
    assert assert_complete(await bodies(settings, 100), teller) == 0
    assert await owner.fetch(GIVEN, "ni.test") == []
    assert await owner.fetchval(ENDS) <= 3


async def test_what_could_not_be_ended_comes_again(
    settings: Settings, side: Side, teller: Teller, owner: asyncpg.Connection
) -> None:
    await make_queue(settings)
    await teller.tell(["A", "B"])
    await side.deliver()
    await owner.execute(REFUSE_ENDS)
    async with open_door(settings).consume("ni.test") as deliveries, asyncio.timeout(LIMIT_S):
        first, second = [await anext(deliveries) for _ in range(2)]
        await first.ack()
        with pytest.raises(Unavailable):
            await anext(deliveries)
        with pytest.raises(Unavailable):
            await second.ack()
    await owner.execute("drop trigger refuse_end on ni.event_delivery")
    assert assert_complete(await bodies(settings, 2), teller) == 0


async def _two_queues(settings: Settings, owner: asyncpg.Connection) -> None:
    await make_queue(settings)
    assert await owner.fetchval(OPEN, "ni.tail", "^.*$", True, 100, uuid4(), 60) == "mine"


async def _one_page(teller: Teller, owner: asyncpg.Connection) -> tuple[object, ...]:
    """Two events in the outbox, as they are given to the queues."""
    await teller.tell(["A", "B"])
    rows = await owner.fetch("select event_id, type, lap from ni.outbox order by event_id")
    ids, types, laps = ([row[number] for row in rows] for number in range(3))
    assert len(set(laps)) == 1
    return 0, laps[0], ids, types, [b"{}"] * len(ids)
