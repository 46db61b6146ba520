"""What the REST door of packets refuses: names that nobody has, bodies that are none."""

from __future__ import annotations

import json
from typing import Any
from uuid import uuid4

import pytest

from tests.packets.door import BODIES, RETRY, Door, fresh, refused, without_requests
from tests.support.caller import assert_problem, fresh_key

pytestmark = pytest.mark.asyncio(loop_scope="module")

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
    assert without_requests(after) == without_requests(before)


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


NOBODYS = "7d09cff5-2c76-4a01-babd-5dfdf1d96cca"


@pytest.mark.parametrize(
    "posting",
    ["x", "1", "null", "%00", "%ff", NOBODYS, "0" * 3000, "{" + NOBODYS + "}"],
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


SHAPES = [
    b" ", b"null", b"[]", b"5", b'"x"', b"{", b"{}{}", b"\xff\xfe", b'{"a": NaN}', b'{"more": 1}',
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
    found = [*SHAPES] if end in ("unload", "accept") else [b"", *SHAPES]
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


async def test_everything_adds_up(door: Door) -> None:
    assert await door.bank.faults() == []
