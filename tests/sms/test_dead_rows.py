"""A transaction that stays open keeps dead rows: a look for texts must not walk them all.

The core's close holds one for hours, and a backup does. The tests count what a look reads.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import datetime, timedelta
from typing import Any

import asyncpg
import pytest
from structlog.testing import capture_logs

from ni.clock import utc_now
from ni.session import connected
from ni.sms.scans import TIME_SHARE, WHOLE_SCAN_S, Scans
from tests.sms.scene import Scene, make_event, now_us
from tests.sms.sending import A
from tests.sms.test_forget import PLAIN_PLANS, pages
from tests.support.clock import install_clock, set_clock
from tests.support.databases import Database

pytestmark = pytest.mark.timeout(120)
TEXTS = 900
TELL = """
do $$
declare
    v_event ni.sms_event_v1;
    v_text ni.sms_leased_v1;
    v_account text;
begin
    for n in 1..{texts} loop
        v_account := 'X' || n % {accounts};
        v_event := (gen_random_uuid(), v_account, null, 'ni.posting.created', ni.clock(),
                    '+420601234567', 'en', 'text', 'late');
        perform ni.sms_take_v1(array[v_event], 86400, 60, 1000);
        select t.* into v_text
          from ni.sms_lease_v1(0::smallint, ni.clock() - interval '1 second', 1, 30, 60) as l,
               unnest(l.o_messages) as t;
        perform ni.sms_settle_v1(0::smallint, v_text.event_id, v_account, v_text.lease, 'sent',
                                 null, 0, true);
        commit;
    end loop;
end $$
"""
READ = "select idx_tup_read from pg_stat_user_indexes where indexrelname = $1"
SLOW_LEASE = """
alter function ni.sms_lease_v1(smallint, timestamptz, integer, integer, integer)
    rename to sms_lease_in_time;
create function ni.sms_lease_v1(
    p_bucket smallint, p_floor timestamptz, p_limit integer, p_lease_s integer, p_gap_s integer,
    out o_messages ni.sms_leased_v1[], out o_floor timestamptz
) language plpgsql as $$
begin
    if p_floor is null then
        perform pg_sleep(5);
    end if;
    select l.o_messages, l.o_floor into o_messages, o_floor
      from ni.sms_lease_in_time(p_bucket, p_floor, p_limit, p_lease_s, p_gap_s) as l;
end $$
"""


@pytest.fixture
async def held(database: Database) -> AsyncIterator[None]:
    """A transaction with an id is open while the test runs."""
    async with connected(database.superuser_dsn) as other, other.transaction():
        await other.execute("select pg_current_xact_id()")
        yield


async def told(owner: asyncpg.Connection, accounts: int) -> None:
    """So many texts have been taken, leased and sent, one after the other."""
    await owner.execute(PLAIN_PLANS)
    await owner.execute(TELL.format(texts=TEXTS, accounts=accounts))
    sent = await owner.fetchval("select count(*) from ni.sms_message where status = 'sent'")
    assert sent == TEXTS


async def test_a_look_for_a_turn_walks_no_dead_rows(scene: Scene, held: None) -> None:
    owner = scene.owner
    await install_clock(owner)
    await told(owner, 300)
    await set_clock(owner, utc_now() + timedelta(minutes=5))
    lease = "ni.sms_lease_v1(0::smallint, $1, 16, 30, 60)"
    floor: datetime = await owner.fetchval(f"select o_floor from {lease}", None)
    whole = await pages(owner, lease, None)
    assert whole > TEXTS // 3, "no dead rows were in the way"
    await scene.subscribe(A)
    await scene.take(make_event(A, 1, at_us=now_us()))
    for _ in range(2):  # the first look leases, the second one finds nothing
        assert await pages(owner, lease, floor) < TEXTS // 15
    assert await owner.fetchval("select count(*) from ni.sms_account where lease is not null") == 1


async def test_the_next_text_of_an_account_is_found_behind_its_dead_ones(
    scene: Scene, held: None, database: Database
) -> None:
    await told(scene.owner, 1)
    await scene.owner.execute("select pg_stat_force_next_flush()")
    async with connected(database.owner_dsn) as other:
        before = await other.fetchval(READ, "sms_message_waiting")
    await told_one_more(scene.owner)
    await scene.owner.execute("select pg_stat_force_next_flush()")
    async with connected(database.owner_dsn) as other:
        read = await other.fetchval(READ, "sms_message_waiting") - before
    assert before > 0
    assert read < 50


async def told_one_more(owner: asyncpg.Connection) -> None:
    await owner.execute(TELL.format(texts=1, accounts=1))


async def test_a_try_leaves_no_dead_entry_in_an_index(
    scene: Scene, held: None, database: Database
) -> None:
    """A message that is tried again and again is changed in place."""
    await scene.subscribe(A)
    await scene.take(make_event(A, 1))
    for _ in range(5):
        await scene.owner.execute(TRY)
    await scene.owner.execute("select pg_stat_force_next_flush()")
    async with connected(database.owner_dsn) as other:
        row = await other.fetchrow(
            "select n_tup_upd, n_tup_hot_upd from pg_stat_user_tables where relname = 'sms_message'"
        )
    assert row is not None
    assert row["n_tup_upd"] == row["n_tup_hot_upd"] == 10


TRY = """
select ni.sms_settle_v1(0::smallint, t.event_id, t.account, t.lease, 'retry', 'status_500', 0, true)
  from ni.sms_lease_v1(0::smallint, null, 1, 30, 60) as l, unnest(l.o_messages) as t
"""


async def test_a_batch_that_changes_nothing_writes_no_account(scene: Scene) -> None:
    await scene.subscribe(A)
    events = [make_event(A, n) for n in (1, 2, 3)]
    await scene.take(*events)
    place = "select ctid::text from ni.sms_account where account = $1"
    before = await scene.owner.fetchval(place, A)
    await scene.take(*events)
    assert await scene.owner.fetchval(place, A) == before


BEHIND = """
insert into ni.sms_inbox (bucket, event_id, account, sequence, event_time, taken_at)
select 0, gen_random_uuid(), $1, i, now(), now() from generate_series(4, 5000) as i
"""


async def test_a_gap_does_not_make_the_account_dear(scene: Scene, database: Database) -> None:
    """5,000 events behind it are not read with each new one."""
    await scene.subscribe(A)
    await scene.take(make_event(A, 1))
    await scene.owner.execute(BEHIND, A)
    async with connected(database.owner_dsn) as other:
        before = await other.fetchval(READ, "sms_inbox_by_account")
    await scene.owner.execute(PLAIN_PLANS)
    await scene.owner.execute(TAKE_AND_FLUSH.format(account=A))
    async with connected(database.owner_dsn) as other:
        read = await other.fetchval(READ, "sms_inbox_by_account") - before
    assert 0 < read < 100


TAKE_AND_FLUSH = """
do $$
declare
    v_event ni.sms_event_v1;
begin
    v_event := (gen_random_uuid(), '{account}', 6000, 'ni.posting.created', ni.clock(),
                '+420601234567', 'en', 'text', 'late');
    perform ni.sms_take_v1(array[v_event], 86400, 60, 1000);
    perform pg_stat_force_next_flush();
end $$
"""


def test_a_whole_scan_takes_up_its_share_of_the_time() -> None:
    scans, floor = Scans(), utc_now()
    assert scans.floor(0, 100.0) is None
    scans.note(0, 100.0, 100.1, floor, whole=True)
    assert scans.floor(1, 100.2) is None, "each bucket has its own"
    assert scans.floor(0, 100.0 + WHOLE_SCAN_S) == floor
    assert scans.floor(0, 100.2 + WHOLE_SCAN_S) is None
    scans.note(0, 200.0, 203.0, floor, whole=True)
    assert scans.floor(0, 203.0 + WHOLE_SCAN_S) == floor
    scans.note(0, 240.0, 240.1, floor + timedelta(seconds=1), whole=False)
    assert scans.floor(0, 202.9 + 3 * TIME_SHARE) == floor + timedelta(seconds=1)
    assert scans.floor(0, 203.1 + 3 * TIME_SHARE) is None


def test_a_whole_scan_that_did_not_end_leaves_the_floor_of_before() -> None:
    scans, floor = Scans(), utc_now()
    scans.note(0, 0.0, 0.1, floor, whole=True)
    scans.note_given_up(0, 100.0, 102.0)
    assert scans.floor(0, 102.0) == floor
    assert scans.floor(0, 102.1 + 2 * TIME_SHARE) is None


@pytest.mark.parametrize("limits", [{"transaction_timeout_ms": 400}])
async def test_texts_go_on_when_a_whole_scan_does_not_end(scene: Scene) -> None:
    await scene.owner.execute(SLOW_LEASE)
    await scene.subscribe(A)
    await scene.take(make_event(A, 1))
    with capture_logs() as logs:
        assert await scene.store.lease(0, 5) == []
    assert [one["event"] for one in logs] == ["sms_scan_given_up"]
    leased: list[Any] = await scene.store.lease(0, 5)
    assert [one.account for one in leased] == [A]
