"""Limits that keep one account from taking everybody's room and time."""

from __future__ import annotations

from datetime import timedelta

import pytest

from ni.clock import utc_now
from ni.sms.room import Room
from tests.sms.gateway_server import GatewayServer
from tests.sms.scene import Scene, make_event, now_us, until
from tests.sms.sending import A, B, all_done, amounts, sending, take_numbered
from tests.support.clock import install_clock, set_clock

COUNT_STATUS = "select count(*) from ni.sms_message where status = $1"


@pytest.mark.parametrize("limits", [{"sms_account_waiting_max": 5}])
@pytest.mark.parametrize("buckets", [1, 8])
async def test_an_account_has_room_of_its_own_and_no_more(
    scene: Scene, gateway: GatewayServer, buckets: int
) -> None:
    await scene.subscribe(A, B)
    await take_numbered(scene, A, 3, buckets)
    many = [make_event(A, n, amount=f"{n}.00", buckets=buckets) for n in range(4, 10)]
    await scene.take(*many, *(make_event(B, n, amount=f"{n}.00", buckets=buckets) for n in (1, 2)))
    await scene.take(make_event(A, 10, buckets=buckets))
    found = await scene.rows()
    dead = [row["sequence"] for row in found if row["status"] == "dead"]
    assert sorted(dead) == [6, 7, 8, 9, 10]
    assert {row["reason"] for row in found if row["status"] == "dead"} == {"too_many"}
    assert all("Available" not in row["text"] for row in found if row["status"] == "dead")
    async with sending(scene, gateway, buckets):
        await until(lambda: all_done(scene))
        # There is room again, and what is told then is no gap.
        await scene.take(make_event(A, 11, amount="11.00", buckets=buckets))
        await until(lambda: len(gateway.received) == 8, 5)
    assert amounts(gateway, A[-4:]) == [f"{n}.00" for n in (1, 2, 3, 4, 5, 11)]
    assert amounts(gateway, B[-4:]) == ["1.00", "2.00"]


@pytest.mark.parametrize("limits", [{"sms_account_waiting_max": 3}])
async def test_a_repeat_takes_no_room(scene: Scene) -> None:
    await scene.subscribe(A)
    events = [make_event(A, n) for n in (1, 2, 3)]
    await scene.take(*events)
    await scene.take(*events, *events)
    assert set((await scene.statuses()).values()) == {"waiting"}


async def test_an_account_with_much_that_is_too_old_takes_nobodys_time(scene: Scene) -> None:
    await install_clock(scene.owner)
    await scene.subscribe(A, B)
    await take_numbered(scene, A, 250)
    later = utc_now() + timedelta(seconds=scene.settings.sms_age_max_s + 60)
    await set_clock(scene.owner, later)
    await scene.take(make_event(B, 1, at_us=now_us() + scene.settings.sms_age_max_s * 1_000_000))
    for step, expired in enumerate((50, 100, 150, 200, 250, 250)):
        leased = await scene.store.lease(0, 1)
        assert [one.account for one in leased] == ([B] if step == 0 else [])
        assert await scene.owner.fetchval(COUNT_STATUS, "dead") == expired
    reasons = {row["reason"] for row in await scene.rows() if row["status"] == "dead"}
    assert reasons == {"too_old"}


@pytest.mark.parametrize("limits", [{"sms_waiting_max": 4}])
async def test_room_is_counted_now_and_then(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    now = [100.0]
    monkeypatch.setattr("ni.sms.room.clock.monotonic", lambda: now[0])
    room = Room(scene.store, scene.settings)
    await scene.subscribe(A)
    await take_numbered(scene, A, 1)
    assert await room.left() == 3
    await scene.take(make_event(A, 2))
    assert await room.left() == 3, "a count is believed for a while"
    room.note_kept(3)
    assert await room.left() == 0, "it is counted again, but not at once"
    now[0] += 1.1
    assert await room.left() == 2
    await scene.take(make_event(A, 3))
    now[0] += 60.1
    assert await room.left() == 1


@pytest.mark.parametrize("limits", [{"sms_waiting_max": 40, "transaction_timeout_ms": 300}])
async def test_a_count_that_does_not_end_stops_nothing(scene: Scene) -> None:
    await scene.owner.execute(SLOW_COUNT)
    assert await Room(scene.store, scene.settings).left() == 4


SLOW_COUNT = """
create or replace function ni.sms_waiting_v1(p_most integer) returns bigint
language plpgsql volatile as $$ begin perform pg_sleep(5); return 0; end $$
"""
