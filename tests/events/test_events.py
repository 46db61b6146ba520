"""The envelope: what an outbox row becomes, and what is no event."""

from __future__ import annotations

import json
from typing import Any
from uuid import UUID, uuid4

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ni.batch_state import instant_of
from ni.clock import EPOCH
from ni.documents import rfc3339
from ni.events import (
    BODY_MAX_BYTES,
    COLUMNS,
    COMMON,
    EXTRAS,
    BadEvent,
    parse,
    render,
    render_row,
    time_of,
)
from ni.identifiers import make_id

INSTANT_US = 1_795_255_200_123_456
ID = make_id(INSTANT_US, 7, 3)
TEXT = st.text(st.characters(exclude_categories=("Cs", "Cc")), max_size=500)


def row(**values: Any) -> tuple[Any, ...]:
    """An outbox row; what is not named is null."""
    fixed = {"event_id": ID, "type": "ni.day.closed", "epoch": 2, "client": "ops"}
    return tuple((fixed | values).get(column) for column in COLUMNS)


MOVEMENT = {
    "type": "ni.posting.created", "account": "CZ1", "sequence": 4, "movement_id": uuid4(),
    "currency": "CZK", "amount": 5000, "direction": -1, "available_after": -5,
    "reference": 'a "quoted" \\ text', "narrative": "Příliš žluťoučký 日本 🙂",
}  # fmt: skip


def test_a_movement() -> None:
    body = render_row(row(**MOVEMENT))
    assert json.loads(body) == {
        "specversion": "1.0", "id": str(ID), "source": "urn:ni", "type": "ni.posting.created",
        "subject": "CZ1", "time": rfc3339(instant_of(INSTANT_US)),
        "datacontenttype": "application/json",
        "data": {
            "account": "CZ1", "client": "ops", "amount": "50.00", "currency": "CZK",
            "direction": "debit", "available_after": "-0.05", "sequence": 4, "epoch": 2,
            "movement_id": str(MOVEMENT["movement_id"]), "reference": MOVEMENT["reference"],
            "narrative": MOVEMENT["narrative"],
        },
    }  # fmt: skip


@pytest.mark.parametrize(
    ("kind", "values", "extras"),
    [
        ("ni.day.closed", {"detail": "1993-01-04"}, {"business_date": "1993-01-04"}),
        ("ni.debit.refused", {"detail": "account_blocked"}, {"reason": "account_blocked"}),
        ("ni.packet.unloaded", {"packet": "p", "packet_number": 3, "detail": "booked"},
         {"packet": "p", "packet_number": 3, "status": "booked"}),
        ("ni.posting.problem",
         {"packet": "p", "packet_number": 1, "debit_account": "A", "credit_account": "B",
          "detail": "account_closed"},
         {"packet": "p", "packet_number": 1, "debit_account": "A", "credit_account": "B",
          "reason": "account_closed"}),
        ("ni.hold.captured",
         {"currency": "KWD", "hold_id": ID, "hold_remaining": 1_005},
         {"hold_id": str(ID), "hold_remaining": "1.005"}),
    ],
    ids=["day", "refused", "packet", "problem", "captured"],
)  # fmt: skip
def test_what_a_type_has_besides(kind: str, values: dict[str, Any], extras: dict[str, Any]) -> None:
    event = parse(render_row(row(type=kind, **values)))
    assert {name: event.data[name] for name in EXTRAS[kind]} == extras
    assert set(event.data) == {*COMMON, *extras}
    assert event.subject is None


@given(TEXT, TEXT, st.sampled_from(sorted(EXTRAS)))
def test_bytes_survive_reading(reference: str, narrative: str, kind: str) -> None:
    body = render_row(row(**MOVEMENT | {"reference": reference, "narrative": narrative,
                                        "type": kind, "detail": narrative}))  # fmt: skip
    event = parse(body)
    assert render(event) == body
    assert event.data["narrative"] == narrative
    assert len(body) < BODY_MAX_BYTES


def test_a_reader_goes_by_the_fields_that_it_knows() -> None:
    """A version may stand beside a later one, whose events have more fields, or take over what an
    earlier one has published."""
    body = render_row(row(type="ni.hold.captured", hold_id=ID)).replace(
        b'"data":{', b'"data":{"from_later":{"a":1},'
    )
    assert render(parse(body)) == body
    assert parse(body).data["from_later"] == {"a": 1}
    before = body.replace(f'"hold_id":"{ID}",'.encode(), b"")
    assert before != body
    assert parse(before).type == "ni.hold.captured"


@given(st.integers(0, 2**48 * 1000 - 1))
def test_the_time_of_an_id_is_its_instant(instant_us: int) -> None:
    instant_us %= 250_000_000_000_000_000  # until the year 9892
    assert time_of(str(make_id(instant_us, 1, 0))) == rfc3339(instant_of(instant_us))


def test_the_time_of_the_servers_own_ids() -> None:
    """Their fraction has all of 12 bits, and a time of 1,000 microseconds is none."""
    assert time_of("00000000-0000-7fff-8000-000000000000") == "1970-01-01T00:00:00.000999Z"
    assert time_of(str(UUID(int=0))) == rfc3339(EPOCH)


@pytest.mark.parametrize(
    "body",
    [
        b"", b"\xff", b"[]", b"{}", b'"x"', b"[" * 9000, b" " * (BODY_MAX_BYTES + 1),
        render_row(row()).replace(b"urn:ni", b"urn:xx"),
        render_row(row()).replace(b"ni.day.closed", b"ni.day.opend"),
        render_row(row()).replace(b'"client":"ops",', b""),
        render_row(row()).replace(b'"id":"', b'"id":{},"x":"'),
        render_row(row()).replace(b'"type":"ni.day.closed"', b'"type":[]'),
    ],
    ids=["empty", "bytes", "list", "object", "text", "deep", "long", "source", "type", "data",
         "id", "type-list"],
)  # fmt: skip
def test_what_is_no_event(body: bytes) -> None:
    with pytest.raises(BadEvent):
        parse(body)
