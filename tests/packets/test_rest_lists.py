"""The three lists of packets, postings and problems: pages, filters, tokens."""

from __future__ import annotations

import base64
from typing import Any

import pytest

from tests.packets.door import RETRY, Door, fresh, pages, refused
from tests.support.caller import Caller

pytestmark = pytest.mark.asyncio(loop_scope="module")


async def test_pages_of_packets(door: Door) -> None:
    account, stem = await door.open(), fresh("page")
    names = [f"{stem}.{number}" for number in range(7)]
    for name in names:
        await door.post(account, "1.00", name, "writer")
    for name in names[:3]:
        answer = await door["root"].post(f"/v1/packets/{name}/unload?client=writer", {})
        assert answer.status == 200
    for size in (1, 3, 7, 500):
        found = await pages(door["writer"], "/v1/packets", size)
        assert [one["packet"] for one in found] == names
    for status, expected in (("booked", names[:3]), ("open", names[3:]), ("problems", [])):
        query = {"status": status}
        assert [
            one["packet"] for one in await _all(door["writer"], "/v1/packets", 2, query)
        ] == expected
    [one] = (await door["writer"].get("/v1/packets", page_size=1)).body["items"]
    assert one == (await door["writer"].get(f"/v1/packets/{names[0]}")).body


async def _all(caller: Caller, path: str, size: int, query: dict[str, str]) -> list[Any]:
    """A whole filtered list: its pages may be short."""
    found: list[Any] = []
    while True:
        body = (await caller.get(path, page_size=size, **query)).body
        found += body["items"]
        if "next_page_token" not in body:
            return found
        query = query | {"page_token": body["next_page_token"]}


async def test_pages_of_postings(door: Door) -> None:
    packet = fresh("am")
    ids = [await door.post(await door.open(), "1.00", packet) for _ in range(5)]
    cancel = await door["cash"].post(f"/v1/postings/{ids[0]}/cancel", {"reason": "x"})
    assert cancel.status == 200
    path = f"/v1/packets/{packet}/postings"
    for size in (1, 2, 5):
        found = await pages(door["cash"], path, size)
        assert [one["posting_id"] for one in found] == ids[::-1]
    for status, expected in (("pending", ids[:0:-1]), ("cancelled", ids[:1]), ("booked", [])):
        found = await pages(door["cash"], path, 2, status=status)
        assert [one["posting_id"] for one in found] == expected


async def test_pages_of_problems(door: Door) -> None:
    packet = fresh("bad")
    accounts = [await door.open() for _ in range(5)]
    ids = [await door.post(account, "1.00", packet, "other") for account in accounts]
    for account in accounts:
        await door.bank.block(account, "all")
    assert (await door.unload(packet, "other"))["problems_total"] == 5
    for size in (1, 2, 5):
        found = await pages(door["fixer"], "/v1/problems", size, client="other", status="open")
        assert [one["posting_id"] for one in found] == sorted(ids)
    answer = await door["fixer"].post(f"/v1/problems/{ids[0]}/resolve", RETRY)
    assert answer.status == 200
    found = await pages(door["fixer"], "/v1/problems", 2, client="other", status="resolved")
    assert [one["posting_id"] for one in found] == ids[:1]
    assert len(await pages(door["fixer"], "/v1/problems", 2, client="other")) == 5
    assert await pages(door["fixer"], "/v1/problems", 2, client="nobody") == []


LISTS = {"/v1/packets": "cash", "/v1/packets/{packet}/postings": "cash", "/v1/problems": "fixer"}


def token(text: str) -> str:
    return base64.urlsafe_b64encode(text.encode()).decode().rstrip("=")


TOKENS = [
    "x", "%", "AAAA", "null", "A" * 5000, "\u0000", "é", token("a b"), token("x" * 65), token(""),
    token("2026-01-01T00:00:00 01890a5d-ac96-774b-bcce-b302099a8057"),
    token("0001-01-01T00:00:00+23:59 01890a5d-ac96-774b-bcce-b302099a8057"),
    token("9999-12-31T23:59:59-23:59 01890a5d-ac96-774b-bcce-b302099a8057"),
    token("2026-01-01 01890a5d-ac96-774b-bcce-b302099a8057"),
    token("2026-01-01T00:00:00Z x"),
]  # fmt: skip


@pytest.mark.parametrize("path", LISTS)
async def test_page_tokens_that_nobody_gave(door: Door, path: str) -> None:
    packet = fresh("am")
    await door.post(await door.open(), "1.00", packet)
    where = path.format(packet=packet)
    for one in TOKENS:
        answer = await door[LISTS[path]].get(where, page_token=one)
        assert refused(answer) == (422, "validation_failed"), (one, answer.content)
    for size in ("0", "-1", "501", "x", "1.5", "", "9" * 5000):
        answer = await door[LISTS[path]].get(where, page_size=size)
        assert refused(answer) == (422, "validation_failed"), size
    answer = await door[LISTS[path]].get(where, status="shiny")
    assert refused(answer) == (422, "validation_failed")
    answer = await door[LISTS[path]].get(where, status="a\0b")
    assert refused(answer) == (422, "validation_failed")


async def test_everything_adds_up(door: Door) -> None:
    assert await door.bank.faults() == []
