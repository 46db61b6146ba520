"""What is forgotten, and that each step of it is small, however much there is."""

from __future__ import annotations

import json
from datetime import timedelta
from typing import Any

import asyncpg
import pytest

from ni.clock import utc_now
from ni.sms.forgetter import Forgetter
from ni.sms.subscriptions import unsubscribe
from tests.sms.scene import Scene, make_event, now_us
from tests.sms.sending import A, B, take_numbered
from tests.support.clock import install_clock, set_clock

REMEMBERED = """
with ids as (
    insert into ni.sms_inbox (bucket, event_id, account, sequence, event_time, taken_at)
    select 0, gen_random_uuid(), 'X' || i, 1, now() - i * interval '1 millisecond', now()
      from generate_series(1, $1::integer) as i returning account)
insert into ni.sms_account (bucket, account) select 0, account from ids
"""
PLAIN_PLANS = "set enable_seqscan = off; set enable_hashjoin = off; set enable_mergejoin = off"


async def pages(owner: asyncpg.Connection, call: str, *values: object) -> int:
    """How many pages a call looks at; one looked at twice counts twice."""
    question = f"explain (analyze, buffers, format json) select * from {call}"
    rehearsal = owner.transaction()  # the first time the function itself is read, too
    await rehearsal.start()
    await owner.fetchval(question, *values)
    await rehearsal.rollback()
    text = await owner.fetchval(question, *values)
    plan: dict[str, Any] = json.loads(text)[0]["Plan"]
    return int(plan["Shared Hit Blocks"]) + int(plan["Shared Read Blocks"])


async def test_a_step_does_not_look_at_everything(scene: Scene) -> None:
    owner = scene.owner
    await owner.execute(REMEMBERED, 5_000)
    await owner.execute("vacuum analyze ni.sms_inbox, ni.sms_account")
    await owner.execute(PLAIN_PLANS)
    assert await pages(owner, "ni.sms_forget_ids_v1(null, 100)") < 20
    assert await pages(owner, "ni.sms_forget_messages_v1(null, 1, 100)") < 20
    assert await pages(owner, "ni.sms_place_v1(null, 100)") < 120
    accounts = await pages(owner, "ni.sms_forget_accounts_v1(0::smallint, '', 100)")
    everybody = await pages(owner, "ni.sms_forget_accounts_v1(0::smallint, '', 5000)")
    assert everybody > 10 * accounts, "nothing was to be looked at"


@pytest.mark.parametrize("limits", [{"sms_prune_step": 7}])
async def test_all_idle_accounts_are_forgotten_in_steps(scene: Scene) -> None:
    await install_clock(scene.owner)
    await scene.owner.execute(REMEMBERED, 50)
    await take_numbered_of_a_subscriber(scene)
    await scene.owner.execute("delete from ni.sms_inbox where account like 'X%5'")
    forgetter = Forgetter(scene.store, scene.settings)
    assert await forgetter.round() == (0, 0, 5), "of the others something is remembered"
    await set_clock(scene.owner, utc_now() + timedelta(seconds=scene.settings.sms_age_max_s + 9))
    assert await forgetter.round() == (48, 0, 45)
    assert await scene.owner.fetchval("select account from ni.sms_account") == A
    assert await forgetter.round() == (0, 0, 0)


async def take_numbered_of_a_subscriber(scene: Scene) -> None:
    """Three texts that wait."""
    await scene.subscribe(A)
    await take_numbered(scene, A, 3)


@pytest.mark.parametrize("limits", [{"sms_inbox_max": 30, "sms_prune_step": 4}])
async def test_the_limit_is_counted_in_parts(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ni.sms.forgetter.COUNTED_AT_ONCE", 7)
    await scene.owner.execute(REMEMBERED, 100)
    forgetter = Forgetter(scene.store, scene.settings)
    assert (await forgetter.round())[0] == 70
    assert (await forgetter.round())[0] == 0
    assert await scene.owner.fetchval("select count(*) from ni.sms_inbox") == 30


async def test_an_account_is_not_forgotten_while_an_event_of_it_is_taken(
    scene: Scene, new_session: asyncpg.Connection
) -> None:
    """Whoever holds its row is left alone; what it keeps is seen afterwards."""
    await scene.owner.execute("insert into ni.sms_account (bucket, account) values (0, $1)", B)
    await scene.store.raise_floor(None)
    async with new_session.transaction():
        await new_session.execute("select ni.sms_lock_v1($1)", [B])
        assert await scene.store.forget_accounts((-1, "")) == (0, None)
    assert await scene.store.forget_accounts((-1, "")) == (1, None)


@pytest.fixture
async def new_session(scene: Scene) -> Any:
    """Another of the owner's sessions."""
    address = scene.settings.sms_database_url
    connection = await asyncpg.connect(address)
    yield connection
    await connection.close()


async def test_what_is_behind_the_floor_stays_dead(scene: Scene) -> None:
    await scene.subscribe(A)
    old = now_us() - scene.settings.sms_age_max_s * 1_000_000 - 5_000_000
    await scene.take(make_event(A, 1, at_us=old))
    await unsubscribe(scene.owner, A)
    assert [row["reason"] for row in await scene.rows()] == ["too_old"]
    assert "Available" not in (await scene.rows())[0]["text"]
