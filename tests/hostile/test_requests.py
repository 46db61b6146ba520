"""Hostile ids, paths, queries and headers."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.hostile.scene import CREDIT, DEBIT, PACKET, Scene, fault_of
from tests.support.caller import assert_problem, fresh_key

pytestmark = pytest.mark.asyncio(loop_scope="module")

BAD_IDS = [
    "x",
    "1",
    "-1",
    "null",
    "%00",
    "..%2f..",
    "%F0%9F%8F%A6",
    "%ff%fe",
    "01890a5d-ac96-774b-bcce-b302099a8057",
    "01890a5d-ac96-774b-bcce-b302099affff",
    "00000000-0000-0000-0000-000000000000",
    "ffffffff-ffff-ffff-ffff-ffffffffffff",
    "01890a5dac96774bbcceb302099a8057",
    "%7B01890a5d-ac96-774b-bcce-b302099a8057%7D",
    "01890a5d-ac96-774b-bcce-b302099a8057'--",
    "0" * 3000,
]
BAD_ACCOUNTS = [
    "x",
    "a1",
    "A_1",
    "A" * 35,
    "A" * 3000,
    "%00",
    "%ff",
    "A%20B",
    "NEVER-SEEN",
    "%F0%9F%8F%A6",
]


@pytest.mark.parametrize("identifier", BAD_IDS)
async def test_ids_that_point_nowhere(scene: Scene, identifier: str) -> None:
    before = await scene.bank.owner.fetchval("select count(*) from ni.outbox")
    for path in [f"/v1/holds/{identifier}", f"/v1/postings/{identifier}"]:
        answer = await scene.client.get(path)
        assert_problem(answer)
        assert answer.status == 404, (path, answer.content)
    bodies: dict[str, dict[str, Any]] = {
        f"/v1/holds/{identifier}/capture": {"credit_account": CREDIT, "amount": "1"} | PACKET,
        f"/v1/holds/{identifier}/release": {},
        f"/v1/holds/{identifier}/adjust": {"amount": "2.00"},
        f"/v1/postings/{identifier}/cancel": {"reason": "x"},
    }
    for path, body in bodies.items():
        answer = await scene.client.post(path, body)
        assert_problem(answer)
        assert answer.status == 404, (path, answer.content)
    assert await scene.bank.owner.fetchval("select count(*) from ni.outbox") == before


@pytest.mark.parametrize("account", BAD_ACCOUNTS)
async def test_accounts_that_nobody_has(scene: Scene, account: str) -> None:
    for noun in ["balance", "holds", "movements"]:
        answer = await scene.client.get(f"/v1/accounts/{account}/{noun}")
        assert_problem(answer)
        assert answer.status == 404, (noun, answer.content)


@pytest.mark.parametrize("noun", ["holds", "movements"])
@pytest.mark.parametrize("size", ["0", "-1", "501", "abc", "1.5", "", "1e2", "\uff19", "9" * 5000])
async def test_page_sizes_that_are_none(scene: Scene, noun: str, size: str) -> None:
    answer = await scene.client.get(f"/v1/accounts/{DEBIT}/{noun}", page_size=size)
    assert (answer.status, answer.code) == (422, "validation_failed"), answer.content


@pytest.mark.parametrize("noun", ["holds", "movements"])
@pytest.mark.parametrize(
    "token",
    ["x", "-1", "\u0000", "%", "AAAA", "é", "eyJhIjoxfQ==", "null", "A" * 5000, "\U0001f3e6"],
)
async def test_page_tokens_that_nobody_gave(scene: Scene, noun: str, token: str) -> None:
    answer = await scene.client.get(f"/v1/accounts/{DEBIT}/{noun}", page_token=token)
    assert fault_of(token, answer) is None, answer.content


@pytest.mark.parametrize("noun", ["holds", "movements"])
async def test_queries_with_a_nul(scene: Scene, noun: str) -> None:
    answer = await scene.client.get(f"/v1/accounts/{DEBIT}/{noun}", reference="a\u0000b")
    assert answer.status < 500, answer.content
    answer = await scene.client.get(f"/v1/accounts/{DEBIT}/holds", status="shiny")
    assert fault_of("status", answer) is None, answer.content


@pytest.mark.parametrize(
    "authorization",
    [
        *["", "Bearer", "Bearer ", "Bearer x", "Basic eDp5", "ni_", "Bearer ni_", "Token x"],
        *[
            "Bearer " + "x" * 5000,
            "Bearer ni_" + "A" * 43,
            "Bearer \u00e9",
            "Bearer a b",
            "Bearer ,",
        ],
        *["Bearer null", "Bearer ' or 1=1 --", "Bearer\tx", "Digest username=x"],
    ],
)
async def test_keys_that_open_nothing(scene: Scene, authorization: str) -> None:
    headers = {"Authorization": authorization, "Idempotency-Key": fresh_key()}
    for method, path in [("GET", f"/v1/accounts/{DEBIT}/balance"), ("POST", "/v1/holds")]:
        response = await scene.client.raw(method, path, b"{}", headers)
        assert_problem(response, "unauthorized")
        assert response.status == 401


async def test_an_unknown_key_opens_nothing(scene: Scene) -> None:
    answer = await scene.nobody.get(f"/v1/accounts/{DEBIT}/balance")
    assert (answer.status, answer.code) == (401, "unauthorized")


async def test_a_key_opens_only_its_scopes(scene: Scene) -> None:
    posting = {"debit_account": DEBIT, "credit_account": CREDIT, "amount": "1", "currency": "CZK"}
    item = {"operation": "posting", "idempotency_key": "narrow-1"} | posting | PACKET
    bodies: dict[str, dict[str, Any]] = {
        "/v1/holds": {"account": DEBIT, "amount": "1.00", "currency": "CZK"},
        f"/v1/holds/{scene.hold_id}/capture": {"credit_account": CREDIT} | PACKET,
        f"/v1/holds/{scene.hold_id}/release": {},
        f"/v1/holds/{scene.hold_id}/adjust": {"amount": "2.00"},
        "/v1/postings": posting | PACKET,
        f"/v1/postings/{scene.posting_id}/cancel": {"reason": "x"},
        "/v1/batches": {"mode": "independent", "items": [item]},
    }
    before = await scene.bank.fingerprint()
    for path, body in bodies.items():
        answer = await scene.narrow.post(path, body)
        assert (answer.status, answer.code) == (403, "scope_missing"), (path, answer.content)
    assert await scene.bank.fingerprint() == before


async def test_force_and_override_need_scopes_of_their_own(scene: Scene) -> None:
    plain = scene.plain
    hold = {"account": DEBIT, "amount": "1.00", "currency": "CZK"}
    posting = {"debit_account": DEBIT, "credit_account": CREDIT, "amount": "1", "currency": "CZK"}
    capture = f"/v1/holds/{scene.hold_id}/capture"
    override = {"override": {"legal_reference": "order 7"}}
    for path, body in [
        ("/v1/holds", hold | {"check": "none"}),
        ("/v1/holds", hold | override),
        ("/v1/postings", posting | PACKET | {"check": "none"}),
        ("/v1/postings", posting | PACKET | override),
        (capture, {"credit_account": CREDIT, "over_capture": "none"} | PACKET),
        (capture, {"credit_account": CREDIT} | PACKET | override),
        (f"/v1/postings/{scene.posting_id}/cancel", {"reason": "x", "check": "none"}),
        (f"/v1/holds/{scene.hold_id}/adjust", {"amount": "2", "check": "none"}),
    ]:
        answer = await plain.post(path, body)
        assert (answer.status, answer.code) == (403, "scope_missing"), (path, body, answer.content)


async def test_another_clients_movements_are_not_there(scene: Scene) -> None:
    stranger = scene.stranger
    for path in [f"/v1/holds/{scene.hold_id}", f"/v1/postings/{scene.posting_id}"]:
        assert (await stranger.get(path)).status == 404
    for path, body in [
        (f"/v1/holds/{scene.hold_id}/capture", {"credit_account": CREDIT} | PACKET),
        (f"/v1/holds/{scene.hold_id}/release", {}),
        (f"/v1/holds/{scene.hold_id}/adjust", {"amount": "2.00"}),
        (f"/v1/postings/{scene.posting_id}/cancel", {"reason": "x"}),
    ]:
        answer = await stranger.post(path, body)
        assert answer.status == 404, (path, answer.content)
    answer = await scene.client.get(f"/v1/holds/{scene.hold_id}")
    assert answer.body["status"] == "active"


@pytest.mark.parametrize("key", ["", " ", "x" * 65, "a b", "é", "\u0080", "a\tb"])
async def test_idempotency_keys_that_are_none(scene: Scene, key: str) -> None:
    body = json.dumps({"account": DEBIT, "amount": "1.00", "currency": "CZK"}).encode()
    headers = {"Idempotency-Key": key, "Content-Type": "application/json"}
    answer = await scene.client.raw("POST", "/v1/holds", body, headers)
    allowed = {"idempotency_key_invalid"} | (
        {"idempotency_key_missing"} if not key.strip() else set()
    )
    assert answer.status == 400, answer.content
    assert answer.code in allowed


async def test_a_missing_idempotency_key(scene: Scene) -> None:
    before = await scene.bank.fingerprint()
    for end in scene.endpoints:
        answer = await scene.client.raw("POST", end.path, json.dumps(end.valid).encode())
        assert (answer.status, answer.code) == (400, "idempotency_key_missing"), end.path
    assert await scene.bank.fingerprint() == before


@pytest.mark.parametrize(
    "kind",
    ["", "text/plain", "application/xml", "nonsense", "application/json; charset=utf-16", "é/é"],
)
async def test_content_types(scene: Scene, kind: str) -> None:
    """A body that is not in order stays a problem, whatever it calls itself."""
    headers = {"Idempotency-Key": fresh_key(), "Content-Type": kind}
    answer = await scene.client.raw("POST", "/v1/holds", b'{"account": 5}', headers)
    assert fault_of(kind, answer) is None, answer.content


@pytest.mark.parametrize("method", ["GET", "PUT", "DELETE", "PATCH"])
async def test_methods_that_are_not_there(scene: Scene, method: str) -> None:
    answer = await scene.client.raw(method, "/v1/postings", b"{}", {"Idempotency-Key": fresh_key()})
    assert fault_of(method, answer) is None, (answer.status, answer.content)


@pytest.mark.parametrize(
    "path", ["/v1", "/v1/nothing", "/v1/holds/", "/v1//holds", "/%00", "/v1/holds/x/y"]
)
async def test_paths_that_are_not_there(scene: Scene, path: str) -> None:
    answer = await scene.client.raw("POST", path, b"{}", {"Idempotency-Key": fresh_key()})
    assert answer.status < 500
    assert answer.status in (307, 404, 405), (answer.status, answer.content)
