"""Events in: kept once, in either form of their text, and acknowledged after the commit."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from uuid import UUID

import pytest
from structlog.testing import capture_logs

from ni.clock import utc_now
from ni.errors import NiError
from ni.events import render
from ni.sms.forgetter import Forgetter
from ni.sms.gateway import Outcome
from ni.sms.subscriptions import subscribe, unsubscribe
from tests.sms.scene import PHONE, Given, Scene, given, make_event, now_us, until
from tests.support.clock import install_clock, set_clock

pytestmark = pytest.mark.parametrize("buckets", [1, 8])
A, B = "CZ0000002378", "CZ0000003006"


async def test_a_movement_becomes_a_message(scene: Scene, buckets: int) -> None:
    await scene.subscribe(A)
    event = make_event(A, 1, buckets=buckets)
    assert await scene.take(event) == [["acked"]]
    [row] = await scene.rows()
    assert row["text"] == "Account *2378: CZK 50.00 debited. Available: CZK 100.00."
    known = {"event_id": UUID(event.id), "account": A, "sequence": 1, "phone": PHONE,
             "language": "en", "status": "waiting", "late": False, "tries": 0}  # fmt: skip
    assert {name: row[name] for name in known} == known
    assert scene.wake.is_set()


async def test_an_event_of_another_version_becomes_its_text(scene: Scene, buckets: int) -> None:
    """A later version says more of it, an earlier one has not said all."""
    await scene.subscribe(A)
    later = make_event(A, 1, buckets=buckets, branch="Brno")
    earlier = make_event(A, 2, kind="ni.hold.captured", buckets=buckets)
    assert "hold_id" not in earlier.data
    assert await scene.take(later, earlier) == [["acked"]] * 2
    assert len(await scene.rows()) == 2


async def test_a_repeat_is_dropped_and_acknowledged(scene: Scene, buckets: int) -> None:
    await scene.subscribe(A)
    events = [make_event(A, number, buckets=buckets) for number in (1, 2)]
    await scene.take(*events)
    before = await scene.rows()
    assert await scene.take(events[0], events[1], events[0]) == [["acked"]] * 3
    assert await scene.rows() == before


async def test_a_repeat_is_dropped_when_its_message_is_gone(scene: Scene, buckets: int) -> None:
    """What is shown to operators may be removed at any time: the inbox alone remembers."""
    await scene.subscribe(A)
    event = make_event(A, 1, buckets=buckets)
    await scene.take(event)
    await scene.owner.execute("delete from ni.sms_message")
    assert await scene.take(event) == [["acked"]]
    assert await scene.rows() == []


async def test_a_repeat_does_not_change_a_text(scene: Scene, buckets: int) -> None:
    """Whatever the customer wants meanwhile."""
    await scene.subscribe(A)
    event = make_event(A, 1, buckets=buckets)
    await scene.take(event)
    [before] = await scene.rows()
    await subscribe(scene.owner, A, "+81312345678", "ja")
    await scene.take(event)
    assert await scene.rows() == [before | {"phone": "+81312345678"}]


async def test_two_inboxes_keep_an_event_once(scene: Scene, buckets: int) -> None:
    await scene.subscribe(A, B)
    events = [make_event(n, i, buckets=buckets) for i in range(1, 30) for n in (A, B)]
    batches = [events, events[::-1], events[10:40], events]
    await asyncio.gather(*(scene.take(*batch) for batch in batches))
    assert len(await scene.rows()) == len(events)


async def test_who_wants_nothing_is_told_nothing(scene: Scene, buckets: int) -> None:
    await scene.subscribe(A, types=["ni.posting.created"])
    told = make_event(A, 1, buckets=buckets)
    events = [
        told,
        make_event(B, 1, buckets=buckets),
        make_event(A, 2, kind="ni.hold.placed", buckets=buckets),
    ]
    assert await scene.take(*events) == [["acked"]] * 3
    assert list(await scene.statuses()) == [UUID(told.id)]


async def test_nobody_is_told_of_what_was_before(scene: Scene, buckets: int) -> None:
    before = make_event(A, 1, buckets=buckets)
    await subscribe(scene.owner, A, PHONE, "en")
    after = make_event(A, 2, buckets=buckets)
    await scene.take(before, after)
    assert list(await scene.statuses()) == [UUID(after.id)]
    await unsubscribe(scene.owner, A)
    await scene.take(make_event(A, 3, buckets=buckets))
    assert len(await scene.rows()) == 1
    with pytest.raises(NiError, match="nobody wants"):
        await unsubscribe(scene.owner, A)


@pytest.mark.parametrize(
    "body",
    [
        b"", b"{}", b"[" * 20_000, b'{"specversion":"1.0"}', b"\xff\xfe",
        render(make_event("", 1)), render(make_event("A" * 40, 1)), render(make_event("A\0", 1)),
        render(make_event(A, 1, account=B)), render(make_event(A, -1)),
        render(make_event(A, 2**63)), render(make_event(A, 1, amount="x")),
        render(make_event(A, 1)).replace(b'"id":"', b'"id":"0'),
        render(make_event(A, 1)).replace(b'"time":"', b'"time":"x'),
        render(make_event(A, 1)).replace(b'"time":"20', b'"time":"00'),
        render(make_event("cz1", 1)),
        render(make_event("A", 1)).replace(b'"A"', b'"\\ud800"'),
    ],
    ids=[
        "empty", "object", "deep", "no-type", "no-text", "no-account", "long-account", "nul",
        "two-accounts", "negative-sequence", "large-sequence", "amount", "id", "time", "year",
        "small-letters", "surrogate",
    ],
)  # fmt: skip
async def test_what_is_no_event_is_put_aside_and_stops_nobody(
    scene: Scene, buckets: int, body: bytes
) -> None:
    await scene.subscribe(A)
    bad, good = Given(body), given([make_event(A, 1, buckets=buckets)])[0]
    await scene.inbox().take([bad, good])
    assert bad.ended[0].startswith("dead: ")
    assert good.ended == ["acked"]
    assert len(await scene.rows()) == 1


async def test_what_the_database_refuses_is_put_aside_alone(scene: Scene, buckets: int) -> None:
    await scene.subscribe(A)
    await scene.owner.execute(
        "alter table ni.sms_message add constraint no_two check (sequence <> 2)"
    )
    ended = await scene.take(*(make_event(A, n, buckets=buckets) for n in (1, 2, 3)))
    assert [one[0].partition(":")[0] for one in ended] == ["acked", "dead", "acked"]
    assert [row["sequence"] for row in await scene.rows()] == [1, 3]
    # Nothing of the refused one is remembered: once the fault is mended it can be taken.
    assert await scene.owner.fetchval("select count(*) from ni.sms_inbox") == 2


async def test_nothing_is_acknowledged_before_it_is_kept(scene: Scene, buckets: int) -> None:
    await scene.subscribe(A)
    await scene.owner.execute("revoke insert on ni.sms_message from ni_sms")
    deliveries = given([make_event(A, 1, buckets=buckets)])
    with capture_logs() as logs:
        taking = asyncio.create_task(scene.inbox().take(deliveries))
        await until(lambda: len(logs) >= 2)
    assert logs[0]["errors"] == ["InsufficientPrivilegeError 42501"]
    assert deliveries[0].ended == []
    assert await scene.owner.fetchval("select count(*) from ni.sms_inbox") == 0
    await scene.owner.execute("grant insert on ni.sms_message to ni_sms")
    await taking
    assert deliveries[0].ended == ["acked"]
    assert len(await scene.rows()) == 1


async def test_an_event_that_is_too_old_is_shown_and_not_sent(scene: Scene, buckets: int) -> None:
    await scene.subscribe(A)
    age_us = scene.settings.sms_age_max_s * 1_000_000
    old = make_event(A, 1, buckets=buckets, at_us=now_us() - age_us - 1_000_000)
    new = make_event(A, 2, buckets=buckets, at_us=now_us() - age_us + 60_000_000)
    for _ in range(2):
        assert await scene.take(old, new) == [["acked"]] * 2
    assert await scene.statuses() == {UUID(old.id): "dead", UUID(new.id): "waiting"}
    assert (await scene.rows())[0]["reason"] == "too_old"


async def test_the_inbox_forgets_and_what_it_forgot_is_not_sent_again(
    scene: Scene, buckets: int
) -> None:
    await install_clock(scene.owner)
    await scene.subscribe(A)
    event = make_event(A, 1, buckets=buckets)
    await scene.take(event)
    [leased] = [m for b in range(buckets) for m in await scene.store.lease(b, 1)]
    assert await scene.settle(leased, Outcome("sent"), 0)
    forgetter = Forgetter(scene.store, scene.settings)
    assert await forgetter.round() == (0, 0, 0)
    later = utc_now() + timedelta(days=scene.settings.sms_keep_days, minutes=1)
    await set_clock(scene.owner, later)
    assert await forgetter.round() == (1, 1, 1)
    await scene.take(event)
    assert await scene.statuses() == {UUID(event.id): "dead"}


@pytest.mark.parametrize("limits", [{"sms_inbox_max": 3, "sms_prune_step": 2}])
async def test_the_inbox_is_never_much_longer_than_its_limit(scene: Scene, buckets: int) -> None:
    await scene.subscribe(A)
    events = [make_event(A, number, buckets=buckets) for number in range(1, 9)]
    await scene.take(*events)
    forgetter = Forgetter(scene.store, scene.settings)
    assert [(await forgetter.round())[0] for _ in range(2)] == [5, 0]
    known = await scene.owner.fetchval("select count(*) from ni.sms_inbox")
    assert known == 3
    # Those forgotten are below the floor: no repeat of them is ever sent.
    await scene.owner.execute("delete from ni.sms_message")
    await scene.take(*events)
    assert set((await scene.statuses()).values()) == {"dead"}
    assert len(await scene.rows()) == 5


async def test_the_waiting_are_counted_up_to_a_limit(scene: Scene, buckets: int) -> None:
    await scene.subscribe(A)
    await scene.take(*(make_event(A, number, buckets=buckets) for number in range(1, 6)))
    assert await scene.store.waiting(100) == 5
    assert await scene.store.waiting(3) == 3
