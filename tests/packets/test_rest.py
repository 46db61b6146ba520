"""The REST door of packets and problems: every endpoint, scope and refusal, with the real API."""

from __future__ import annotations

import asyncio
import base64
import json
from collections.abc import AsyncIterator
from typing import Any
from uuid import uuid4

import pytest
import pytest_asyncio

from ni.embedded import EmbeddedValkey
from tests.packets.door import CASH, Door, fresh, open_door, pages
from tests.support.caller import Answer, Caller, assert_problem, fresh_key
from tests.support.databases import Databases

pytestmark = pytest.mark.asyncio(loop_scope="module")

BODIES: dict[str, dict[str, Any]] = {
    "unload": {},
    "accept": {},
    "reject": {"reason": "no"},
}
RETRY = {"action": "retry", "reason": "looked at it"}


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def door(
    databases: Databases, valkey: EmbeddedValkey, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[Door]:
    """The API that all tests of this file call."""
    home = tmp_path_factory.mktemp("packets")
    with databases.fresh() as database:
        async with open_door(database.servers(valkey.url), home) as made:
            yield made


def refused(answer: Answer) -> tuple[int, str | None]:
    """Status and code of a problem document."""
    assert_problem(answer)
    return answer.status, answer.code


# What the endpoints do ------------------------------------------------------------------------


async def test_a_packet_from_its_first_posting_to_the_core(door: Door) -> None:
    account, packet = await door.open(100_00), fresh("am")
    posting = await door.post(account, "30.00", packet, reference="R 1")
    path = f"/v1/packets/{packet}"
    opened = (await door["cash"].get(path)).body
    assert opened == {
        "packet": packet,
        "client": "cash",
        "status": "open",
        "totals": {"CZK": "30.00"},
        "counts": {
            "pending": 1, "awaiting_acceptance": 0, "booked": 0, "problem": 0, "cancelled": 0,
        },
        "unloads": [],
        "created_at": opened["created_at"],
    }  # fmt: skip
    assert await door.unload(packet) == {
        "packet": packet, "number": 1, "status": "booked", "booked": 1, "problems": [],
        "problems_total": 0,
    }  # fmt: skip
    booked = (await door["cash"].get(path)).body
    assert (booked["status"], booked["counts"]["booked"]) == ("booked", 1)
    [run] = booked["unloads"]
    assert {"number": 1, "booked": 1, "problems": 0, "accepted": True}.items() <= run.items()
    assert run["at"] > booked["created_at"]
    [item] = (await door["cash"].get(f"{path}/postings")).body["items"]
    assert item == (await door["cash"].get(f"/v1/postings/{posting}")).body
    assert (item["status"], item["reference"]) == ("booked", "R 1")
    shown = await door.balance(account)
    assert (shown["available"], shown["booked"], shown["pending"]) == ("70.00", "70.00", "0.00")


async def test_unloading_again_with_nothing_pending(door: Door) -> None:
    packet = fresh("am")
    await door.post(await door.open(), "1.00", packet)
    await door.unload(packet)
    again = await door.unload(packet)
    assert (again["number"], again["status"], again["booked"]) == (1, "booked", 0)


async def test_a_packet_that_waits_is_accepted_by_another_client(door: Door) -> None:
    account, packet = await door.open(100_00), fresh("am")
    await door.post(account, "30.00", packet)
    assert (await door.unload(packet, accepted=False))["status"] == "awaiting_acceptance"
    shown = await door.balance(account)
    assert (shown["available"], shown["booked"], shown["pending"]) == ("70.00", "100.00", "-30.00")
    path = f"/v1/packets/{packet}/accept?client=cash"
    answer = await door["chief"].post(path, {"number": 1, "actor": "teller 7"})
    assert (answer.status, answer.body["status"], answer.body["booked"]) == (200, "booked", 1)
    shown = await door.balance(account)
    assert (shown["available"], shown["booked"], shown["pending"]) == ("70.00", "70.00", "0.00")
    assert refused(await door["chief"].post(path, {})) == (409, "packet_not_waiting")


async def test_a_packet_that_waits_is_rejected(door: Door) -> None:
    account, packet = await door.open(100_00), fresh("am")
    posting = await door.post(account, "30.00", packet)
    await door.unload(packet, accepted=False)
    cancel = f"/v1/postings/{posting}/cancel"
    answer = await door["cash"].post(cancel, {"reason": "x"})
    assert refused(answer) == (409, "posting_awaiting_acceptance")
    answer = await door["chief"].post(
        f"/v1/packets/{packet}/reject?client=cash", {"reason": "two lists", "actor": "chief"}
    )
    assert (answer.status, answer.body["status"]) == (200, "rejected")
    assert (await door["cash"].get(f"/v1/packets/{packet}")).body["status"] == "open"
    assert (await door["cash"].post(cancel, {"reason": "x"})).status == 200


async def test_problems_are_listed_and_resolved(door: Door) -> None:
    packet = fresh("bad")
    account, posting = await door.problem(packet)
    listed = await pages(door["fixer"], "/v1/problems", 500, status="open", client="cash")
    [item] = [one for one in listed if one["posting_id"] == posting]
    assert item["code"] == "account_blocked"
    assert item["detail"] == f"{account}: order 7/1993"
    assert (item["packet"], item["number"], item["client"]) == (packet, 1, "cash")
    assert (item["debit_account"], item["credit_account"]) == (account, CASH)
    assert (item["amount"], item["currency"], item["status"]) == ("10.00", "CZK", "open")
    path = f"/v1/problems/{posting}/resolve"
    other = await door.open()
    redirect = {"action": "redirect", "debit_account": other, "reason": "other account"}
    answer = await door["fixer"].post(path, redirect | {"actor": "op 3"})
    assert answer.status == 200, answer.content
    assert answer.body["posting"]["debit_account"] == other
    assert answer.body["posting"]["status"] == "pending"
    problem = answer.body["problem"]
    assert (problem["action"], problem["resolved_by"], problem["actor"]) == (
        "redirect", "fixer", "op 3",
    )  # fmt: skip
    assert refused(await door["fixer"].post(path, RETRY)) == (409, "problem_resolved")
    resolved = await pages(door["fixer"], "/v1/problems", 500, status="resolved")
    [item] = [one for one in resolved if one["posting_id"] == posting]
    assert (item["action"], item["reason"], item["status"]) == (
        "redirect", "other account", "resolved",
    )  # fmt: skip
    assert (await door.unload(packet))["booked"] == 1
    assert (await door.balance(account))["available"] == "1000.00"


# Who may do what -------------------------------------------------------------------------------


async def test_every_endpoint_asks_for_its_scope(door: Door) -> None:
    packet = fresh("am")
    _, posting = await door.problem(packet)
    allowed: dict[tuple[str, str], set[str]] = {
        ("GET", "/v1/packets"): {"cash", "other", "writer", "unloader", "maker", "root"},
        ("GET", f"/v1/packets/{packet}"): {"cash", "other", "writer", "unloader", "maker", "root"},
        ("GET", f"/v1/packets/{packet}/postings"): {
            "cash", "other", "writer", "unloader", "maker", "root",
        },
        ("POST", f"/v1/packets/{packet}/unload"): {"cash", "other", "unloader", "maker", "root"},
        ("POST", f"/v1/packets/{packet}/accept"): {"chief", "maker", "root"},
        ("POST", f"/v1/packets/{packet}/reject"): {"chief", "maker", "root"},
        ("GET", "/v1/problems"): {"fixer", "forcer", "root"},
        ("POST", f"/v1/problems/{uuid4()}/resolve"): {"fixer", "forcer", "root"},
    }  # fmt: skip
    for (method, path), clients in allowed.items():
        body = json.dumps(BODIES.get(path.rpartition("/")[2], RETRY)).encode()
        for name, caller in door.callers.items():
            headers = {"Idempotency-Key": fresh_key()}
            answer = await caller.raw(method, path, body if method == "POST" else b"", headers)
            assert (answer.status == 403) is (name not in clients), (path, name, answer.content)
            headers["Authorization"] = "Bearer nobody"
            answer = await caller.raw(method, path, body if method == "POST" else b"", headers)
            assert refused(answer) == (401, "unauthorized")
    assert (await door["cash"].get(f"/v1/postings/{posting}")).body["status"] == "problem"


async def test_another_client_s_packet_is_not_there(door: Door) -> None:
    packet = fresh("am")
    await door.post(await door.open(), "1.00", packet)
    before = await door.bank.fingerprint()
    for name in ("other", "root"):
        for path in ("", "/postings"):
            answer = await door[name].get(f"/v1/packets/{packet}{path}")
            assert refused(answer) == (404, "packet_not_found")
        answer = await door[name].post(f"/v1/packets/{packet}/unload", {})
        assert refused(answer) == (404, "packet_not_found")
    for path in ("", "/postings"):
        answer = await door["other"].get(f"/v1/packets/{packet}{path}", client="cash")
        assert refused(answer) == (403, "scope_missing")
    answer = await door["other"].post(f"/v1/packets/{packet}/unload?client=cash", {})
    assert refused(answer) == (403, "scope_missing")
    answer = await door["other"].get("/v1/packets", client="cash")
    assert refused(answer) == (403, "scope_missing")
    after = await door.bank.fingerprint()
    assert _without_requests(after) == _without_requests(before)


def _without_requests(fingerprint: str) -> list[str]:
    """Refusals are kept under their keys; everything else must be as it was."""
    return [line for line in fingerprint.splitlines() if not line.startswith("ni.request")]


async def test_admin_reaches_other_clients_packets_by_name(door: Door) -> None:
    packet = fresh("am")
    await door.post(await door.open(), "1.00", packet)
    root = door["root"]
    assert (await root.get(f"/v1/packets/{packet}", client="cash")).body["client"] == "cash"
    items = (await root.get(f"/v1/packets/{packet}/postings", client="cash")).body["items"]
    assert len(items) == 1
    names = [one["packet"] for one in await pages(root, "/v1/packets", 500, client="cash")]
    assert packet in names
    answer = await root.post(f"/v1/packets/{packet}/unload?client=cash", {"accepted": False})
    assert answer.body["status"] == "awaiting_acceptance"
    answer = await root.post(f"/v1/packets/{packet}/accept?client=cash", {})
    assert refused(answer) == (409, "same_client")
    answer = await door["chief"].post(f"/v1/packets/{packet}/accept?client=cash", {})
    assert answer.status == 200


async def test_nobody_accepts_his_own(door: Door) -> None:
    packet = fresh("am")
    await door.post(await door.open(), "1.00", packet, "maker")
    await door.unload(packet, "maker", accepted=False)
    for end in ("accept", "reject"):
        for query in ("", "?client=maker"):
            answer = await door["maker"].post(f"/v1/packets/{packet}/{end}{query}", BODIES[end])
            assert refused(answer) == (409, "same_client")
    answer = await door["chief"].post(f"/v1/packets/{packet}/accept?client=maker", {})
    assert answer.status == 200


async def test_a_packet_of_one_s_own_that_another_unloaded_is_still_one_s_own(door: Door) -> None:
    packet = fresh("am")
    await door.post(await door.open(), "1.00", packet, "maker")
    answer = await door["root"].post(
        f"/v1/packets/{packet}/unload?client=maker", {"accepted": False}
    )
    assert answer.status == 200
    answer = await door["maker"].post(f"/v1/packets/{packet}/accept", {})
    assert refused(answer) == (409, "same_client")


async def test_check_none_needs_its_own_scope(door: Door) -> None:
    _, posting = await door.problem()
    path = f"/v1/problems/{posting}/resolve"
    body = {"action": "cancel", "check": "none", "reason": "x"}
    assert refused(await door["fixer"].post(path, body)) == (403, "scope_missing")
    assert (await door["forcer"].post(path, body)).status == 200


# What is not there -----------------------------------------------------------------------------

NAMES = [
    "never-seen", "x" * 64, "x" * 65, "x" * 3000, "a%20b", "a%00b", "%ff", "%F0%9F%8F%A6",
    "stp.none", "a+b", "%2e%2e", "a;b", "'--", "null",
]  # fmt: skip


@pytest.mark.parametrize("name", NAMES)
async def test_packets_that_nobody_has(door: Door, name: str) -> None:
    before = await door.bank.fingerprint()
    for path in ("", "/postings"):
        answer = await door["root"].get(f"/v1/packets/{name}{path}")
        assert answer.status == 404, (path, answer.content)
        assert_problem(answer)
    for end, body in BODIES.items():
        answer = await door["root"].post(f"/v1/packets/{name}/{end}", body)
        assert answer.status == 404, (end, answer.content)
        assert_problem(answer)
    after = await door.bank.fingerprint()
    assert _without_requests(after) == _without_requests(before)


@pytest.mark.parametrize("client", ["nobody", "", "a%20b", "a%00b", "%ff", "x" * 65])
async def test_clients_that_nobody_is(door: Door, client: str) -> None:
    packet = fresh("am")
    await door.post(await door.open(), "1.00", packet)
    for path in ("", "/postings"):
        answer = await door["root"].raw("GET", f"/v1/packets/{packet}{path}?client={client}", b"")
        assert answer.status in (404, 422), answer.content
        assert_problem(answer)
    for end, body in BODIES.items():
        answer = await door["root"].post(f"/v1/packets/{packet}/{end}?client={client}", body)
        assert answer.status in (404, 422), answer.content
        assert_problem(answer)


@pytest.mark.parametrize(
    "posting",
    ["x", "1", "null", "%00", "%ff", str(uuid4()), "0" * 3000, "{" + str(uuid4()) + "}"],
)
async def test_problems_that_nobody_has(door: Door, posting: str) -> None:
    answer = await door["fixer"].post(f"/v1/problems/{posting}/resolve", RETRY)
    assert refused(answer) == (404, "posting_not_found")


async def test_a_posting_that_is_no_problem(door: Door) -> None:
    packet = fresh("am")
    posting = await door.post(await door.open(), "1.00", packet)
    path = f"/v1/problems/{posting}/resolve"
    assert refused(await door["fixer"].post(path, RETRY)) == (409, "problem_resolved")
    await door.unload(packet)
    assert refused(await door["fixer"].post(path, RETRY)) == (409, "problem_resolved")


async def test_a_run_that_does_not_wait(door: Door) -> None:
    packet = fresh("am")
    await door.post(await door.open(), "1.00", packet)
    await door.unload(packet)
    for end, body in BODIES.items():
        if end != "unload":
            for number in (1, 2, 2**31 - 1):
                answer = await door["chief"].post(
                    f"/v1/packets/{packet}/{end}?client=cash", body | {"number": number}
                )
                assert refused(answer) == (409, "packet_not_waiting")


# Bodies ----------------------------------------------------------------------------------------

SHAPES = [
    b"", b"null", b"[]", b"5", b'"x"', b"{", b"{}{}", b"\xff\xfe", b'{"a": NaN}', b'{"more": 1}',
    b'{"number": 1, "number": 1}', b"[" * 20 + b"]" * 20, b'{"a":' * 5000 + b"1" + b"}" * 5000,
    b"{" + b" " * 70_000 + b"}",
]  # fmt: skip
FIELDS: dict[str, list[str]] = {
    "accepted": ["1", "0", '"true"', '"yes"', "null", "[]", "{}", "NaN"],
    "number": ["0", "-1", "1.0", "1.5", '"1"', "true", "[]", "2147483648", "9" * 400, "1e400"],
    "reason": ["null", "5", '""', '"a\\u0000b"', '"\\ud800"', '"a\\nb"', f'"{"x" * 501}"', "[]"],
    "actor": ["5", '""', '"a\\u0000b"', '"\\ud800"', '"a\\nb"', f'"{"x" * 65}"', "[]"],
    "action": ["null", "5", '""', '"RETRY"', '"delete"', "[]", '"retry "'],
    "check": ["null", "5", '""', '"NONE"', '"all"'],
    "debit_account": ["5", '""', '"a1"', '"A\\u0000"', f'"{"A" * 35}"', "[]"],
    "credit_account": ["5", '""', '"a1"', '"A\\u0000"', f'"{"A" * 35}"', "[]"],
}
FIELDS_OF = {
    "unload": ("accepted",),
    "accept": ("number", "actor"),
    "reject": ("number", "actor", "reason"),
    "resolve": ("action", "reason", "debit_account", "credit_account", "check", "actor"),
}


def hostile(end: str, valid: dict[str, Any]) -> list[bytes]:
    """Bodies that are wrong for an endpoint."""
    found = [*SHAPES]
    for field in FIELDS_OF[end]:
        rest = {name: value for name, value in valid.items() if name != field}
        head = json.dumps(rest)[:-1] + (", " if rest else "")
        found += [f'{head}"{field}": {value}}}'.encode() for value in FIELDS[field]]
        if field in ("reason", "action"):
            found.append(json.dumps(rest).encode())
    found.append(json.dumps(valid | {"more": 1}).encode())
    return found


@pytest.mark.parametrize("end", FIELDS_OF)
async def test_hostile_bodies(door: Door, end: str) -> None:
    packet = fresh("am")
    await door.post(await door.open(), "1.00", packet)
    await door.unload(packet, accepted=False)
    _, posting = await door.problem()
    redirect = {"action": "redirect", "debit_account": "ACC", "reason": "x"}
    valid = BODIES.get(end, redirect)
    path = f"/v1/packets/{packet}/{end}?client=cash"
    if end == "resolve":
        path = f"/v1/problems/{posting}/resolve"
    before = await door.bank.fingerprint()
    for content in hostile(end, valid):
        answer = await door["root"].send(path, content, fresh_key())
        assert answer.status in (413, 422), (content[:80], answer.content)
        assert_problem(answer)
    assert await door.bank.fingerprint() == before


@pytest.mark.parametrize(
    "body",
    [
        {"action": "retry", "debit_account": "A"},
        {"action": "cancel", "credit_account": "A"},
        {"action": "redirect"},
    ],
)
async def test_redirect_and_only_redirect_names_an_account(
    door: Door, body: dict[str, Any]
) -> None:
    answer = await door["fixer"].post(f"/v1/problems/{uuid4()}/resolve", body | {"reason": "x"})
    assert refused(answer) == (422, "validation_failed")


# Keys ------------------------------------------------------------------------------------------


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


# Lists -----------------------------------------------------------------------------------------


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


# Documentation ---------------------------------------------------------------------------------


async def test_openapi_has_them(door: Door) -> None:
    paths = (await door["cash"].get("/openapi.json")).body["paths"]
    wanted = {
        "/v1/packets": "get",
        "/v1/packets/{packet}": "get",
        "/v1/packets/{packet}/postings": "get",
        "/v1/packets/{packet}/unload": "post",
        "/v1/packets/{packet}/accept": "post",
        "/v1/packets/{packet}/reject": "post",
        "/v1/problems": "get",
        "/v1/problems/{id}/resolve": "post",
    }
    for path, method in wanted.items():
        operation = paths[path][method]
        if method == "post":
            assert "requestBody" in operation
            names = [one["name"].lower() for one in operation["parameters"]]
            assert "idempotency-key" in names
        if path.startswith("/v1/packets"):
            assert "client" in [one["name"] for one in operation["parameters"]]


async def test_everything_adds_up(door: Door) -> None:
    assert await door.bank.faults() == []
