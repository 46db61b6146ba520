"""Keys of the four POST endpoints of packets: one effect, and the same bytes again."""

from __future__ import annotations

import asyncio
import json
from typing import Any
from uuid import uuid4

import pytest

from tests.packets.door import BODIES, CASH, RETRY, Door, fresh, refused
from tests.support.caller import Answer, Caller, fresh_key

pytestmark = pytest.mark.asyncio(loop_scope="module")


async def test_every_post_needs_a_key(door: Door) -> None:
    paths = [f"/v1/packets/p/{end}" for end in BODIES] + [f"/v1/problems/{uuid4()}/resolve"]
    for path in paths:
        body = json.dumps(BODIES.get(path.rpartition("/")[2], RETRY)).encode()
        assert refused(await door["root"].raw("POST", path, body)) == (
            400, "idempotency_key_missing",
        )  # fmt: skip
        headers = {"Idempotency-Key": "a b"}
        assert refused(await door["root"].raw("POST", path, body, headers)) == (
            400, "idempotency_key_invalid",
        )  # fmt: skip


async def _replayed(caller: Caller, path: str, first: bytes, again: bytes) -> Answer:
    """The same request twice, written in two ways: one effect and the same bytes."""
    key = fresh_key()
    one = await caller.send(path, first, key)
    two = await caller.send(path, again, key)
    assert (two.status, two.content) == (one.status, one.content)
    assert (one.replayed, two.replayed) == (False, True)
    return one


async def test_the_same_request_gets_the_same_bytes(door: Door) -> None:
    packet = fresh("am")
    account = await door.open()
    await door.post(account, "1.00", packet)
    path = f"/v1/packets/{packet}"
    first = await _replayed(door["cash"], f"{path}/unload", b"{}", b' { "accepted" : true } ')
    assert first.body["booked"] == 1

    await door.post(account, "1.00", packet)
    await door.unload(packet, accepted=False)
    reject = b'{"reason":"a","actor":"b"}', b'{"actor": "b", "number": null, "reason": "a"}'
    first = await _replayed(door["chief"], f"{path}/reject?client=cash", *reject)
    assert first.body["status"] == "rejected"

    await door.unload(packet, accepted=False)
    accept = b'{"number":3}', b'{"actor":null,"number":3}'
    first = await _replayed(door["chief"], f"{path}/accept?client=cash", *accept)
    assert first.body["status"] == "booked"

    _, posting = await door.problem()
    resolve = b'{"action":"cancel","reason":"a"}', b'{"reason":"a","action":"cancel"}'
    first = await _replayed(door["fixer"], f"/v1/problems/{posting}/resolve", *resolve)
    assert first.body["posting"]["status"] == "cancelled"


async def test_refusals_are_replayed_too(door: Door) -> None:
    path = f"/v1/packets/{fresh('none')}/unload"
    first = await _replayed(door["cash"], path, b"{}", b"{}")
    assert refused(first) == (404, "packet_not_found")
    first = await _replayed(
        door["fixer"], f"/v1/problems/{uuid4()}/resolve", b'{"action":"retry","reason":"a"}',
        b'{"action":"retry","reason":"a"}',
    )  # fmt: skip
    assert refused(first) == (404, "posting_not_found")


async def test_one_key_is_one_request(door: Door) -> None:
    packet, key = fresh("am"), fresh_key()
    account = await door.open()
    await door.post(account, "1.00", packet)
    root = door["root"]
    path = f"/v1/packets/{packet}"
    assert (await root.post(f"{path}/unload?client=cash", {}, key)).status == 200
    posting = {"debit_account": account, "credit_account": CASH, "amount": "1", "currency": "CZK"}
    others: list[tuple[str, dict[str, Any]]] = [
        (f"{path}/unload?client=cash", {"accepted": False}),
        (f"{path}/unload?client=other", {}),
        (f"/v1/packets/{packet}x/unload?client=cash", {}),
        (f"{path}/accept?client=cash", {}),
        (f"{path}/reject?client=cash", {"reason": "x"}),
        (f"/v1/problems/{uuid4()}/resolve", RETRY),
        ("/v1/postings", posting | {"packet": packet}),
    ]
    for other, body in others:
        answer = await root.post(other, body, key)
        assert refused(answer) == (422, "idempotency_key_reused"), other


async def test_one_key_at_the_same_moment_is_one_run(door: Door) -> None:
    packet = fresh("am")
    for _ in range(20):
        await door.post(await door.open(), "1.00", packet)
    path, key = f"/v1/packets/{packet}/unload", fresh_key()
    answers = await asyncio.gather(*(door["cash"].post(path, {}, key) for _ in range(6)))
    assert {(one.status, one.content) for one in answers} == {(200, answers[0].content)}
    assert sum(one.replayed for one in answers) == 5
    assert answers[0].body["booked"] == 20


async def test_one_key_for_two_packets_at_the_same_moment(door: Door) -> None:
    """One is unloaded; the other is told that the key has been used, and loses nothing."""
    for _ in range(8):
        packets = [fresh("am"), fresh("am")]
        for packet in packets:
            await door.post(await door.open(), "1.00", packet)
        key = fresh_key()
        answers = await asyncio.gather(
            *(door["cash"].post(f"/v1/packets/{name}/unload", {}, key) for name in packets)
        )
        assert sorted(one.status for one in answers) == [200, 422], [a.content for a in answers]
        [late] = [one for one in answers if one.status == 422]
        assert late.code == "idempotency_key_reused"


async def test_everything_adds_up(door: Door) -> None:
    assert await door.bank.faults() == []
