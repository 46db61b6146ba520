"""The REST door of packets and problems, with the real API: what it does and for whom."""

from __future__ import annotations

import json
from uuid import uuid4

import pytest

from tests.packets.door import BODIES, CASH, RETRY, Door, fresh, pages, refused, without_requests
from tests.support.caller import fresh_key

pytestmark = pytest.mark.asyncio(loop_scope="module")


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
    assert without_requests(after) == without_requests(before)


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
    differing = await door.bank.owner.fetch(
        "select * from (select client, packet, sum(booked) as booked from ni.unload"
        " where accepted group by 1, 2) u"
        " full join (select client, packet, count(*) as booked from ni.posting"
        " where home and status = 'booked' group by 1, 2) p using (client, packet)"
        " where coalesce(u.booked, 0) <> coalesce(p.booked, 0)"
    )
    assert differing == []


async def test_a_body_without_fields_may_be_left_out(door: Door) -> None:
    packet = fresh("am")
    await door.post(await door.open(), "1.00", packet)
    path = f"/v1/packets/{packet}"
    unloaded = await door["cash"].send(f"{path}/unload", b"", fresh_key())
    assert (unloaded.status, unloaded.body["booked"]) == (200, 1)
    same, key = fresh("am"), fresh_key()
    await door.post(await door.open(), "1.00", same)
    first = await door["cash"].send(f"/v1/packets/{same}/unload", b"", key)
    again = await door["cash"].send(f"/v1/packets/{same}/unload", b"{}", key)
    assert again.replayed
    assert again.content == first.content
    missing = await door["chief"].send(f"{path}/reject?client=cash", b"", fresh_key())
    assert (missing.status, missing.body["errors"][0]["field"]) == (422, "reason")
