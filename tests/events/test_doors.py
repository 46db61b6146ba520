"""The two doors: the same consumer, RabbitMQ and PostgreSQL."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path
from uuid import UUID, uuid4

import asyncpg
import pytest

from ni.amqp import DEAD, Broker
from ni.embedded_door import OPEN, TAKE
from ni.embedded_queues import pattern_of
from ni.errors import NiError, Unavailable
from ni.event_door import Delivery, Door, open_door
from ni.events import EXTRAS, parse
from ni.settings import Settings
from tests.events.house import RelayProcess, Teller, until_empty
from tests.support.broker import VirtualHost
from tests.support.databases import Database

DOORS = pytest.mark.parametrize("kind", ["rabbitmq", "embedded"])
LIMIT_S = 20.0


@pytest.fixture
def url(kind: str, request: pytest.FixtureRequest) -> str:
    """The broker's address, or none."""
    if kind == "embedded":
        return ""
    host = request.getfixturevalue("amqp")
    assert isinstance(host, VirtualHost)
    return host.url


@pytest.fixture
def settings(database: Database, url: str) -> Settings:
    """As a consumer has them, with short times."""
    return Settings(
        database_url=database.engine_dsn, amqp_url=url, event_lease_s=1, event_attempts_max=3,
        event_poll_ms=10,
    )  # fmt: skip


@pytest.fixture
async def door(settings: Settings, home: Path, owner: asyncpg.Connection) -> AsyncIterator[Door]:
    """The door, with a relay that fills it."""
    made = open_door(settings)
    async with made.consume("ni.test"):
        pass  # now there is a queue
    relay = RelayProcess(home, settings.database_url, settings.amqp_url, event_lease_s="1")
    with relay:
        yield made


async def take(deliveries: AsyncIterator[Delivery], count: int) -> list[Delivery]:
    """The next ones. Raises TimeoutError when they do not come."""
    async with asyncio.timeout(LIMIT_S):
        return [await anext(deliveries) for _ in range(count)]


async def take_and_end(deliveries: AsyncIterator[Delivery], count: int) -> list[Delivery]:
    """The same one by one, each done before the next."""
    taken = []
    for _ in range(count):
        taken += await take(deliveries, 1)
        await taken[-1].ack()
    return taken


async def begin(teller: Teller, deliveries: AsyncIterator[Delivery]) -> None:
    """Have one more event done: then the door gives out as many as it may."""
    await teller.tell(["FIRST"])
    (first,) = await take(deliveries, 1)
    assert parse(first.event_body).subject == "FIRST"
    await first.ack()


def sequences(deliveries: list[Delivery]) -> list[int]:
    return [parse(delivery.event_body).data["sequence"] for delivery in deliveries]


@DOORS
async def test_events_come_in_order_and_go_when_they_are_acknowledged(
    door: Door, teller: Teller
) -> None:
    await teller.tell(["A"] * 30)
    async with door.consume("ni.test", prefetch=10) as deliveries:
        for number in range(30):
            (delivery,) = await take(deliveries, 1)
            assert (sequences([delivery]), delivery.attempt) == ([number + 1], 1)
            await delivery.ack()
    await teller.tell(["A"])
    async with door.consume("ni.test") as deliveries:
        assert sequences(await take(deliveries, 1)) == [31]


@DOORS
async def test_at_most_prefetch_are_in_hand(door: Door, teller: Teller) -> None:
    async with door.consume("ni.test", prefetch=5) as deliveries:
        await begin(teller, deliveries)
        await teller.tell(["A"] * 8)
        held = await take(deliveries, 5)
        assert sequences(held) == [1, 2, 3, 4, 5]
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.5):
                await anext(deliveries)
    async with door.consume("ni.test", prefetch=5) as deliveries:
        for number in range(8):
            (delivery,) = await take(deliveries, 1)
            assert sequences([delivery]) == [number + 1]
            await delivery.ack()


@DOORS
async def test_what_a_dead_consumer_had_comes_again(door: Door, teller: Teller) -> None:
    async with door.consume("ni.test") as deliveries:
        await begin(teller, deliveries)
        await teller.tell(["A", "A"])
        assert [d.attempt for d in await take(deliveries, 2)] == [1, 1]
    async with door.consume("ni.test") as deliveries:
        for number in (1, 2):
            (again,) = await take(deliveries, 1)
            assert (sequences([again]), again.attempt) == ([number], 2)
            await again.ack()


@DOORS
async def test_a_retry_comes_later_and_holds_up_nobody(door: Door, teller: Teller) -> None:
    async with door.consume("ni.test") as deliveries:
        await begin(teller, deliveries)
        await teller.tell(["A", "B"])
        first, second = await take(deliveries, 2)
        began = asyncio.get_running_loop().time()
        await first.retry(0.5)
        await second.ack()
        (again,) = await take(deliveries, 1)
        assert asyncio.get_running_loop().time() - began >= 0.5
        assert (again.event_body, again.attempt) == (first.event_body, 2)
        await again.ack()


@DOORS
async def test_a_retry_that_is_due_comes_beside_what_is_in_hand(door: Door, teller: Teller) -> None:
    """And beside fresh ones: it was in the hands of no consumer that died."""
    async with door.consume("ni.test", prefetch=9) as deliveries:
        await begin(teller, deliveries)
        await teller.tell(["A", "HELD"])
        first, held = await take(deliveries, 2)
        await first.retry(0.2)
        await asyncio.sleep(0.5)
        await teller.tell(["B", "C"])
        came = await take(deliveries, 3)
        assert {parse(one.event_body).subject for one in came} == {"A", "B", "C"}
        for one in (*came, held):
            await one.ack()


@pytest.mark.parametrize("kind", ["embedded"])
async def test_what_a_restart_leaves_comes_one_by_one_without_a_pause(
    door: Door, settings: Settings, teller: Teller, owner: asyncpg.Connection
) -> None:
    await teller.tell(["A"] * 10)
    await until_empty(owner)
    slow = open_door(settings.model_copy(update={"event_poll_ms": 1_000, "event_lease_s": 30}))
    async with slow.consume("ni.test", prefetch=9) as deliveries:
        held = await take(deliveries, 9)
        await held[0].retry(60)
    began = asyncio.get_running_loop().time()
    async with slow.consume("ni.test", prefetch=9) as deliveries:
        again = await take_and_end(deliveries, 9)
    assert sequences(again) == [2, 3, 4, 5, 6, 7, 8, 9, 10]
    assert [one.attempt for one in again] == [2] * 8 + [1]
    assert asyncio.get_running_loop().time() - began < 4
    left = await owner.fetch("select attempt, due_at > now() as later from ni.event_delivery")
    assert [tuple(row) for row in left] == [(1, True)], "what was given back for later is no orphan"


@DOORS
async def test_what_is_delivered_too_often_is_put_aside(
    door: Door, teller: Teller, kind: str, settings: Settings, owner: asyncpg.Connection
) -> None:
    await teller.tell(["A", "B"])
    async with door.consume("ni.test", prefetch=1) as deliveries:
        tries = 0
        while True:
            (delivery,) = await take(deliveries, 1)
            if parse(delivery.event_body).subject == "B":
                await delivery.ack()
                break
            tries += 1
            await delivery.retry(0)
        assert tries in (settings.event_attempts_max, settings.event_attempts_max + 1)
    await _one_is_dead(settings, kind, owner)


@DOORS
async def test_what_cannot_be_done_is_put_aside(
    door: Door, teller: Teller, kind: str, settings: Settings, owner: asyncpg.Connection
) -> None:
    await teller.tell(["A", "B"])
    async with door.consume("ni.test") as deliveries:
        (first,) = await take(deliveries, 1)
        await first.dead_letter("no such number")
        (second,) = await take(deliveries, 1)
        await second.ack()
    await _one_is_dead(settings, kind, owner)


async def _one_is_dead(settings: Settings, kind: str, owner: asyncpg.Connection) -> None:
    """The event of A, with its bytes, where a person finds it."""
    if kind == "embedded":
        row = await owner.fetchrow("select body, reason from ni.event_dead")
        assert row is not None
        assert row["reason"]
        assert parse(row["body"]).subject == "A"
        return
    broker = await Broker.open(settings, "test")
    got: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()
    channel = (await broker.channel()).channel
    channel.basic_consume(DEAD, lambda *message: got.set_result(message[-1]), auto_ack=True)
    async with asyncio.timeout(LIMIT_S):
        assert parse(await got).subject == "A"
    await broker.close()


@DOORS
async def test_a_slow_consumer_keeps_what_it_has(door: Door, teller: Teller) -> None:
    """Longer than the lease of the embedded door, which is kept up."""
    async with door.consume("ni.test", prefetch=2) as mine:
        await begin(teller, mine)
        await teller.tell(["A", "B"])
        held = await take(mine, 2)
        waiting = asyncio.create_task(take(mine, 1))
        async with door.consume("ni.test") as other:
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(2.5):
                    await anext(other)
        waiting.cancel()
        await asyncio.gather(waiting, return_exceptions=True)
        for delivery in held:
            await delivery.ack()


@DOORS
async def test_one_consumer_has_a_queue_and_the_next_one_begins_where_it_ended(
    door: Door, teller: Teller, kind: str
) -> None:
    async with AsyncExitStack() as stack:
        async with door.consume("ni.test", prefetch=2) as first:
            await begin(teller, first)
            await teller.tell(["A"] * 6)
            one, _ = await take(first, 2)
            second = await stack.enter_async_context(door.consume("ni.test", prefetch=9))
            waiting = asyncio.create_task(take_and_end(second, 5))
            await asyncio.sleep(0.5)
            assert not waiting.done()
            await one.ack()
        after = sequences(await waiting)
        # The broker may give back what was in hand after it has given out what comes next.
        assert (after if kind == "embedded" else sorted(after)) == [2, 3, 4, 5, 6]


@pytest.mark.parametrize("kind", ["embedded"])
async def test_what_a_killed_consumer_had_comes_before_later_events(
    door: Door, teller: Teller, owner: asyncpg.Connection
) -> None:
    await teller.tell(["A"] * 6)
    await until_empty(owner)
    holder = uuid4()
    opened = await owner.fetchval(OPEN, "ni.test", "^.*$", False, 100, holder, 1)
    assert opened == "mine"
    killed = await owner.fetch(TAKE, "ni.test", holder, UUID(int=0), 2, 60, 3, True)
    assert len(killed) == 2
    async with door.consume("ni.test", prefetch=9) as deliveries:
        assert sequences(await take_and_end(deliveries, 6)) == [1, 2, 3, 4, 5, 6]
    with pytest.raises(asyncpg.PostgresError, match="another consumer"):
        await owner.fetch(TAKE, "ni.test", holder, UUID(int=0), 2, 60, 3, True)


@pytest.mark.parametrize("kind", ["embedded"])
async def test_what_kills_its_consumer_is_put_aside_alone(
    door: Door, teller: Teller, owner: asyncpg.Connection
) -> None:
    """What else its consumer had in hand does not share its fate. RabbitMQ: `test_poison`."""
    await teller.tell(["A", "B", "KILLER", "C", "D", "E"])
    await until_empty(owner)
    done: list[str | None] = []
    for _ in range(5):
        async with door.consume("ni.test", prefetch=9) as deliveries:
            while len(done) < 5:
                (delivery,) = await take(deliveries, 1)
                if (subject := parse(delivery.event_body).subject) == "KILLER":
                    break
                done.append(subject)
                await delivery.ack()
    assert done == ["A", "B", "C", "D", "E"]
    dead = await owner.fetch("select body from ni.event_dead")
    assert [parse(row["body"]).subject for row in dead] == ["KILLER"]


@DOORS
async def test_a_temporary_queue_takes_nothing_away_and_goes(
    door: Door, teller: Teller, owner: asyncpg.Connection
) -> None:
    async with door.consume("ni.tail", temporary=True) as seen, door.consume("ni.test") as taken:
        await teller.tell(["A", "B"])
        assert len(await take(seen, 2)) == len(await take_and_end(taken, 2)) == 2
    await teller.tell(["C"])
    await until_empty(owner)
    async with door.consume("ni.tail", temporary=True) as seen:
        await teller.tell(["D"])
        assert parse((await take(seen, 1))[0].event_body).subject == "D"


@pytest.mark.parametrize("kind", ["embedded"])
async def test_the_door_of_a_lost_database_raises(
    door: Door, database: Database, owner: asyncpg.Connection
) -> None:
    async with door.consume("ni.test") as deliveries:
        await owner.execute("revoke usage on schema ni from ni_engine")
        with pytest.raises(Unavailable):
            await take(deliveries, 1)


@pytest.mark.parametrize("kind", ["rabbitmq"])
async def test_the_door_of_a_deleted_queue_raises(door: Door, amqp: VirtualHost) -> None:
    async with door.consume("ni.test") as deliveries:
        waiting = asyncio.create_task(take(deliveries, 1))
        await asyncio.sleep(0.1)
        amqp.delete_queue("ni.test")
        with pytest.raises(Unavailable):
            await waiting


@pytest.mark.parametrize("kind", ["rabbitmq"])
async def test_a_queue_with_another_limit_says_what_to_do(door: Door, settings: Settings) -> None:
    other = open_door(settings.model_copy(update={"event_attempts_max": 4}))
    with pytest.raises(NiError, match="NI_EVENT_ATTEMPTS_MAX"):
        async with other.consume("ni.test"):
            pass


@pytest.mark.parametrize("url", ["http://x", "amqp://127.0.0.1:1/", "nonsense"])
async def test_an_address_that_does_not_answer_is_told_without_its_password(url: str) -> None:
    settings = Settings(amqp_url=url.replace("//", "//user:secret@"), amqp_timeout_ms=2000)
    with pytest.raises(NiError) as told:
        async with open_door(settings).consume("ni.test"):
            pass
    assert "secret" not in str(told.value)


@pytest.mark.parametrize(
    ("patterns", "taken"),
    [
        (["ni.#"], set(EXTRAS)),
        (["#"], set(EXTRAS)),
        (["ni.hold.*"], {name for name in EXTRAS if name.startswith("ni.hold.")}),
        (["ni.day.closed", "ni.*.booked"], {"ni.day.closed", "ni.posting.booked"}),
        (["ni.day"], set()),
        (["ni.hold.placed.#"], {"ni.hold.placed"}),
    ],
    ids=["all", "every", "holds", "two", "none", "rest"],
)
def test_patterns(patterns: list[str], taken: set[str]) -> None:
    assert {name for name in EXTRAS if re.search(pattern_of(patterns), name)} == taken
