"""Every answer is the document that OpenAPI describes: no field more, none less."""

from __future__ import annotations

import asyncio
from typing import Any, Final

import pytest

from api.answers import Answer as Described
from api.answers import ProblemAnswer
from api.clients import MISS_PAUSE_S
from api.routes import ROUTES
from tests.hostile.scene import CREDIT, DEBIT, PACKET, Scene
from tests.support.caller import Answer, Caller, http_client

pytestmark = pytest.mark.asyncio(loop_scope="module")

DESCRIBED: Final = {route.name: route.answer for route in ROUTES if route.answer is not None}
MONEY: Final = {"amount": "5.00", "currency": "CZK"}
SIDES: Final = {"debit_account": DEBIT, "credit_account": CREDIT}


def described(name: str, answer: Answer) -> dict[str, Any]:
    """The answer's body, after it was held against the model of the operation `name`."""
    model = DESCRIBED[name]
    made = model.model_validate_json(answer.content, strict=True)
    again = made.model_dump(by_alias=True, exclude_unset=True)
    assert _fields(again) == _fields(answer.body)
    assert {n for n, f in model.model_fields.items() if f.is_required()} <= made.model_fields_set
    return answer.body


def _fields(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _fields(inner) for name, inner in value.items()}
    return [_fields(item) for item in value] if isinstance(value, list) else None


async def _hold(scene: Scene, **more: object) -> dict[str, Any]:
    answer = await scene.client.post("/v1/holds", {"account": DEBIT} | MONEY | more)
    return described("create_hold", answer)


async def test_postings(scene: Scene) -> None:
    client = scene.client
    more = {"reference": "R-1", "narrative": "rent", "actor": "desk 1"}
    posting = described(
        "create_posting", await client.post("/v1/postings", SIDES | MONEY | PACKET | more)
    )
    path = f"/v1/postings/{posting['posting_id']}"
    assert described("read_posting", await client.get(path)) == posting
    described("cancel_posting", await client.post(f"{path}/cancel", {"reason": "typed twice"}))


async def test_holds(scene: Scene) -> None:
    client = scene.client
    original = {"original_amount": "1.23", "original_currency": "EUR"}
    hold = await _hold(scene, expires_at="2093-01-04T10:00:00Z", **original)
    path = f"/v1/holds/{hold['hold_id']}"
    assert described("read_hold", await client.get(path)) == hold
    described("adjust_hold", await client.post(f"{path}/adjust", {"amount": "4.00"}))
    described("release_hold", await client.post(f"{path}/release", {"amount": "1.00"}))
    capture = {"credit_account": CREDIT, "amount": "2.00"} | PACKET
    described("capture_hold", await client.post(f"{path}/capture", capture))


async def test_accounts(scene: Scene) -> None:
    client = scene.client
    await scene.bank.block(CREDIT, "credit")
    for account in (DEBIT, CREDIT):
        path = f"/v1/accounts/{account}"
        described("read_balance", await client.get(f"{path}/balance"))
        for size in (2, 500):
            described("list_holds", await client.get(f"{path}/holds", page_size=size))
            described("list_movements", await client.get(f"{path}/movements", page_size=size))
    await scene.bank.unblock(CREDIT)


async def test_batches(scene: Scene) -> None:
    hold = await _hold(scene)
    items = [
        {"operation": "posting"} | SIDES | MONEY | PACKET,
        {"operation": "hold", "account": DEBIT} | MONEY,
        {"operation": "capture", "hold_id": hold["hold_id"], "credit_account": CREDIT} | PACKET,
        {"operation": "release", "hold_id": hold["hold_id"]},
        {"operation": "posting"} | SIDES | PACKET | {"amount": "999999.00", "currency": "CZK"},
    ]
    keyed = [item | {"idempotency_key": f"answers-{n}"} for n, item in enumerate(items)]
    answer = await scene.client.post("/v1/batches", {"mode": "independent", "items": keyed})
    found = described("create_batch", answer)
    assert [result["status"] for result in found["results"]] == [201, 201, 201, 409, 409]


async def test_packets(scene: Scene) -> None:
    http, url = http_client(), scene.api.base_url
    desk_key = await scene.bank.add_client("desk", ["packet:accept", "problem:resolve"])
    cash_key = await scene.bank.add_client("cash", ["posting:write", "packet:unload"])
    desk, client = Caller(http, url, desk_key), Caller(http, url, cash_key)
    await asyncio.sleep(MISS_PAUSE_S)  # a key that is new is looked for no sooner
    mine = {"client": "cash"}
    packet = {"packet": "answers"}
    for _ in range(2):
        described("create_posting", await client.post("/v1/postings", SIDES | MONEY | packet))
    await scene.bank.block(DEBIT, "debit")
    unload = "/v1/packets/answers/unload"
    described("unload_packet", await client.post(unload, {}))
    await scene.bank.unblock(DEBIT)
    problems = described("list_problems", await desk.get("/v1/problems", status="open", **mine))
    assert len(problems["items"]) == 2
    for problem, action in zip(problems["items"], ("retry", "cancel"), strict=True):
        path = f"/v1/problems/{problem['posting_id']}/resolve"
        body = {"action": action, "reason": "the block was a mistake"}
        described("resolve_problem", await desk.post(path, body))
    described("list_problems", await desk.get("/v1/problems", **mine))
    described("unload_packet", await client.post(unload, {"accepted": False}))
    reject = "/v1/packets/answers/reject?client=cash"
    described("reject_packet", await desk.post(reject, {"reason": "not today"}))
    described("unload_packet", await client.post(unload, {"accepted": False}))
    accept = "/v1/packets/answers/accept?client=cash"
    described("accept_packet", await desk.post(accept, {}))
    described("read_packet", await client.get("/v1/packets/answers"))
    described("list_packets", await client.get("/v1/packets"))
    described("list_packet_postings", await client.get("/v1/packets/answers/postings"))
    await http.aclose()


async def test_problems(scene: Scene) -> None:
    answer = await scene.client.post("/v1/postings", SIDES | PACKET | {"amount": "-1"})
    problem = ProblemAnswer.model_validate_json(answer.content, strict=True)
    assert problem.status == answer.status == 422


async def test_a_field_more_or_less_is_seen() -> None:
    class Small(Described):
        one: int

    for text in (b"{}", b'{"one":1,"two":2}', b'{"one":"1"}'):
        with pytest.raises(ValueError, match="validation error"):
            Small.model_validate_json(text, strict=True)


async def test_every_answer_of_the_contract_is_described() -> None:
    assert {r.name for r in ROUTES if r.path.startswith("/v1")} == DESCRIBED.keys()
