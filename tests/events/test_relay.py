"""The relay against a real broker: everything arrives, each account's events in their order."""

from __future__ import annotations

import asyncio
import random
import signal
import time
from collections.abc import Callable

import asyncpg
import pytest

from ni.events import parse
from ni.session import connected
from tests.events.house import (
    LIMIT_S,
    WAITING,
    WAITING_OF,
    RelayProcess,
    Taker,
    Teller,
    assert_complete,
    first_deliveries,
    until,
    until_empty,
)
from tests.support.broker import VirtualHost
from tests.support.databases import Database

OF_NO_ACCOUNT = "update ni.outbox set account = null, sequence = null"
ACCOUNTS = [f"CZ{number:04}" for number in range(60)]


@pytest.mark.parametrize("buckets", [1, 8])
async def test_everything_arrives_in_its_accounts_order(
    owner: asyncpg.Connection, teller: Teller, taker: Taker, new_relay: Callable[..., RelayProcess]
) -> None:
    await teller.tell(random.choices(ACCOUNTS, k=2000))
    await teller.tell(["HOT"] * 300)
    relay = new_relay(relay_page="100", relay_window="50").start()
    for _ in range(20):
        await teller.tell(random.choices(ACCOUNTS, k=20))
    await until_empty(owner)
    taker.take_all(teller.told)
    assert assert_complete(taker.bodies, teller) == 0, relay.log()
    relay.stop()
    assert relay.process is not None
    assert relay.process.returncode == 0, relay.log()


async def test_an_orderly_stop_under_load_repeats_nothing(
    owner: asyncpg.Connection, teller: Teller, taker: Taker, new_relay: Callable[..., RelayProcess]
) -> None:
    await teller.tell([f"CZ{number:04}" for number in range(2_000)] * 15)
    first = new_relay(relay_page="10000").start()
    while await owner.fetchval(WAITING) > 28_000:
        await asyncio.sleep(0.01)
    began = time.monotonic()
    await asyncio.to_thread(first.stop)
    took_s = time.monotonic() - began
    assert await owner.fetchval(WAITING) > 1_000, "there was nothing left to publish"
    new_relay().start()
    await until_empty(owner)
    taker.take_all(teller.told)
    assert assert_complete(taker.bodies, teller) == 0
    assert took_s < 2, first.log()


async def test_killed_relays_lose_and_invent_nothing(
    owner: asyncpg.Connection, teller: Teller, taker: Taker, new_relay: Callable[..., RelayProcess]
) -> None:
    relay = new_relay(relay_page="50", relay_window="50")
    for _ in range(4):
        await teller.tell(random.choices(ACCOUNTS, k=3000))
        relay.start()
        await until(lambda: taker.take() > 0, relay.log)
        relay.signal(signal.SIGKILL)
    relay.start()
    await until_empty(owner)
    taker.take_all(teller.told)
    assert_complete(taker.bodies, teller)


@pytest.mark.parametrize("how", ["kill", "stop"])
async def test_a_second_relay_takes_over_and_the_first_one_is_fenced(
    owner: asyncpg.Connection, teller: Teller, taker: Taker,
    new_relay: Callable[..., RelayProcess], how: str,
) -> None:  # fmt: skip
    first = new_relay().start()
    await first.until_logged("relay_works")
    await teller.tell(ACCOUNTS)
    await until_empty(owner)
    second = new_relay().start()
    await second.until_logged("relay_stands_by")
    await asyncio.sleep(1)
    assert "relay_works" not in second.log()
    await teller.tell(random.choices(ACCOUNTS, k=20_000))
    await until(lambda: taker.take() > 0, first.log)
    first.signal(signal.SIGKILL if how == "kill" else signal.SIGSTOP)
    began = time.monotonic()
    await second.until_logged("relay_publishes")
    took_s = time.monotonic() - began
    await teller.tell(["LATE"])
    await until_empty(owner)
    taker.take_all(teller.told)
    before = len(taker.bodies)
    assert_complete(taker.bodies, teller)
    assert took_s < 5, (took_s, second.log())
    if how == "stop":
        first.signal(signal.SIGCONT)
        await first.until_logged("relay_waits")
        await teller.tell(ACCOUNTS)
        await until_empty(owner)
        taker.take_all(teller.told)
        assert len(taker.bodies) == before + len(ACCOUNTS), "the woken relay has published"


async def test_a_low_id_that_commits_late_is_delivered(
    database: Database, owner: asyncpg.Connection, teller: Teller, taker: Taker,
    new_relay: Callable[..., RelayProcess],
) -> None:  # fmt: skip
    """Longer than any decision: found when the outbox is read from its start."""
    relay = new_relay(relay_scan_s="2", transaction_timeout_ms="500").start()
    async with connected(database.owner_dsn) as slow:
        transaction = slow.transaction()
        await transaction.start()
        await teller.write(teller.rows(["SLOW", "SLOW"]), slow)
        await relay.until_logged("relay_works")
        for _ in range(10):
            await teller.tell(ACCOUNTS)
            await asyncio.sleep(0.25)
        taker.take()
        assert len(taker.bodies) >= 9 * len(ACCOUNTS)
        await transaction.commit()
    await teller.tell(["SLOW"])
    await until_empty(owner)
    taker.take_all(teller.told)
    assert sorted(first_deliveries(map(parse, taker.bodies))["SLOW"]) == [1, 2, 3]


async def test_decisions_of_the_margin_are_in_order_however_late(
    database: Database, owner: asyncpg.Connection, teller: Teller, taker: Taker,
    new_relay: Callable[..., RelayProcess],
) -> None:  # fmt: skip
    """An account's first event commits within the margin, after later ids of others were read."""
    relay = new_relay().start()
    await relay.until_logged("relay_works")
    async with connected(database.owner_dsn) as slow:
        for _ in range(5):
            async with slow.transaction():
                await teller.write(teller.rows(["SLOW"]), slow)
                for _ in range(4):
                    await teller.tell(ACCOUNTS)
                    await asyncio.sleep(0.1)
            await teller.tell(["SLOW"])
    await until_empty(owner)
    taker.take_all(teller.told)
    assert assert_complete(taker.bodies, teller) == 0


async def test_what_nobody_takes_stays_and_raises_an_alarm(
    amqp: VirtualHost, owner: asyncpg.Connection, teller: Teller, taker: Taker,
    new_relay: Callable[..., RelayProcess],
) -> None:  # fmt: skip
    relay = new_relay(relay_scan_s="2").start()
    await teller.tell(ACCOUNTS * 5)
    await until_empty(owner)
    amqp.delete_bindings("ni.events", taker.queue)
    await teller.tell(ACCOUNTS * 5)
    await relay.until_logged("relay_unroutable")
    assert await owner.fetchval(WAITING) == len(ACCOUNTS) * 5
    amqp.bind("ni.events", taker.queue, "ni.#")
    await teller.tell(ACCOUNTS)
    await until_empty(owner)
    await relay.until_logged("relay_routable_again")
    taker.take_all(teller.told)
    assert assert_complete(taker.bodies, teller) == 0


@pytest.mark.parametrize("page", ["1000", "2"])
async def test_bindings_that_come_and_go_change_no_accounts_order(
    amqp: VirtualHost, owner: asyncpg.Connection, teller: Teller, taker: Taker,
    new_relay: Callable[..., RelayProcess], page: str,
) -> None:  # fmt: skip
    """While one event of an account may come back, its next one is not sent.

    With pages of two rows most of both accounts is parked.
    """
    relay = new_relay(relay_scan_s="1", relay_page=page).start()
    await relay.until_logged("relay_works")
    stop = asyncio.Event()

    def come_and_go() -> None:
        while not stop.is_set():
            amqp.delete_bindings("ni.events", taker.queue)
            amqp.bind("ni.events", taker.queue, "ni.#")

    flapping = asyncio.create_task(asyncio.to_thread(come_and_go))
    for _ in range(15):
        await teller.tell(["HOT", "HOT2"] * 20)
        await asyncio.sleep(0.1)
    stop.set()
    await flapping
    await until_empty(owner)
    taker.take_all(teller.told)
    assert assert_complete(taker.bodies, teller) == 0
    assert "relay_unroutable" in relay.log(), "nothing came back, so nothing was tested"


async def test_what_nobody_takes_is_told_while_much_else_is_read(
    amqp: VirtualHost, owner: asyncpg.Connection, teller: Teller, taker: Taker,
    new_relay: Callable[..., RelayProcess],
) -> None:  # fmt: skip
    """The alarm waits for no end of the outbox, and comes not with every event."""
    amqp.delete_bindings("ni.events", taker.queue)
    amqp.bind("ni.events", taker.queue, "ni.posting.*")
    teller.kind = "ni.hold.placed"
    await teller.tell([f"STUCK{number}" for number in range(50)])
    teller.kind = "ni.posting.created"
    await teller.tell([f"CZ{number:04}" for number in range(2000)] * 6)
    relay = new_relay(relay_page="20", relay_window="20", log_level="info").start()
    await relay.until_logged("relay_unroutable")
    assert await owner.fetchval(WAITING) > 3_000, "that was at the end"
    while await owner.fetchval(WAITING) > 50:
        await asyncio.sleep(0.1)
    assert relay.log().count("relay_unroutable") < 20
    amqp.bind("ni.events", taker.queue, "ni.#")
    await until_empty(owner)
    await relay.until_logged("relay_routable_again")
    taker.take_all(teller.told)
    assert assert_complete(taker.bodies, teller) == 0


async def test_a_type_that_nobody_takes_holds_up_no_other(
    amqp: VirtualHost, owner: asyncpg.Connection, teller: Teller, taker: Taker,
    new_relay: Callable[..., RelayProcess],
) -> None:  # fmt: skip
    """However many of it lie in front, of accounts and of none."""
    amqp.delete_bindings("ni.events", taker.queue)
    amqp.bind("ni.events", taker.queue, "ni.posting.created")
    teller.kind = "ni.posting.cancelled"
    await teller.tell([f"STUCK{number}" for number in range(1_500)])
    await owner.execute(OF_NO_ACCOUNT)
    await teller.tell([f"STUCK{number}" for number in range(1_500)])
    teller.sequences.clear()
    teller.kind = "ni.posting.created"
    relay = new_relay(relay_page="100", relay_window="100", relay_scan_s="1").start()
    await relay.until_logged("relay_unroutable")
    await teller.tell(ACCOUNTS * 20)
    deadline = time.monotonic() + LIMIT_S
    while await owner.fetchval(WAITING) > 3_000:
        assert time.monotonic() < deadline, relay.log()[-3000:]
        await asyncio.sleep(0.1)
    taker.take_all(teller.told)
    assert assert_complete(taker.bodies, teller) == 0
    amqp.bind("ni.events", taker.queue, "ni.#")
    await until_empty(owner)


async def test_a_relay_that_cannot_empty_laps_delivers_all_the_same(
    owner: asyncpg.Connection, teller: Teller, taker: Taker, new_relay: Callable[..., RelayProcess]
) -> None:
    await owner.execute("revoke execute on function ni.turn_outbox_v1 from ni_engine")
    relay = new_relay().start()
    await relay.until_logged("relay_lap_not_emptied")
    await teller.tell(ACCOUNTS)
    await until_empty(owner)
    assert relay.log().count("relay_publishes") == 1, relay.log()
    assert "relay_waits" not in relay.log()
    taker.take_all(teller.told)
    assert assert_complete(taker.bodies, teller) == 0


async def test_what_nobody_took_is_given_out_again_whole(
    amqp: VirtualHost, owner: asyncpg.Connection, teller: Teller, taker: Taker,
    new_relay: Callable[..., RelayProcess],
) -> None:  # fmt: skip
    """Also what was read already when the relay gave up trying."""
    amqp.delete_bindings("ni.events", taker.queue)
    await teller.tell([f"CZ{number:04}" for number in range(300)] * 5)
    relay = new_relay(relay_scan_s="2").start()
    await relay.until_logged("relay_unroutable")
    amqp.bind("ni.events", taker.queue, "ni.#")
    await until_empty(owner)
    taker.take_all(teller.told)
    assert assert_complete(taker.bodies, teller) == 0


async def test_a_hot_account_holds_up_no_other(
    owner: asyncpg.Connection, teller: Teller, taker: Taker, new_relay: Callable[..., RelayProcess]
) -> None:
    """However much of it waits in front of them."""
    await teller.tell(["HOT", "HOT2"] * 2000)
    await teller.tell(ACCOUNTS * 2)
    new_relay(relay_page="100", relay_window="50").start()
    deadline = time.monotonic() + LIMIT_S
    while await owner.fetchval(WAITING_OF, ACCOUNTS):
        assert time.monotonic() < deadline
        await asyncio.sleep(0.02)
    assert await owner.fetchval(WAITING_OF, ["HOT", "HOT2"]) > 2000
    await until_empty(owner)
    taker.take_all(teller.told)
    assert assert_complete(taker.bodies, teller) == 0


async def test_many_hot_accounts_that_are_parked_are_done_in_order_and_soon(
    owner: asyncpg.Connection, teller: Teller, taker: Taker, new_relay: Callable[..., RelayProcess]
) -> None:
    """More of them than the relay reads ahead: nearly all that they have stays in the outbox."""
    await teller.tell([f"CZ{number:04}" for number in range(500)] * 40)
    new_relay(relay_page="10").start()
    await until_empty(owner, 60)
    taker.take_all(teller.told)
    assert assert_complete(taker.bodies, teller) == 0


async def test_what_the_broker_refuses_stays_in_order(
    amqp: VirtualHost, owner: asyncpg.Connection, teller: Teller,
    new_relay: Callable[..., RelayProcess],
) -> None:  # fmt: skip
    """A full queue refuses (nack); as it is emptied, the rest follows in order."""
    with Taker(amqp.url, arguments={"x-max-length": 30, "x-overflow": "reject-publish"}) as small:
        relay = new_relay(relay_scan_s="1").start()
        await teller.tell(random.choices(ACCOUNTS[:5], k=300))
        await relay.until_logged("relay_unroutable")
        assert await owner.fetchval(WAITING) >= 200
        await until(lambda: small.take() > -1 and len(small.bodies) >= 300, relay.log)
        await until_empty(owner)
        assert assert_complete(small.bodies, teller) == 0
