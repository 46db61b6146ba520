"""Texts by type and language: words, amounts with their currency's own decimals, masks."""

from __future__ import annotations

import json
import re
from pathlib import Path
from string import Formatter
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from babel.numbers import get_currency_precision
from hypothesis import given
from hypothesis import strategies as st

from ni.currencies import MINOR_DIGITS
from ni.events import BadEvent
from ni.money import format_amount
from ni.sms import texts
from ni.sms.masks import mask_account, mask_phone
from ni.sms.texts import BY_DIRECTION, LANGUAGES, TYPES, render_text, say_money, words
from tests.sms.scene import UTC_ZONE, make_event

ACCOUNT = "CZ0000002378"
GSM = set("@£$¥ \n0123456789!\"#%&'()*+,-./:;<=>?€") | set(
    "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
)
KEYS = [
    (kind, direction)
    for kind in TYPES
    for direction in (("debit", "credit") if kind in BY_DIRECTION else ("debit",))
]


def said(kind: str, language: str, **data: Any) -> str:
    """The text of an event in its turn."""
    text = render_text(make_event(ACCOUNT, 7, kind=kind, **data), language, UTC_ZONE)
    assert text is not None
    return text.in_turn


@pytest.mark.parametrize(
    ("language", "minor", "currency", "expected"),
    [
        ("en", 5000, "CZK", "CZK 50.00"),
        ("en", -123456750, "CZK", "-CZK 1,234,567.50"),
        ("en", 1234, "JPY", "¥1,234"),
        ("en", -12345, "KWD", "-KWD 12.345"),
        ("en", 5, "EUR", "€0.05"),
        ("en", 0, "USD", "$0.00"),
        ("en", 100, "INR", "INR 1.00"),
        ("en", 10**17, "CHF", "CHF 1,000,000,000,000,000.00"),
        ("ja", 1234, "JPY", "￥1,234"),
        ("ja", 5000, "CZK", "CZK\u00a050.00"),
        ("ja", 12345, "KWD", "KWD\u00a012.345"),
        ("ja", -1, "USD", "-$0.01"),
        ("ru", 5000, "RUB", "50,00\u00a0₽"),
        ("ru", -123456750, "CZK", "-1\u00a0234\u00a0567,50\u00a0CZK"),
        ("ru", 1234, "JPY", "1\u00a0234\u00a0¥"),
        ("ru", 1, "KWD", "0,001\u00a0KWD"),
    ],
)
def test_money_is_printed_as_the_language_does(
    language: str, minor: int, currency: str, expected: str
) -> None:
    assert say_money(minor, currency, language) == expected


@pytest.mark.parametrize("language", LANGUAGES)
@given(
    minor=st.integers(-(10**17), 10**17),
    currency=st.sampled_from(sorted(MINOR_DIGITS)),
)
def test_no_digit_of_an_amount_is_lost_or_added(language: str, minor: int, currency: str) -> None:
    printed = say_money(minor, currency, language)
    digits = MINOR_DIGITS[currency]
    assert int("".join(re.findall(r"\d", printed))) == abs(minor)
    assert printed.startswith("-") is (minor < 0)
    mark = "," if language == "ru" else "."
    _, _, decimals = printed.rpartition(mark) if digits else ("", "", "")
    assert len(re.findall(r"\d", decimals)) == digits


def test_decimals_are_iso_4217s_where_babel_has_others() -> None:
    others = [c for c in MINOR_DIGITS if get_currency_precision(c) != MINOR_DIGITS[c]]
    assert len(others) > 5, "Babel has become like ISO 4217: this test shows nothing any more"
    for currency in others:
        digits = MINOR_DIGITS[currency]
        one = say_money(10**digits, currency, "en")
        assert one.endswith("1." + "0" * digits if digits else "1"), (currency, one)


@pytest.mark.parametrize("language", LANGUAGES)
def test_every_language_has_every_sentence(language: str) -> None:
    expected = {f"{kind}.{way}" if kind in BY_DIRECTION else kind for kind, way in KEYS}
    known = words(language)
    assert set(known) == expected | {"available", "late"}
    for key, sentence in known.items():
        fields = {name for _, name, _, _ in Formatter().parse(sentence) if name}
        wanted = {"available": {"available"}, "late": {"time"}}.get(key, {"account", "amount"})
        assert fields == wanted, (language, key)
    assert len(set(known.values())) == len(known)


def test_there_is_a_file_for_each_language_and_no_other() -> None:
    files = {path.stem for path in Path(texts.__file__).parent.glob("*.json")}
    assert files == set(LANGUAGES)


@pytest.mark.parametrize("language", LANGUAGES)
@pytest.mark.parametrize(("kind", "direction"), KEYS)
def test_a_text_says_account_amount_and_balance(kind: str, direction: str, language: str) -> None:
    text = said(kind, language, direction=direction, amount="1234.50", available_after="-7.25")
    assert "*2378" in text
    assert ACCOUNT not in text
    assert say_money(123450, "CZK", language) in text
    assert say_money(-725, "CZK", language) in text
    assert len(text) <= texts.TEXT_CHARACTERS_MAX


def test_english_is_what_the_readme_shows() -> None:
    assert said("ni.posting.created", "en") == (
        "Account *2378: CZK 50.00 debited. Available: CZK 100.00."
    )


@given(
    kind=st.sampled_from(KEYS),
    amount=st.integers(1, 10**15 - 1),
    available=st.integers(-(10**17), 10**17),
    currency=st.sampled_from(sorted(MINOR_DIGITS)),
    account=st.from_regex(r"[A-Z0-9-]{1,34}", fullmatch=True),
)
def test_english_keeps_to_gsm_and_every_text_to_its_length(
    kind: tuple[str, str], amount: int, available: int, currency: str, account: str
) -> None:
    event = make_event(
        account, 1, kind=kind[0], direction=kind[1], currency=currency,
        amount=format_amount(amount, currency), available_after=format_amount(available, currency),
    )  # fmt: skip
    for language in LANGUAGES:
        text = render_text(event, language, UTC_ZONE)
        assert text is not None
        for form in (text.in_turn, text.late):
            assert len(form) <= texts.TEXT_CHARACTERS_MAX
            assert len(account) < 8 or account not in form
            assert language != "en" or set(form) <= GSM, form


def test_a_late_text_has_its_time_and_no_balance() -> None:
    at_us = 1_793_349_000_000_000
    text = render_text(make_event(ACCOUNT, 7, at_us=at_us), "en", UTC_ZONE)
    assert text is not None
    assert text.late == (
        "Account *2378: CZK 50.00 debited. Time of the movement: 2026-10-30 08:30."
    )
    prague = ZoneInfo("Europe/Prague")
    local = render_text(make_event(ACCOUNT, 7, at_us=at_us), "ru", prague)
    assert local is not None
    assert "09:30" in local.late


def test_what_a_payer_wrote_is_not_told() -> None:
    hostile = "see http://bank.example/login or call +1 900 555"
    for language in LANGUAGES:
        text = said("ni.posting.created", language, narrative=hostile, reference=hostile)
        assert "http" not in text
        assert "900" not in text


def test_a_change_of_nothing_is_not_told() -> None:
    event = make_event(ACCOUNT, 7, kind="ni.hold.adjusted", amount="0.00")
    assert render_text(event, "en", UTC_ZONE) is None


def test_without_a_balance_there_is_no_sentence_about_it() -> None:
    assert said("ni.debit.refused", "en", available_after=None) == (
        "Account *2378: a debit of CZK 50.00 was refused."
    )


@pytest.mark.parametrize(
    "data",
    [
        {"amount": None}, {"amount": 50}, {"amount": "5e1"}, {"amount": "50.001"},
        {"currency": None}, {"currency": "XXX"}, {"currency": 7}, {"direction": "up"},
        {"direction": None}, {"available_after": "lots"}, {"available_after": 1},
        {"amount": "1" * 30},
    ],
    ids=json.dumps,
)  # fmt: skip
def test_what_cannot_be_told_is_no_event(data: dict[str, Any]) -> None:
    with pytest.raises(BadEvent):
        render_text(make_event(ACCOUNT, 7, **data), "en", UTC_ZONE)


@pytest.mark.parametrize("language", ["de", "EN", "", "../en"])
def test_a_language_that_ni_does_not_speak_is_no_fault_of_the_disk(language: str) -> None:
    with pytest.raises(BadEvent, match="does not speak"):
        render_text(make_event(ACCOUNT, 7), language, UTC_ZONE)


@pytest.mark.parametrize(
    "time", ["0001-01-01T00:00:00+14:00", "9999-12-31T23:59:59-12:00", "1999-12-31T23:59:59Z"]
)
def test_a_time_at_the_end_of_all_years_is_none(time: str) -> None:
    with pytest.raises(BadEvent, match="year"):
        texts.event_time(time)


def test_nobody_is_told_of_other_types() -> None:
    with pytest.raises(BadEvent):
        render_text(make_event(ACCOUNT, 7, kind="ni.posting.booked"), "en", UTC_ZONE)


@pytest.mark.parametrize(
    ("account", "masked"),
    [("CZ0000002378", "*2378"), ("A", "*"), ("AB", "*B"), ("ABCDE", "*DE"), ("ABCDEFGH", "*EFGH")],
)
def test_accounts_are_masked(account: str, masked: str) -> None:
    assert mask_account(account) == masked


def test_phones_are_masked() -> None:
    assert mask_phone("+420601234567") == "*67"
