"""Messages out: each account in order, none held up by another, tried until a limit."""

from __future__ import annotations

import asyncio
import json
from datetime import timedelta

import pytest
from structlog.testing import capture_logs

from ni.clock import utc_now
from ni.sms.gateway import Outcome, open_gateway
from ni.sms.sender import Sender
from tests.sms.gateway_server import GatewayServer, Received, Reply, accept
from tests.sms.scene import Scene, until
from tests.sms.sending import A, B, C, all_done, amounts, sending, take_numbered
from tests.support.clock import install_clock, set_clock


@pytest.mark.parametrize("buckets", [1, 8])
async def test_each_account_is_told_in_order(
    scene: Scene, gateway: GatewayServer, buckets: int
) -> None:
    accounts = [f"CZ{number:010}" for number in range(1000, 1012)]
    await scene.subscribe(*accounts)
    for account in accounts:
        await take_numbered(scene, account, 6, buckets)
    async with sending(scene, gateway, buckets):
        await until(lambda: all_done(scene))
    for account in accounts:
        found = amounts(gateway, account[-4:])
        assert found == [f"{n}.00" for n in range(1, 7)]
    assert len(gateway.received) == 72
    assert set((await scene.statuses()).values()) == {"sent"}


@pytest.mark.parametrize("limits", [{"sms_failures_max": 1_000}])
async def test_order_holds_through_failures_and_repeats(
    scene: Scene, gateway: GatewayServer
) -> None:
    failures = [Reply(500), Reply(cut=3), Reply(429), Reply(body=b"OK"), Reply(302), Reply()]

    def whimsical(_: Received) -> Reply:
        return failures[len(gateway.received) * 7 % len(failures)]

    gateway.behaviour = whimsical
    await scene.subscribe(A, B)
    for account in (A, B):
        await take_numbered(scene, account, 5)
    async with sending(scene, gateway):
        await until(lambda: all_done(scene), 60)
    for account in (A, B):
        assert amounts(gateway, account[-4:]) == [f"{n}.00" for n in range(1, 6)]
    assert gateway.changed() == set()
    assert set((await scene.statuses()).values()) == {"sent"}


@pytest.mark.parametrize("limits", [{"sms_timeout_ms": 3_000, "sms_connections": 2}])
async def test_two_senders_do_not_overtake_each_other(scene: Scene, gateway: GatewayServer) -> None:
    gateway.behaviour = lambda got: Reply(delay_s=0.05 if "1.00" in got.text else 0)
    await scene.subscribe(A, B, C)
    for account in (A, B, C):
        await take_numbered(scene, account, 8)
    async with sending(scene, gateway), sending(scene, gateway):
        await until(lambda: all_done(scene))
    for account in (A, B, C):
        assert amounts(gateway, account[-4:]) == [f"{n}.00" for n in range(1, 9)]
    assert len(gateway.received) == 24


@pytest.mark.parametrize("limits", [{"sms_timeout_ms": 20_000, "sms_connections": 4}])
async def test_an_account_that_hangs_holds_up_no_other(
    scene: Scene, gateway: GatewayServer
) -> None:
    gateway.behaviour = lambda got: Reply(delay_s=3 if A[-4:] in got.text else 0)
    await scene.subscribe(A, B)
    await take_numbered(scene, A, 3)
    await take_numbered(scene, B, 20)
    async with sending(scene, gateway):
        await until(lambda: len(gateway.texts(B[-4:])) == 20, 2.5, "all of the other account")
        assert amounts(gateway, A[-4:]) == ["1.00"]
        for account in (A, B):
            await scene.owner.execute("delete from ni.sms_message where account = $1", account)


@pytest.mark.parametrize("limits", [{"sms_pause_ms": 60_000, "sms_pause_max_s": 60}])
async def test_an_account_that_fails_pauses_alone(scene: Scene, gateway: GatewayServer) -> None:
    gateway.behaviour = lambda got: Reply(500) if A[-4:] in got.text else Reply()
    await scene.subscribe(A, B)
    await take_numbered(scene, A, 2)
    async with sending(scene, gateway):
        await until(lambda: len(gateway.received) == 1)
        await take_numbered(scene, B, 10)
        await until(lambda: len(gateway.texts(B[-4:])) == 10, 5)
    assert amounts(gateway, A[-4:]) == ["1.00"]


@pytest.mark.parametrize("limits", [{"sms_pause_max_s": 2}])
async def test_a_pause_that_the_gateway_wants_is_everybodys(
    scene: Scene, gateway: GatewayServer
) -> None:
    asked = asyncio.Event()

    def busy(_: Received) -> Reply:
        if asked.is_set():
            return Reply()
        asked.set()
        return Reply(429, headers={"Retry-After": "1"})

    gateway.behaviour = busy
    await scene.subscribe(A, B)
    await take_numbered(scene, A, 1)
    async with sending(scene, gateway):
        await until(asked.is_set)
        await until(lambda: tried_and_settled(scene))
        await take_numbered(scene, B, 2)
        await until(lambda: all_done(scene))
    first, *others = gateway.received
    assert min(one.at for one in others) - first.at >= 0.9
    assert (await scene.rows())[0]["failures"] == 1, "a try that the gateway did not want counts"


async def tried_and_settled(scene: Scene) -> bool:
    return (await scene.rows())[0]["reason"] is not None


@pytest.mark.parametrize("limits", [{"sms_failures_max": 4}])
async def test_what_fails_too_often_is_dead_and_the_next_is_sent(
    scene: Scene, gateway: GatewayServer
) -> None:
    gateway.behaviour = lambda got: Reply(500) if "CZK 1.00" in got.text else Reply()
    await scene.subscribe(A)
    await take_numbered(scene, A, 2)
    async with sending(scene, gateway):
        await until(lambda: all_done(scene))
    first, second = await scene.rows()
    assert (first["status"], first["reason"], first["tries"]) == ("dead", "failures status_500", 4)
    assert second["status"] == "sent"
    assert [one.text for one in gateway.received[:4]] == [first["text"]] * 4
    assert len(gateway.received) == 5


async def test_what_is_refused_is_dead_at_once(scene: Scene, gateway: GatewayServer) -> None:
    gateway.behaviour = lambda got: Reply(422) if "CZK 1.00" in got.text else Reply()
    await scene.subscribe(A)
    await take_numbered(scene, A, 2)
    async with sending(scene, gateway):
        await until(lambda: all_done(scene))
    assert [row["status"] for row in await scene.rows()] == ["dead", "sent"]
    assert len(gateway.received) == 2


@pytest.mark.parametrize("limits", [{"sms_failures_max": 2}])
async def test_a_gateway_that_is_away_makes_nothing_dead(
    scene: Scene, gateway: GatewayServer
) -> None:
    await gateway.stop()
    await scene.subscribe(A, B)
    await take_numbered(scene, A, 2)
    await take_numbered(scene, B, 2)
    async with sending(scene, gateway):
        await until(lambda: many_tries(scene))
        assert set((await scene.statuses()).values()) == {"waiting"}
        await gateway.start()
        await until(lambda: all_done(scene))
    assert set((await scene.statuses()).values()) == {"sent"}
    await gateway.stop()


async def many_tries(scene: Scene) -> bool:
    return any(row["tries"] > 5 for row in await scene.rows())


@pytest.mark.parametrize("limits", [{"sms_pause_ms": 200, "sms_pause_max_s": 1}])
async def test_a_dead_gateway_is_not_asked_by_every_account(
    scene: Scene, gateway: GatewayServer
) -> None:
    gateway.behaviour = lambda _: Reply(500)
    accounts = [f"CZ{number:010}" for number in range(1000, 1060)]
    await scene.subscribe(*accounts)
    for account in accounts:
        await take_numbered(scene, account, 1)
    async with sending(scene, gateway):
        await until(lambda: len(gateway.received) >= 8)
        await asyncio.sleep(0.1)
        soon = len(gateway.received)
        await asyncio.sleep(1)
        assert soon <= scene.settings.sms_connections
        assert len(gateway.received) - soon <= 5, "the gateway gets no rest"
        gateway.behaviour = accept
        await until(lambda: all_done(scene))


async def test_what_waits_too_long_is_dead(scene: Scene, gateway: GatewayServer) -> None:
    await install_clock(scene.owner)
    await scene.subscribe(A)
    await take_numbered(scene, A, 1)
    await set_clock(scene.owner, utc_now() + timedelta(seconds=scene.settings.sms_age_max_s + 1))
    async with sending(scene, gateway):
        await until(lambda: all_done(scene))
    [row] = await scene.rows()
    assert (row["status"], row["reason"]) == ("dead", "too_old")
    assert gateway.received == []


async def test_a_sender_that_dies_leaves_its_message_to_another(
    scene: Scene, gateway: GatewayServer
) -> None:
    await install_clock(scene.owner)
    await scene.subscribe(A)
    await take_numbered(scene, A, 2)
    [leased] = await scene.store.lease(0, 10)
    assert await scene.store.lease(0, 10) == [], "a leased account was given out again"
    await set_clock(scene.owner, utc_now() + timedelta(seconds=60))
    async with sending(scene, gateway):
        await until(lambda: all_done(scene))
    assert gateway.received[0].text == leased.text
    assert len(gateway.received) == 2
    # The first sender was only asleep. What it says of the message is not heard any more.
    assert not await scene.settle(leased, Outcome("dead", "asleep"), 0)
    assert set((await scene.statuses()).values()) == {"sent"}


async def test_a_sender_that_slept_is_heard_of_acceptance_alone(scene: Scene) -> None:
    await install_clock(scene.owner)
    await scene.subscribe(A)
    await take_numbered(scene, A, 2)
    [asleep] = await scene.store.lease(0, 1)
    await set_clock(scene.owner, utc_now() + timedelta(seconds=60))
    [awake] = await scene.store.lease(0, 1)
    assert (awake.event_id, awake.text) == (asleep.event_id, asleep.text)
    for outcome in (Outcome("dead", "asleep"), Outcome("retry", "asleep", counts=False)):
        assert not await scene.settle(asleep, outcome, 0)
    first = (await scene.rows())[0]
    assert (first["status"], first["reason"], first["failures"]) == ("waiting", None, 2)
    assert not await scene.settle(asleep, Outcome("sent"), 0)
    assert (await scene.rows())[0]["status"] == "sent"
    assert await scene.store.lease(0, 1) == [], "the account is still in the other one's hands"
    assert await scene.settle(awake, Outcome("dead", "status_500"), 0)
    assert [row["status"] for row in await scene.rows()] == ["sent", "waiting"]
    assert len(await scene.store.lease(0, 1)) == 1


async def test_a_message_that_kills_its_senders_does_not_do_so_for_ever(scene: Scene) -> None:
    """A try counts when it begins, so that one which never ends counts as well."""
    await install_clock(scene.owner)
    await scene.subscribe(A)
    await take_numbered(scene, A, 1)
    for number in range(1, 4):
        [leased] = await scene.store.lease(0, 1)
        assert (leased.tries, leased.failures) == (number, number)
        await set_clock(scene.owner, utc_now() + timedelta(seconds=60 * number))
    settings = scene.settings.model_copy(update={"sms_failures_max": 3})
    async with open_gateway(settings) as table:
        sender = Sender(scene.store, table, settings, 1, scene.wake)
        assert await sender.begin() == 1
        await until(lambda: all_done(scene))
    assert [row["reason"] for row in await scene.rows()] == ["failures"]


async def test_without_a_gateway_texts_are_kept_to_be_read(scene: Scene) -> None:
    await scene.subscribe(A)
    await take_numbered(scene, A, 3)
    async with sending(scene, None):
        await until(lambda: all_done(scene))
    assert set((await scene.statuses()).values()) == {"kept"}


async def test_logs_name_nobody(scene: Scene, gateway: GatewayServer) -> None:
    gateway.behaviour = lambda _: Reply(422)
    await scene.subscribe(A)
    with capture_logs() as logs:
        await take_numbered(scene, A, 1)
        async with sending(scene, gateway):
            await until(lambda: all_done(scene))
    told = json.dumps(logs, default=str)
    assert "sms_dead" in told
    assert A not in told
    assert "601234567" not in told
    assert "debited" not in told
