"""A number that is changed, and dead texts that are tried again: who gets what."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from uuid import UUID

import asyncpg
import pytest

from ni.clock import utc_now
from ni.errors import NiError
from ni.session import connected
from ni.sms.gateway import Outcome
from ni.sms.subscriptions import revive, subscribe, unsubscribe
from ni.sms.texts import LANGUAGES
from tests.sms.gateway_server import GatewayServer
from tests.sms.scene import PHONE, Scene, make_event, until
from tests.sms.sending import A, B, all_done, sending, take_numbered
from tests.support.clock import install_clock, set_clock
from tests.support.databases import Database

OTHER = "+81312345678"
DAY_S = 86_400


async def settled(scene: Scene, status: str, reason: str) -> UUID:
    """What has become of the one message that is leased now."""
    [leased] = await scene.store.lease(0, 1)
    outcome = Outcome("dead", reason) if status == "dead" else Outcome("retry", reason)
    assert await scene.settle(leased, outcome, 0)
    return leased.event_id


async def test_what_waits_goes_to_the_new_number_and_what_was_tried_to_none(
    scene: Scene, gateway: GatewayServer
) -> None:
    await scene.subscribe(A)
    await take_numbered(scene, A, 3)
    tried = await settled(scene, "retry", "status_500")
    await subscribe(scene.owner, A, OTHER, "en")
    rows = {row["event_id"]: row for row in await scene.rows()}
    assert (rows[tried]["status"], rows[tried]["reason"]) == ("dead", "phone_changed")
    assert rows[tried]["phone"] == PHONE
    async with sending(scene, gateway):
        await until(lambda: all_done(scene))
    assert [one.to for one in gateway.received] == [OTHER, OTHER]
    assert tried not in {UUID(one.id) for one in gateway.received}


async def test_what_is_being_sent_when_the_number_changes_may_arrive(scene: Scene) -> None:
    await scene.subscribe(A)
    await take_numbered(scene, A, 1)
    [leased] = await scene.store.lease(0, 1)
    await subscribe(scene.owner, A, OTHER, "en")
    assert await scene.settle(leased, Outcome("sent"), 0)
    [row] = await scene.rows()
    assert (row["status"], row["phone"]) == ("sent", PHONE)


async def test_the_same_number_changes_nothing(scene: Scene) -> None:
    await scene.subscribe(A)
    await take_numbered(scene, A, 2)
    await settled(scene, "retry", "status_500")
    before = await scene.rows()
    await subscribe(scene.owner, A, PHONE, "ja")
    assert await scene.rows() == before


async def test_an_event_that_is_taken_while_the_number_changes_gets_the_new_one(
    scene: Scene, database: Database
) -> None:
    """Its text was made for the old number; it is kept after the change."""
    await scene.subscribe(A)
    await take_numbered(scene, A, 1)
    async with connected(database.owner_dsn) as other, connected(database.superuser_dsn) as anybody:
        change = other.transaction()
        await change.start()
        await subscribe(other, A, OTHER, "en")
        taking = asyncio.create_task(scene.take(make_event(A, 2)))
        await until(lambda: notifier_waits(anybody))
        await change.commit()
        await taking
    assert {row["phone"] for row in await scene.rows()} == {OTHER}


async def notifier_waits(superuser: asyncpg.Connection) -> bool:
    """Whether a session of the notifier waits for a lock."""
    return bool(
        await superuser.fetchval(
            "select count(*) from pg_stat_activity"
            " where usename = 'ni_sms' and wait_event_type = 'Lock'"
            " and datname = current_database()"
        )
    )


async def test_dead_texts_of_another_number_stay_dead(scene: Scene) -> None:
    await scene.subscribe(A, B)
    await take_numbered(scene, A, 1)
    first = await settled(scene, "dead", "status_400")
    await take_numbered(scene, B, 1)
    await settled(scene, "dead", "status_400")
    await subscribe(scene.owner, A, OTHER, "en")
    await unsubscribe(scene.owner, B)
    assert await revive(scene.owner, None, DAY_S, 10) == 0
    assert await revive(scene.owner, first, DAY_S, 10, old=True) == 0


async def test_what_is_too_old_is_tried_again_only_when_it_is_named_and_wanted(
    scene: Scene,
) -> None:
    await install_clock(scene.owner)
    await scene.subscribe(A)
    await take_numbered(scene, A, 2)
    old = await settled(scene, "dead", "status_400")
    young = await settled(scene, "dead", "status_400")
    later = utc_now() + timedelta(seconds=DAY_S - 5)
    await set_clock(scene.owner, later)
    await scene.owner.execute(
        "update ni.sms_message set event_time = event_time - interval '10 s' where event_id = $1",
        old,
    )
    assert await revive(scene.owner, None, DAY_S, 10) == 1
    assert (await scene.statuses())[young] == "waiting"
    [row] = [row for row in await scene.rows() if row["event_id"] == young]
    assert row["expires_at"] - row["event_time"] == timedelta(seconds=DAY_S)
    assert await revive(scene.owner, old, DAY_S, 10) == 0
    with pytest.raises(NiError, match="name the event"):
        await revive(scene.owner, None, DAY_S, 10, old=True)
    assert await revive(scene.owner, old, DAY_S, 10, old=True) == 1
    [row] = [row for row in await scene.rows() if row["event_id"] == old]
    assert row["expires_at"] > later


async def test_what_was_given_up_for_its_age_is_not_sent_with_the_others(scene: Scene) -> None:
    """Also when a smaller limit of age has been set since."""
    await scene.subscribe(A)
    await take_numbered(scene, A, 1)
    await scene.owner.execute("update ni.sms_message set status = 'dead', reason = 'too_old'")
    assert await revive(scene.owner, None, DAY_S, 10) == 0


async def test_a_text_that_was_revived_keeps_its_number(
    scene: Scene, gateway: GatewayServer
) -> None:
    """The gateway may know its id."""
    await scene.subscribe(A)
    await take_numbered(scene, A, 1)
    event = await settled(scene, "dead", "status_400")
    assert await revive(scene.owner, event, DAY_S, 10) == 1
    await subscribe(scene.owner, A, OTHER, "en")
    async with sending(scene, gateway):
        await asyncio.sleep(0.3)
    assert gateway.received == []
    assert (await scene.rows())[0]["reason"] == "phone_changed"


@pytest.mark.parametrize("language", ["de", "EN", ""])
async def test_no_other_language_can_be_wanted(scene: Scene, language: str) -> None:
    await scene.subscribe(A)
    with pytest.raises(asyncpg.CheckViolationError):
        await scene.owner.execute("update ni.sms_subscription set language = $1", language)
    for spoken in LANGUAGES:
        await scene.owner.execute("update ni.sms_subscription set language = $1", spoken)
