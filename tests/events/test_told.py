"""What decisions on holds put into the outbox, and that it lies there whole."""

from __future__ import annotations

from operator import attrgetter
from typing import Any, Final

import pytest

from ni import writing
from ni.events import parse, render_row
from ni.outbox import BEGINNING, PAGE
from tests.engine.world import World, capture, hold, id_of, open_world, release
from tests.support.databases import Database

BUCKETS = pytest.mark.parametrize("buckets", [1, 8])
WHOLE: Final = "select to_jsonb(o) - 'lap' as event from ni.outbox as o order by event_id"
TOLD_BEFORE: Final = (
    "event_id", "type", "account", "sequence", "epoch", "client", "movement_id", "currency",
    "amount", "direction", "available_after", "reference", "narrative",
)  # fmt: skip
"""What a process of the version before writes of an event."""


async def told(world: World, kind: str) -> list[dict[str, Any]]:
    """The data of a type's events, as they would leave."""
    buckets = world.buckets
    rows = await world.owner.fetch(
        PAGE, list(range(buckets)), [BEGINNING] * buckets, [100] * buckets, [100] * buckets, []
    )
    events = [parse(render_row(row)) for row in sorted(rows, key=lambda row: row["event_id"])]
    return [event.data for event in events if event.type == kind]


@BUCKETS
async def test_a_capture_says_of_which_hold_and_what_remains(database: Database) -> None:
    """Of two equal holds one can be taken off a list, and a hold is over when nothing remains."""
    async with open_world(database) as world:
        (name,) = await world.open(balance=500_00)
        first, second, third = [id_of(await world.engine.submit(hold(name, 30_00))) for _ in "abc"]
        asked = [
            capture(first, "10", final=False, reference="part"),
            capture(second, "5"),
            capture(first, "20", final=False),
            capture(third, "40", over_capture="none", final=False),
        ]
        postings = [id_of(answer) for answer in await world.engine.submit_batch(asked, atomic=True)]
        captured = await told(world, "ni.hold.captured")
        shown = ("movement_id", "amount", "hold_id", "hold_remaining")
        assert [tuple(event[field] for field in shown) for event in captured] == [
            (str(postings[0]), "10.00", str(first), "20.00"),
            (str(postings[1]), "5.00", str(second), "0.00"),
            (str(postings[2]), "20.00", str(first), "0.00"),
            (str(postings[3]), "40.00", str(third), "0.00"),
        ]
        assert [event["reference"] for event in captured] == ["part", None, None, None]


async def test_a_release_is_told_with_its_own_reference(database: Database) -> None:
    """Where it has none, with that of the hold."""
    async with open_world(database) as world:
        (name,) = await world.open(balance=500_00)
        held = id_of(await world.engine.submit(hold(name, 30_00, reference="card")))
        await world.engine.submit(release(held, "10", reference="reversal"))
        await world.engine.submit(release(held))
        references = [event["reference"] for event in await told(world, "ni.hold.released")]
        assert references == ["reversal", "card"]


async def test_what_is_moved_in_the_outbox_stays_whole(database: Database) -> None:
    async with open_world(database) as world:
        (name,) = await world.open(balance=500_00)
        held = id_of(await world.engine.submit(hold(name, 30_00, narrative="Děkuji")))
        await world.engine.submit(capture(held, "10"))
        before = await world.owner.fetch(WHOLE)
        laps = await world.owner.fetch("select distinct lap from ni.outbox")
        for row in laps:
            await world.owner.execute("select ni.move_events_v1($1)", row["lap"])
            await world.owner.execute("delete from ni.outbox where lap = $1", row["lap"])
        assert await world.owner.fetch(WHOLE) == before


async def test_a_process_of_the_version_before_goes_on(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its captures are told without their hold."""
    monkeypatch.setattr(writing, "WRITE", "SELECT ni.write_v1($1, $2, $3, $4, $5, $6, $7, $8, $9)")
    monkeypatch.setattr(writing, "_EVENT", attrgetter(*TOLD_BEFORE))
    async with open_world(database) as world:
        (name,) = await world.open(balance=500_00)
        held = id_of(await world.engine.submit(hold(name, 30_00)))
        posting = id_of(await world.engine.submit(capture(held, "10")))
        [event] = await told(world, "ni.hold.captured")
        assert event["movement_id"] == str(posting)
        assert (event["hold_id"], event["hold_remaining"]) == (None, None)
        assert await world.bank.faults() == []
