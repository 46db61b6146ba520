"""The kinds of values that requests carry, each with its form; refused with 422 otherwise."""

from __future__ import annotations

import re
import unicodedata
from datetime import UTC, date, datetime
from typing import Annotated, Any, Final, Literal
from uuid import UUID

from pydantic import BaseModel, BeforeValidator, ConfigDict, StringConstraints, WithJsonSchema
from pydantic.functional_validators import AfterValidator

from ni.identifiers import parse_id
from ni.money import AMOUNT_DIGITS_MAX, minor_digits

_DATE: Final = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}", re.ASCII)
_TIME: Final = re.compile(
    r"[0-9]{4}-[0-9]{2}-[0-9]{2}[Tt][0-9]{2}:[0-9]{2}:[0-9]{2}(\.[0-9]{1,6})?"
    r"([Zz]|[+-][0-9]{2}:[0-9]{2})",
    re.ASCII,
)
_PLAIN_DECIMAL: Final = re.compile(r"0*([0-9]*?)(?:\.([0-9]*?)0*)?", re.ASCII)


class Body(BaseModel):
    """A request body: unknown fields and other JSON types than the declared are refused."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=False)


def _printable(value: str) -> str:
    if not value.isprintable():
        raise ValueError("must have printable characters only")
    if not value.isascii() and not unicodedata.is_normalized("NFC", value):
        raise ValueError("must be in Unicode normalization form C")
    return value


def _not_straight_through(value: str) -> str:
    if value.startswith("stp."):
        raise ValueError("must not begin with stp., which NI's own packets do")
    return value


def _currency(value: str) -> str:
    minor_digits(value)
    return value


def canonical_decimal(value: str) -> str:
    """The one way to write a decimal string: "050.00" and "50" are both "50".

    Raises ValueError for zero and for more digits than any amount has.
    """
    match = _PLAIN_DECIMAL.fullmatch(value)
    whole, fraction = (match[1], match[2] or "") if match else ("", "")
    if not whole and not fraction:
        raise ValueError("must be greater than zero")
    if len(whole) + len(fraction) > AMOUNT_DIGITS_MAX:
        raise ValueError(f"must have at most {AMOUNT_DIGITS_MAX} digits")
    return f"{whole or '0'}.{fraction}" if fraction else whole


def _positive(value: str) -> str:
    canonical_decimal(value)
    return value


def _date(value: Any) -> Any:
    if isinstance(value, str) and _DATE.fullmatch(value):
        return date.fromisoformat(value)
    raise ValueError("must be a date such as 1993-01-04")


def _instant(value: Any) -> Any:
    if isinstance(value, str) and _TIME.fullmatch(value):
        try:
            return datetime.fromisoformat(value.upper()).astimezone(UTC)
        except OverflowError as error:
            raise ValueError("must lie between the years 1 and 9999") from error
    raise ValueError("must be an RFC 3339 time with an offset, such as 2026-11-21T10:00:00Z")


def _uuid(value: Any) -> Any:
    found = parse_id(value) if isinstance(value, str) else None
    if found is None:
        raise ValueError("must be a UUID")
    return found


AccountName = Annotated[str, StringConstraints(pattern=r"^[A-Z0-9-]{1,34}$")]
Currency = Annotated[str, StringConstraints(pattern=r"^[A-Z]{3}$"), AfterValidator(_currency)]
AmountText = Annotated[str, StringConstraints(pattern=r"^[0-9]{1,15}(\.[0-9]{1,4})?$")]
PositiveAmount = Annotated[AmountText, AfterValidator(_positive)]
PacketName = Annotated[
    str,
    StringConstraints(pattern=r"^[A-Za-z0-9._-]{1,64}$"),
    AfterValidator(_not_straight_through),
]
Reference = Annotated[
    str, StringConstraints(min_length=1, max_length=140), AfterValidator(_printable)
]
Narrative = Annotated[
    str, StringConstraints(min_length=1, max_length=500), AfterValidator(_printable)
]
Actor = Annotated[str, StringConstraints(min_length=1, max_length=64), AfterValidator(_printable)]
Reason = Annotated[str, StringConstraints(min_length=1, max_length=500), AfterValidator(_printable)]
IdempotencyKey = Annotated[str, StringConstraints(pattern=r"^[!-~]{1,64}$")]
DateText = Annotated[
    date, BeforeValidator(_date), WithJsonSchema({"type": "string", "format": "date"})
]
Instant = Annotated[
    datetime, BeforeValidator(_instant), WithJsonSchema({"type": "string", "format": "date-time"})
]
Identifier = Annotated[
    UUID, BeforeValidator(_uuid), WithJsonSchema({"type": "string", "format": "uuid"})
]
Check = Literal["available", "none"]


class Override(Body):
    """A court order or other legal title that passes blocks, now and at unloading."""

    legal_reference: Reference
