"""The text of an event, by its type and the customer's language. Pure.

The words stand in a file a language. Numbers are grouped and placed as the language does, from the
Unicode locale data in Babel; how many decimals a currency has is ISO 4217's matter and comes from
`ni.currencies`, for Babel differs there. Nothing that a payer has written gets into a text: for
one crown anybody could otherwise send anything in the bank's name.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from functools import cache, lru_cache
from pathlib import Path
from typing import Any, Final
from zoneinfo import ZoneInfo

from babel import Locale
from babel.numbers import NumberPattern, get_currency_symbol, parse_pattern

from ni.events import BadEvent, Event
from ni.money import format_amount, minor_digits, parse_balance
from ni.sms.masks import mask_account

LANGUAGES: Final = ("en", "ja", "ru")

TYPES: Final = (
    "ni.hold.placed",
    "ni.hold.adjusted",
    "ni.hold.captured",
    "ni.hold.released",
    "ni.hold.expired",
    "ni.posting.created",
    "ni.posting.cancelled",
    "ni.debit.refused",
)
"""What a customer can be told. Other events change nothing of what is available."""

BY_DIRECTION: Final = frozenset({"ni.hold.adjusted", "ni.posting.created", "ni.posting.cancelled"})
"""Types whose words depend on whether available rose ("credit") or fell ("debit")."""

TEXT_CHARACTERS_MAX: Final = 320
YEAR_MIN: Final = 2000
YEAR_MAX: Final = 2999
GSM_SYMBOLS: Final = frozenset("$£¥€")
NO_BREAK: Final = "\u00a0"
_FOLDER: Final = Path(__file__).resolve().parent


@dataclass(frozen=True, slots=True)
class Text:
    """What is said of an event: in its turn, and when a later message has gone before it."""

    in_turn: str
    late: str


@cache
def words(language: str) -> Mapping[str, str]:
    """The sentences of a language. Raises FileNotFoundError for one that NI does not speak."""
    found: dict[str, str] = json.loads((_FOLDER / f"{language}.json").read_text(encoding="utf-8"))
    return found


def render_text(event: Event, language: str, zone: ZoneInfo) -> Text | None:
    """What to tell of an event; None: nothing that a customer would want to know has happened.

    The late form has the movement's own time, in `zone`, and no balance: it would not be the newest
    that the customer has been told. Raises BadEvent when the event's data cannot be told.
    """
    if language not in LANGUAGES:
        raise BadEvent(f"NI does not speak {language!r}")
    key = _key(event)
    account, currency = event.subject, event.data.get("currency")
    if not account or not isinstance(currency, str):
        raise BadEvent(f"{event.type} has no account or no currency")
    amount_minor = _money(event.data, "amount", currency)
    if amount_minor is None:
        raise BadEvent(f"{event.type} has no amount")
    if amount_minor == 0:
        return None
    said = words(language)
    amount = say_money(amount_minor, currency, language)
    head = said[key].format(account=mask_account(account), amount=amount)
    late = head + said["late"].format(time=_local(event.time, zone))
    available_minor = _money(event.data, "available_after", currency)
    if available_minor is None:
        return Text(head, late)
    available = say_money(available_minor, currency, language)
    return Text(head + said["available"].format(available=available), late)


def _key(event: Event) -> str:
    if event.type not in TYPES:
        raise BadEvent(f"nobody is told of {event.type}")
    if event.type not in BY_DIRECTION:
        return event.type
    direction = event.data.get("direction")
    if direction not in ("debit", "credit"):
        raise BadEvent(f"{event.type} with the direction {direction!r}")
    return f"{event.type}.{direction}"


def _money(data: Mapping[str, Any], name: str, currency: str) -> int | None:
    value = data.get(name)
    if value is None:
        return None
    if not isinstance(value, str):
        raise BadEvent(f"{name} is no text")
    try:
        return parse_balance(value, currency)
    except ValueError as error:
        raise BadEvent(f"{name} {error}") from error


def _local(time: str, zone: ZoneInfo) -> str:
    return event_time(time).astimezone(zone).strftime("%Y-%m-%d %H:%M")


def event_time(time: str) -> datetime:
    """The instant of an event. Raises BadEvent when it is no instant with an offset of our days."""
    try:
        instant = datetime.fromisoformat(time)
    except ValueError as error:
        raise BadEvent(f"time {error}") from error
    if instant.tzinfo is None:
        raise BadEvent("time has no offset")
    if not YEAR_MIN <= instant.year <= YEAR_MAX:  # at the ends no other zone has such a time
        raise BadEvent(f"time is in the year {instant.year}")
    return instant


def say_money(minor: int, currency: str, language: str) -> str:
    """Minor units as a language prints them, with the currency's symbol or code.

    English texts keep to the letters of GSM 7-bit, which cost one message where others cost two.
    """
    said: str = _pattern(currency, language).apply(
        format_amount(minor, currency), _locale(language), currency=currency, currency_digits=False
    )
    return said.replace(NO_BREAK, " ") if language == "en" else said


@lru_cache(maxsize=1024)
def _pattern(currency: str, language: str) -> NumberPattern:
    """The language's pattern of an amount, with the decimals that ISO 4217 gives the currency."""
    digits = minor_digits(currency)
    symbol = get_currency_symbol(currency, locale=_locale(language))
    if language == "en" and not GSM_SYMBOLS.issuperset(c for c in symbol if not c.isascii()):
        symbol = currency
    mark = "\u00a4\u00a4" if symbol == currency else "\u00a4"
    text = _locale(language).currency_formats["standard"].pattern
    text = text.replace("0.00", f"0.{'0' * digits}" if digits else "0")
    if symbol[-1].isascii() and symbol[-1].isalpha():
        text = text.replace("\u00a4#", f"\u00a4{NO_BREAK}#")
    return parse_pattern(text.replace("\u00a4", mark))


@cache
def _locale(language: str) -> Locale:
    return Locale.parse(language)
