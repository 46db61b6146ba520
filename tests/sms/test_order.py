"""The order of an account's texts, whatever arrives late, twice or not at all."""

from __future__ import annotations

import asyncio
import time

import pytest

from ni.sms.subscriptions import unsubscribe
from tests.sms.gateway_server import GatewayServer
from tests.sms.scene import Scene, make_event, until
from tests.sms.sending import A, B, all_done, amounts, sending, take_numbered


async def test_a_late_event_says_when_and_no_balance(scene: Scene, gateway: GatewayServer) -> None:
    await scene.subscribe(A)
    first, second = make_event(A, 1, amount="1.00"), make_event(A, 2, amount="2.00")
    await scene.take(second)  # the first that is ever heard of the account: no gap is known
    async with sending(scene, gateway):
        await until(lambda: all_done(scene))
        await scene.take(first)
        await until(lambda: len(gateway.received) == 2)
    assert amounts(gateway, A[-4:]) == ["2.00", "1.00"]
    late = gateway.received[1].text
    assert "Available" not in late
    assert "Time of the movement: 20" in late


async def test_an_event_that_comes_late_but_in_time_takes_its_turn(
    scene: Scene, gateway: GatewayServer
) -> None:
    events = [make_event(A, n, amount=f"{n}.00") for n in (1, 2, 3)]
    await scene.subscribe(A)
    for place in (1, 2, 0):
        await scene.take(events[place])
    async with sending(scene, gateway):
        await until(lambda: all_done(scene))
    assert amounts(gateway, A[-4:]) == ["1.00", "2.00", "3.00"]
    assert all("Available" in text for text in gateway.texts())


async def test_a_text_waits_for_changes_before_it(scene: Scene, gateway: GatewayServer) -> None:
    """What a consumer that died had in its hands comes again after what came behind it."""
    events = [make_event(A, n, amount=f"{n}.00") for n in range(1, 7)]
    await scene.subscribe(A, B)
    await scene.take(events[0], events[3], events[5])
    await take_numbered(scene, B, 3)
    async with sending(scene, gateway):
        await until(lambda: len(gateway.texts(B[-4:])) == 3)
        await asyncio.sleep(0.2)
        assert amounts(gateway, A[-4:]) == ["1.00"]
        await scene.take(events[2])
        await scene.take(events[1])
        await until(lambda: len(gateway.texts(A[-4:])) == 4)
        await asyncio.sleep(0.2)
        assert amounts(gateway, A[-4:]) == ["1.00", "2.00", "3.00", "4.00"]
        await scene.take(events[4])
        await until(lambda: all_done(scene))
    assert amounts(gateway, A[-4:]) == [f"{n}.00" for n in range(1, 7)]
    assert all("Available" in text for text in gateway.texts())


@pytest.mark.parametrize("limits", [{"sms_gap_max_s": 1}])
async def test_a_text_does_not_wait_for_ever(scene: Scene, gateway: GatewayServer) -> None:
    events = [make_event(A, n, amount=f"{n}.00") for n in range(1, 5)]
    await scene.subscribe(A)
    await scene.take(events[0], events[2], events[3])
    async with sending(scene, gateway):
        await until(lambda: len(gateway.received) == 3, 5)
        assert gateway.received[1].at - gateway.received[0].at > 0.8
        assert gateway.received[2].at - gateway.received[1].at < 0.8
        await scene.take(events[1])
        await until(lambda: all_done(scene))
    assert amounts(gateway, A[-4:]) == ["1.00", "3.00", "4.00", "2.00"]
    assert "Available" not in gateway.received[3].text


async def test_what_is_not_told_is_no_gap(scene: Scene, gateway: GatewayServer) -> None:
    await scene.subscribe(A, types=["ni.posting.created"])
    kinds = ["ni.posting.created", "ni.hold.placed", "ni.hold.released", "ni.posting.created"]
    await scene.take(*(make_event(A, n, kind=kind) for n, kind in enumerate(kinds, 1)))
    async with sending(scene, gateway):
        await until(lambda: len(gateway.received) == 2, 5)


async def test_what_was_missed_without_a_subscription_is_no_gap(
    scene: Scene, gateway: GatewayServer
) -> None:
    await scene.subscribe(A)
    await scene.take(make_event(A, 1))
    async with sending(scene, gateway):
        await until(lambda: all_done(scene))
        await unsubscribe(scene.owner, A)
        await scene.take(make_event(A, 2), make_event(A, 3))
        await scene.subscribe(A)
        await scene.take(make_event(A, 4), make_event(A, 5))
        await until(lambda: len(gateway.received) == 3, 5)


async def test_a_refused_debit_waits_for_changes_before_it(
    scene: Scene, gateway: GatewayServer
) -> None:
    """It has no number, so nobody knows whether the missing ones come before it."""
    one, two = (make_event(A, n, amount=f"{n}.00") for n in (1, 2))
    refused = make_event(A, None, kind="ni.debit.refused", amount="9.00")
    three = make_event(A, 3, amount="3.00")
    await scene.subscribe(A)
    await scene.take(one, three)
    await scene.take(refused)
    async with sending(scene, gateway):
        await until(lambda: len(gateway.received) == 1)
        await asyncio.sleep(0.2)
        assert amounts(gateway, A[-4:]) == ["1.00"]
        await scene.take(two)
        await until(lambda: all_done(scene))
    assert amounts(gateway, A[-4:]) == ["1.00", "2.00", "9.00", "3.00"]


async def test_a_refused_debit_alone_waits_for_nothing(
    scene: Scene, gateway: GatewayServer
) -> None:
    await scene.subscribe(A)
    await scene.take(make_event(A, None, kind="ni.debit.refused"))
    async with sending(scene, gateway):
        await until(lambda: len(gateway.received) == 1, 5)


@pytest.mark.parametrize("limits", [{"sms_gap_max_s": 1}])
async def test_a_gap_that_is_old_holds_up_nothing_new(scene: Scene, gateway: GatewayServer) -> None:
    """Also where nothing was to be told behind it, so that nobody has waited for it yet."""
    await scene.subscribe(A, types=["ni.posting.created"])
    await scene.take(make_event(A, 1))
    await scene.take(*(make_event(A, n, kind="ni.hold.placed") for n in range(3, 6)))
    await asyncio.sleep(1.2)
    await scene.take(make_event(A, 6))
    async with sending(scene, gateway):
        began = time.monotonic()
        await until(lambda: len(gateway.received) == 2, 5)
        assert time.monotonic() - began < 0.8


@pytest.mark.parametrize("limits", [{"sms_account_waiting_max": 5_000}])
async def test_a_long_run_behind_a_gap_is_told_once_it_is_whole(
    scene: Scene, gateway: GatewayServer
) -> None:
    """More than one look goes through."""
    await scene.subscribe(A, types=["ni.posting.created"])
    await scene.take(make_event(A, 1))
    await scene.take(*(make_event(A, n, kind="ni.hold.placed") for n in range(3, 2_503)))
    await scene.take(make_event(A, 2_503))
    async with sending(scene, gateway):
        await until(lambda: len(gateway.received) == 1)
        await scene.take(make_event(A, 2, kind="ni.hold.placed"))
        await until(lambda: len(gateway.received) == 2, 5)


async def test_what_waits_when_nobody_wants_texts_any_more_makes_no_gap(
    scene: Scene, gateway: GatewayServer
) -> None:
    await scene.subscribe(A)
    await take_numbered(scene, A, 2)
    await unsubscribe(scene.owner, A)
    async with sending(scene, gateway):
        await until(lambda: all_done(scene))
        await scene.subscribe(A)
        await scene.take(make_event(A, 7))
        await until(lambda: len(gateway.received) == 3, 5)
