"""Hostile bodies on every POST: always a 4xx problem, never a 500, and nothing changed."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.hostile.corpus import Endpoint, batch_bodies, batch_shape_bodies, bodies, foreign_bodies
from tests.hostile.corpus import json_bodies as bodies_of_json
from tests.hostile.scene import CREDIT, DEBIT, PACKET, Scene

pytestmark = pytest.mark.asyncio(loop_scope="module")

OPERATIONS = ["hold", "capture", "release", "adjust", "posting", "cancel"]
ITEM: dict[str, Any] = {
    "operation": "posting",
    "idempotency_key": "good-1",
    "debit_account": DEBIT,
    "credit_account": CREDIT,
    "amount": "1.00",
    "currency": "CZK",
} | PACKET


@pytest.mark.parametrize("operation", OPERATIONS)
async def test_a_hostile_body_is_a_problem_and_changes_nothing(
    scene: Scene, operation: str
) -> None:
    before = await scene.bank.fingerprint()
    (endpoint,) = [end for end in scene.endpoints if end.operation == operation]
    cases = [*bodies(endpoint), *foreign_bodies(endpoint, scene.endpoints)]
    assert len(cases) >= 150
    faults = await scene.attack(endpoint.path, cases)
    assert not faults, "\n".join(faults)
    assert await scene.bank.fingerprint() == before


async def test_a_hostile_item_refuses_its_whole_batch(scene: Scene) -> None:
    before = await scene.bank.fingerprint()
    cases = list(batch_bodies(scene.endpoints, ITEM, late=False))
    assert len(cases) >= 200
    faults = await scene.attack("/v1/batches", cases)
    assert not faults, "\n".join(faults)
    assert await scene.bank.fingerprint() == before


async def test_an_item_that_only_the_decision_can_refuse(scene: Scene) -> None:
    """It is refused alone with 422, and not kept under its key."""
    cases = list(batch_bodies(scene.endpoints, ITEM, late=True))
    assert len(cases) >= 8
    for name, content in cases:
        answer = await scene.client.send("/v1/batches", content, "unused")
        if answer.status == 200:
            good, bad = answer.body["results"]
            assert good["status"] == 201
            assert (bad["status"], bad["body"]["code"]) == (422, "validation_failed"), name
        else:
            assert (answer.status, answer.code) == (422, "validation_failed"), name
    kept = await scene.bank.owner.fetchval("select count(*) from ni.request where key = 'bad-1'")
    assert kept == 0


async def test_a_hostile_batch_is_a_problem(scene: Scene) -> None:
    before = await scene.bank.fingerprint()
    whole = {"mode": "independent", "items": [ITEM]}
    as_endpoint = Endpoint("batch", "/v1/batches", whole, (), {})
    generic = [
        case
        for case in bodies_of_json(as_endpoint)
        if "beyond the limit" not in case[0]  # a batch may be longer than 64 KiB
    ]
    faults = await scene.attack("/v1/batches", [*generic, *batch_shape_bodies(ITEM)])
    assert not faults, "\n".join(faults)
    assert await scene.bank.fingerprint() == before


async def test_an_invalid_item_is_named(scene: Scene) -> None:
    bad = ITEM | {"amount": "1.001", "idempotency_key": "bad-1"}
    answer = await scene.client.post("/v1/batches", {"mode": "independent", "items": [ITEM, bad]})
    assert (answer.status, answer.code) == (422, "validation_failed")
    assert "1" in json.dumps(answer.body["errors"]), answer.body


async def test_the_same_account_on_both_sides_has_a_name_of_its_own(scene: Scene) -> None:
    body = {"debit_account": DEBIT, "credit_account": DEBIT, "amount": "1.00", "currency": "CZK"}
    answer = await scene.client.post("/v1/postings", body | PACKET)
    assert (answer.status, answer.code) == (422, "same_account")
    path = f"/v1/holds/{scene.hold_id}/capture"
    answer = await scene.client.post(path, {"credit_account": DEBIT} | PACKET)
    assert (answer.status, answer.code) == (422, "same_account")


async def test_a_refused_body_does_not_use_up_its_key(scene: Scene) -> None:
    body = {"account": DEBIT, "amount": "1.001", "currency": "CZK"}
    assert (await scene.client.post("/v1/holds", body, "kept-1")).status == 422
    answer = await scene.client.post("/v1/holds", body | {"amount": "1.00"}, "kept-1")
    assert answer.status == 201, answer.content
    path = f"/v1/holds/{answer.body['hold_id']}/release"
    assert (await scene.client.post(path, {})).status == 200


async def test_spellings_that_are_in_order(scene: Scene) -> None:
    """What looks odd and is right: not everything unusual may be refused."""
    for amount in ["1", "1.0", "1.00"]:
        body = {"account": DEBIT, "amount": amount, "currency": "CZK", "reference": "ěščř 銀行 🏦"}
        answer = await scene.client.post("/v1/holds", body)
        assert answer.status == 201, answer.content
        assert answer.body["amount"] == "1.00"
        assert answer.body["reference"] == "ěščř 銀行 🏦"
        path = f"/v1/holds/{answer.body['hold_id']}/release"
        assert (await scene.client.post(path, {})).status == 200
