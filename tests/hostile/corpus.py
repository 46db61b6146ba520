"""Hostile bodies for every POST: each breaks one rule of the contract and must change nothing.

`bodies(endpoint)` gives what attacks that endpoint's own fields and what attacks any JSON reader;
`batch_bodies` puts the former inside a batch beside an item that is in order.
"""

from __future__ import annotations

import gzip
import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final

from tests.hostile import values as bad

Case = tuple[str, bytes]
BODY_LIMIT: Final = 64 * 1024
BATCH_LIMIT: Final = 8 * 1024 * 1024

COMMON: Final = {"actor": bad.texts(64)}
NOTED: Final = COMMON | {"reference": bad.texts(140), "narrative": bad.texts(500)}
MOVED: Final = NOTED | {"packet": bad.PACKETS, "value_date": bad.DATES, "override": bad.OVERRIDES}


@dataclass(frozen=True)
class Endpoint:
    """A POST: where, a body that is in order, its required fields, and bad values by field."""

    operation: str
    path: str
    valid: dict[str, Any]
    required: tuple[str, ...]
    fields: dict[str, list[str]]


def endpoints(accounts: tuple[str, str], hold_id: str, posting_id: str) -> list[Endpoint]:
    """Every POST of holds and postings, aimed at two accounts, a hold and a posting that exist."""
    debit, credit = accounts
    money = {"amount": "50.00", "currency": "CZK"}
    packet = {"packet": "cash-am"}
    hold = {"account": debit} | money
    posting = {"debit_account": debit, "credit_account": credit} | money | packet
    capture = {"credit_account": credit, "amount": "1.00"} | packet
    return [
        Endpoint("hold", "/v1/holds", hold, tuple(hold), HOLD),
        Endpoint("capture", f"/v1/holds/{hold_id}/capture", capture, ("credit_account",), CAPTURE),
        Endpoint("release", f"/v1/holds/{hold_id}/release", {"amount": "1.00"}, (), RELEASE),
        Endpoint("adjust", f"/v1/holds/{hold_id}/adjust", {"amount": "9.00"}, (), ADJUST),
        Endpoint("posting", "/v1/postings", posting, tuple(posting), POSTING),
        Endpoint(
            "cancel", f"/v1/postings/{posting_id}/cancel", {"reason": "twice"}, ("reason",), CANCEL
        ),
    ]


HOLD: Final = NOTED | {
    "account": bad.ACCOUNTS,
    "amount": [*bad.AMOUNTS, "null"],
    "currency": bad.CURRENCIES,
    "check": bad.CHECKS,
    "kind": bad.KINDS,
    "expires_at": bad.TIMES + bad.PAST_TIMES,
    "override": bad.OVERRIDES,
}
CAPTURE: Final = MOVED | {
    "credit_account": bad.ACCOUNTS,
    "amount": bad.AMOUNTS,
    "final": bad.BOOLEANS,
    "over_capture": bad.OVERS,
}
RELEASE: Final = COMMON | {"amount": bad.AMOUNTS, "reference": bad.texts(140)}
ADJUST: Final = COMMON | {
    "amount": bad.AMOUNTS,
    "expires_at": bad.TIMES + bad.PAST_TIMES,
    "check": bad.CHECKS,
}
POSTING: Final = MOVED | {
    "debit_account": bad.ACCOUNTS,
    "credit_account": bad.ACCOUNTS,
    "amount": [*bad.AMOUNTS, "null"],
    "currency": bad.CURRENCIES,
    "check": bad.CHECKS,
    "type": bad.TYPES,
    "valid_from": bad.TIMES,
    "link_id": bad.UUIDS,
}
CANCEL: Final = COMMON | {"check": bad.CHECKS, "reason": [*bad.texts(500), "null", '""']}


def bodies(endpoint: Endpoint) -> Iterator[Case]:
    """All hostile bodies of one endpoint."""
    yield from field_bodies(endpoint)
    yield from shape_bodies(endpoint)
    yield from json_bodies(endpoint)


def field_bodies(endpoint: Endpoint) -> Iterator[Case]:
    """One field bad, everything else in order."""
    for field, values in endpoint.fields.items():
        for value in values:
            yield f"{field}={value[:60]}", with_raw(endpoint.valid, field, value)


def with_raw(valid: dict[str, Any], field: str, value: str) -> bytes:
    """The valid body with one field's value replaced by JSON text, sensible or not."""
    rest = {name: one for name, one in valid.items() if name != field}
    others = "".join(f", {json.dumps(name)}: {json.dumps(one)}" for name, one in rest.items())
    return f"{{{json.dumps(field)}: {value}{others}}}".encode("utf-8", "surrogatepass")


def shape_bodies(endpoint: Endpoint) -> Iterator[Case]:
    """Fields missing, unknown, contradictory."""
    valid = endpoint.valid
    for field in endpoint.required:
        rest = {name: value for name, value in valid.items() if name != field}
        yield f"without {field}", json.dumps(rest).encode()
    for field in ["Amount", "amount ", "", "__proto__", "x" * 1000, "posting_id", "client", "idem"]:
        yield f"unknown {field[:20]!r}", json.dumps(valid | {field: "1"}).encode()
    yield "unknown null", json.dumps(valid | {"nothing": None}).encode()
    yield "unknown surrogate", with_raw(valid, "a", "1").replace(b'"a"', b'"\\ud800"')
    yield "unknown NUL", with_raw(valid, "a", "1").replace(b'"a"', b'"a\\u0000"')
    if "packet" in valid:
        rest = {name: value for name, value in valid.items() if name != "packet"}
        yield "packet and straight_through", json.dumps(valid | {"straight_through": True}).encode()
        yield "packet null, no straight_through", json.dumps(valid | {"packet": None}).encode()
        for value in [*bad.BOOLEANS, "false"]:
            yield f"straight_through={value}", with_raw(rest, "straight_through", value)
    if "debit_account" in valid:
        same = {"credit_account": valid["debit_account"]}
        yield "same account on both sides", json.dumps(valid | same).encode()
    yield from cross_field_bodies(endpoint)


def cross_field_bodies(endpoint: Endpoint) -> Iterator[Case]:
    """An amount that does not fit its currency."""
    if "currency" not in endpoint.fields:
        return
    for amount, currency in [("50.0", "JPY"), ("1.1", "KRW"), ("1.0001", "KWD"), ("1.001", "EUR")]:
        body = endpoint.valid | {"amount": amount, "currency": currency}
        yield f"{amount} {currency}", json.dumps(body).encode()
    if endpoint.operation == "hold":
        for original in ("1.001", "-1", "", "1e3", 5, 0.5):
            more = {"original_amount": original, "original_currency": "EUR"}
            yield f"original {original}", json.dumps(endpoint.valid | more).encode()
        more = {"original_amount": "1.00", "original_currency": "eur"}
        yield "original in small letters", json.dumps(endpoint.valid | more).encode()


def json_bodies(endpoint: Endpoint) -> Iterator[Case]:
    """What no JSON reader should take, or what only a careless one takes."""
    valid = json.dumps(endpoint.valid).encode()
    inside = valid[1:]
    yield from encoded_bodies(valid)
    for text in [b" ", b"null", b"true", b"0", b'"x"', b"[]", b"[{}]", b"{", b"}", b"[", b"nul"]:
        yield f"only {text!r}", text
    for text in [b"NaN", b"Infinity", b"undefined", b"---\na: 1", b"<a/>", b"a=1&b=2", b"\x00"]:
        yield f"only {text!r}", text
    for end in (1, 2, len(valid) // 2, len(valid) - 1):
        yield f"cut at {end}", valid[:end]
    for tail in [b"x", b"{}", b",", b"}", b"\x00", b"//c", valid]:
        yield f"followed by {tail[:9]!r}", valid + tail
    for head in [b"//c\n", b"/**/", b"\x00", b"x", b")]}',\n"]:
        yield f"led by {head!r}", head + valid
    for extra in [b"'a': 1, ", b"a: 1, ", b'"a": 01, ', b'"a": .5, ', b'"a": 0x1, ', b'"a", ']:
        yield f"member {extra!r}", b"{" + extra + inside
    for extra in [
        b'"a": "\n", ',
        b'"a": "\\x", ',
        b'"a": "\\u12", ',
        b'"a": +1, ',
        b'"a":, ',
        b",",
    ]:
        yield f"member {extra!r}", b"{" + extra + inside
    yield "trailing comma", valid[:-1] + b",}"
    for value in [b"NaN", b"1e999999", bad.LONG_INT.encode(), b"-" + bad.LONG_INT.encode()]:
        yield f"unknown number {value[:12]!r}", b'{"a": ' + value + b", " + inside
    yield from duplicate_bodies(endpoint, inside)
    yield from big_bodies(valid, inside)


def encoded_bodies(valid: bytes) -> Iterator[Case]:
    """Not UTF-8, or not only."""
    text = valid.decode()
    yield "byte order mark", b"\xef\xbb\xbf" + valid
    for encoding in ("utf-16", "utf-16-le", "utf-16-be", "utf-32", "utf-7", "cp037"):
        encoded = text.replace("{", "{ ").encode(encoding)
        if encoded != text.replace("{", "{ ").encode():
            yield encoding, encoded
    yield "gzip", gzip.compress(valid)
    for name, raw in [("lone continuation", b"\x80"), ("overlong", b"\xc0\x80")]:
        yield name, b'{"reference": "' + raw + b'", ' + valid[1:]
    for name, raw in [("raw surrogate", b"\xed\xa0\x80"), ("above unicode", b"\xf5\x80\x80\x80")]:
        yield name, b'{"reference": "' + raw + b'", ' + valid[1:]
    yield "cut character", valid[:-1] + b', "reference": "\xe2\x82"}'
    yield "latin-1", valid[:-1] + b', "reference": "caf\xe9"}'


def duplicate_bodies(endpoint: Endpoint, inside: bytes) -> Iterator[Case]:
    """One name twice, also in another spelling and further down."""
    for field, value in endpoint.valid.items():
        member = f"{json.dumps(field)}: {json.dumps(value)}".encode()
        yield f"{field} twice", b"{" + member + b", " + inside
        escaped = f'"\\u{ord(field[0]):04x}{field[1:]}": {json.dumps(value)}'.encode()
        yield f"{field} twice, once escaped", b"{" + escaped + b", " + inside
    nested = b'"override": {"legal_reference": "a", "legal_reference": "b"}, '
    yield "twice, nested", b"{" + nested + inside


def big_bodies(valid: bytes, inside: bytes) -> Iterator[Case]:
    """Too deep, too long."""
    for depth in (17, 500, 30_000):
        yield f"lists {depth} deep", b'{"a": ' + b"[" * depth + b"]" * depth + b", " + inside
        yield f"open lists {depth} deep", b"[" * depth
    for depth in (17, 500, 9_000):
        yield f"objects {depth} deep", b'{"a":' * depth + b"1" + b"}" * depth
    yield "blanks beyond the limit", valid + b" " * (BODY_LIMIT + 1 - len(valid))
    yield "text beyond the limit", b'{"reference": "' + b"x" * BODY_LIMIT + b'", ' + inside
    members = b"".join(b'"f%d": 1, ' % number for number in range(8000))
    yield "8,000 members", b"{" + members[: BODY_LIMIT - 2000].rpartition(b'"f')[0] + inside


def foreign_bodies(endpoint: Endpoint, others: list[Endpoint]) -> Iterator[Case]:
    """What is in order elsewhere is not in order here."""
    for other in others:
        fits = other.valid.keys() <= endpoint.fields.keys()
        if not fits or not set(endpoint.required) <= other.valid.keys():
            yield f"a {other.operation}", json.dumps(other.valid).encode()


def is_told_late(endpoint: Endpoint, name: str) -> bool:
    """What only the database knows to be wrong: its clock, its dates, the hold's currency."""
    field, _, value = name.partition("=")
    if endpoint.operation in ("capture", "release") and field == "amount":
        return value in ('"50.001"', '"50.0000"', '"10000000000000.00"')
    if field == "value_date":
        return value in ('"2999-01-01"', '"9999-12-31"')
    return field == "expires_at" and value in bad.PAST_TIMES


def batch_bodies(ends: list[Endpoint], item: dict[str, Any], *, late: bool) -> Iterator[Case]:
    """A batch with one item in order and one hostile item, for every hostile item.

    `late`: the items that only the decision can tell to be wrong, else all the others.
    """
    good = json.dumps(item).encode()
    for end in ends:
        if end.operation in ("cancel", "adjust"):
            continue
        hold = f'"hold_id": "{end.path.split("/")[3]}", ' if "/holds/" in end.path else ""
        for name, body in [*field_bodies(end), *shape_bodies(end)]:
            head = f'{{"operation": "{end.operation}", "idempotency_key": "bad-1", {hold}'.encode()
            if is_told_late(end, name) is not late:
                continue
            raw = b'{"mode": "independent", "items": [' + good + b", " + head + body[1:] + b"]}"
            yield f"item {end.operation}: {name}", raw


def batch_shape_bodies(item: dict[str, Any]) -> Iterator[Case]:
    """Batches that are wrong as a whole."""
    for mode in ["", "ATOMIC", "both", 1, None, [], True]:
        yield f"mode {mode!r}", json.dumps({"mode": mode, "items": [item]}).encode()
    broken: list[Any] = [
        None,
        {},
        "x",
        5,
        [],
        [None],
        [5],
        ["x"],
        [[]],
        [{}],
        [item, None],
        {"0": item},
    ]
    for items in broken:
        body = {"mode": "independent", "items": items}
        yield f"items {str(items)[:30]}", json.dumps(body).encode()
    wrong: list[Any] = [None, 5, "", "x" * 65, "a b", "\u00e9", "a\u0000", [], True, "cancel\n"]
    for field in ("operation", "idempotency_key"):
        for value in wrong:
            one = item | {field: value}
            body = {"mode": "atomic", "items": [one]}
            yield f"{field}={value!r}"[:40], json.dumps(body).encode()
        rest = {name: value for name, value in item.items() if name != field}
        yield f"no {field}", json.dumps({"mode": "atomic", "items": [rest]}).encode()
    yield "no mode", json.dumps({"items": [item]}).encode()
    yield "no items", json.dumps({"mode": "atomic"}).encode()
    yield "unknown", json.dumps({"mode": "atomic", "items": [item], "more": 1}).encode()
    many = [item | {"idempotency_key": f"many-{number}"} for number in range(10_001)]
    yield "10,001 items", json.dumps({"mode": "independent", "items": many}).encode()
    yield "1,001 atomic", json.dumps({"mode": "atomic", "items": many[:1001]}).encode()
    good = json.dumps({"mode": "atomic", "items": [item]}).encode()
    yield "beyond 8 MiB", good + b" " * (BATCH_LIMIT + 1 - len(good))
