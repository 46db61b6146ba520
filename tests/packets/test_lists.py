"""Lists of packets: every name that postings gave, in pages that look at so many and no more."""

from __future__ import annotations

import json
from typing import Any

import pytest

from ni import packet_reads
from ni.decisions import Decision
from tests.engine.world import CLIENT, cancel, debit
from tests.packets.desk import Desk

STATUSES = ("open", "awaiting_acceptance", "problems", "booked")


async def _named(desk: Desk, status: str | None, size: int) -> tuple[list[str], int]:
    """The names of all packets of a status, and in how many pages they came."""
    names: list[str] = []
    after: str | None = ""
    pages = 0
    while after is not None:
        documents, after = await desk.reads.packets(CLIENT, status, after, size)
        found: list[dict[str, Any]] = [json.loads(document) for document in documents]
        assert len(found) <= size
        assert all(status in (None, one["status"]) for one in found)
        names += [one["packet"] for one in found]
        pages += 1
    return names, pages


async def _packets(desk: Desk) -> dict[str, str]:
    """A packet of each status, and one whose postings are all cancelled; statuses by name."""
    [account, arrested] = await desk.world.open(2)
    await desk.post(account, 1_00, packet="e-open")
    await desk.post(account, 1_00, packet="d-waits")
    await desk.unload("d-waits", accepted=False)
    await desk.post(account, 1_00, packet="c-booked")
    await desk.unload("c-booked")
    await desk.post(arrested, 1_00, packet="b-problems")
    await desk.world.bank.block(arrested, "debit")
    await desk.unload("b-problems")
    cancelled = await desk.post(account, 1_00, packet="a-cancelled")
    assert (await desk.world.engine.submit(cancel(cancelled))).decision is Decision.approved
    await desk.world.engine.submit(debit(account, 1, packet=None, straight_through=True))
    return {
        "a-cancelled": "booked",
        "b-problems": "problems",
        "c-booked": "booked",
        "d-waits": "awaiting_acceptance",
        "e-open": "open",
    }


@pytest.mark.parametrize("size", [1, 2, 5, 50])
async def test_every_packet_is_listed(desk: Desk, size: int) -> None:
    statuses = await _packets(desk)
    assert (await _named(desk, None, size))[0] == list(statuses)
    for status in STATUSES:
        expected = [name for name, found in statuses.items() if found == status]
        assert (await _named(desk, status, size))[0] == expected


async def test_a_page_looks_at_so_many_and_no_more(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else one question about a rare status would read every packet that there ever was."""
    monkeypatch.setattr(packet_reads, "NAMES_LOOKED_AT_MAX", 2)
    await _packets(desk)
    names, pages = await _named(desk, "open", 1)
    assert (names, pages) == (["e-open"], 3)


async def test_packets_of_the_past_are_not_looked_at_for_an_open_one(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(packet_reads, "NAMES_LOOKED_AT_MAX", 2)
    [account] = await desk.world.open()
    for name in ("a", "b", "c"):
        await desk.post(account, 1_00, packet=name)
        await desk.unload(name)
    await desk.post(account, 1_00, packet="d")
    documents, last = await desk.reads.packets("tester", "open", "", 1)
    assert [json.loads(document)["packet"] for document in documents] == ["d"]
    assert last is None
