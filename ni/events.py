"""Events as others see them: the CloudEvents 1.0 envelope, structured mode, in JSON.

Pure: an outbox row in, bytes out, the same bytes each time. docs/reference/asyncapi.yaml describes
every type. `data` always has the fields of COMMON, null where a type has no such thing, and those
of its type in EXTRAS.

`direction` says what happened to the account's available balance: "debit", it fell, or would have
fallen (of a refused debit); "credit", it rose. `sequence` is null where available did not change.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from functools import lru_cache
from json.encoder import encode_basestring
from typing import Any, Final

from ni.clock import EPOCH
from ni.money import format_amount

SOURCE: Final = "urn:ni"
MEDIA_TYPE: Final = "application/cloudevents+json"
BODY_MAX_BYTES: Final = 16_384

COMMON: Final = (
    "account", "client", "amount", "currency", "direction", "available_after", "sequence",
    "epoch", "movement_id", "reference", "narrative",
)  # fmt: skip
"""The fields of every event's data, and all that a reader asks for: a version before may not have
known a field of its type."""

_PACKET: Final = ("packet", "packet_number")
_SIDES: Final = ("debit_account", "credit_account")

EXTRAS: Final[Mapping[str, tuple[str, ...]]] = {
    "ni.hold.placed": (),
    "ni.hold.adjusted": (),
    "ni.hold.captured": ("hold_id", "hold_remaining"),
    "ni.hold.released": (),
    "ni.hold.expired": (),
    "ni.posting.created": (),
    "ni.posting.cancelled": (),
    "ni.posting.booked": (*_PACKET, *_SIDES),
    "ni.posting.problem": (*_PACKET, *_SIDES, "reason"),
    "ni.packet.unloaded": (*_PACKET, "status"),
    "ni.packet.accepted": (*_PACKET, "status"),
    "ni.packet.rejected": (*_PACKET, "status"),
    "ni.day.closed": ("business_date",),
    "ni.day.opened": ("business_date",),
    "ni.debit.refused": ("reason",),
}
"""Every type, and the fields that its data has besides COMMON."""

COLUMNS: Final = (
    "event_id", "type", "account", "sequence", "epoch", "client", "movement_id", "currency",
    "amount", "direction", "available_after", "reference", "narrative", "packet",
    "packet_number", "detail", "debit_account", "credit_account", "hold_id", "hold_remaining",
)  # fmt: skip
"""The columns of an outbox row, in the order in which `render_row` takes them."""

_DIRECTIONS: Final = {-1: '"debit"', 1: '"credit"', None: "null"}
_DETAILS: Final = ("status", "business_date", "reason")
"""What the column `detail` is called, by type."""


class BadEvent(ValueError):
    """Bytes that are no event of NI."""


@dataclass(frozen=True, slots=True)
class Event:
    """One event. `time` is RFC 3339 in UTC; `subject` the account, if it is about one."""

    id: str
    type: str
    subject: str | None
    time: str
    data: dict[str, Any]


def _text(value: str | None) -> str:
    return "null" if value is None else encode_basestring(value)


def render_row(row: Iterable[Any]) -> bytes:
    """The event of an outbox row whose values stand in the order of COLUMNS.

    Raises KeyError for a type that is not in EXTRAS.
    """
    (event_id, kind, account, sequence, epoch, client, movement_id, currency, amount, direction,
     available_after, reference, narrative, *extra) = row  # fmt: skip
    identifier = str(event_id)
    names = EXTRAS[kind]
    subject = "" if account is None else f'"subject":"{account}",'
    shown = "null" if account is None else f'"{account}"'
    money = "null" if amount is None else f'"{format_amount(amount, currency)}"'
    after = "null" if available_after is None else f'"{format_amount(available_after, currency)}"'
    return (
        f'{{"specversion":"1.0","id":"{identifier}","source":"urn:ni","type":"{kind}",{subject}'
        f'"time":"{time_of(identifier)}","datacontenttype":"application/json",'
        f'"data":{{"account":{shown},"client":{_text(client)},"amount":{money},'
        f'"currency":{_text(currency)},"direction":{_DIRECTIONS[direction]},'
        f'"available_after":{after},'
        f'"sequence":{"null" if sequence is None else sequence},"epoch":{epoch},'
        f'"movement_id":{"null" if movement_id is None else _quoted(movement_id)},'
        f'"reference":{_text(reference)},"narrative":{_text(narrative)}'
        f"{_extras(names, extra, currency) if names else ''}}}}}"
    ).encode()


def _quoted(value: object) -> str:
    return f'"{value}"'


def _extras(names: Sequence[str], values: Sequence[Any], currency: str) -> str:
    (packet, packet_number, detail, debit_account, credit_account, hold_id,
     hold_remaining) = values[:7]  # fmt: skip
    known = {
        "packet": packet, "packet_number": packet_number,
        "debit_account": debit_account, "credit_account": credit_account,
        "hold_id": None if hold_id is None else str(hold_id),
        "hold_remaining":
            None if hold_remaining is None else format_amount(hold_remaining, currency),
        **dict.fromkeys(_DETAILS, detail),
    }  # fmt: skip
    return "".join(f',"{name}":{json.dumps(known[name], ensure_ascii=False)}' for name in names)


def time_of(identifier: str) -> str:
    """The instant in an id's time bits, exact to the microsecond: RFC 3339 in UTC."""
    milliseconds = int(identifier[:8] + identifier[9:13], 16)
    second, millisecond = divmod(milliseconds, 1000)
    microsecond = min(999, (int(identifier[15:18], 16) * 1000 + 4095) >> 12)
    return f"{_second(second)}.{millisecond:03d}{microsecond:03d}Z"


@lru_cache(maxsize=256)
def _second(second: int) -> str:
    return (EPOCH + timedelta(seconds=second)).strftime("%Y-%m-%dT%H:%M:%S")


def render(event: Event) -> bytes:
    """The bytes of an event; of one that `parse` has read, the bytes that it was read from."""
    subject = {} if event.subject is None else {"subject": event.subject}
    document = {
        "specversion": "1.0", "id": event.id, "source": SOURCE, "type": event.type, **subject,
        "time": event.time, "datacontenttype": "application/json", "data": event.data,
    }  # fmt: skip
    return json.dumps(document, ensure_ascii=False, separators=(",", ":")).encode()


def parse(body: bytes) -> Event:
    """The event in `body`; its data may have more fields than we know, or less of EXTRAS.

    Raises BadEvent for anything but an event of NI.
    """
    if len(body) > BODY_MAX_BYTES:
        raise BadEvent(f"{len(body)} bytes are too many for an event")
    try:
        document = json.loads(body)
    except (ValueError, RecursionError) as error:
        raise BadEvent(f"no JSON: {error}") from error
    if not isinstance(document, dict):
        raise BadEvent("no JSON object")
    if (document.get("specversion"), document.get("source")) != ("1.0", SOURCE):
        raise BadEvent("no CloudEvents 1.0 of NI")
    kind, data = document.get("type"), document.get("data")
    if not isinstance(kind, str) or kind not in EXTRAS:
        raise BadEvent(f"unknown type {kind!r}")
    if not isinstance(data, dict) or not data.keys() >= set(COMMON):
        raise BadEvent(f"the data are not those of {kind}")
    texts = [document.get("id"), document.get("time"), document.get("subject", "")]
    if not all(isinstance(text, str) for text in texts):
        raise BadEvent("id, time and subject are texts")
    return Event(texts[0], kind, document.get("subject"), texts[1], data)
