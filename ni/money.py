"""Money: integers of minor units from door to table; text only at the doors.

Minor digits come from ISO 4217 (`ni.currencies`). `Decimal` is not needed: a plain decimal string
is digits and at most one point, so parsing and printing are exact integer work.
"""

from __future__ import annotations

import re
from typing import Final

from ni.currencies import MINOR_DIGITS

AMOUNT_DIGITS_MAX: Final = 15
"""Digits of minor units that one amount may have (api.md, Money)."""

SUM_LIMIT_MINOR: Final = 10**17
"""No sum of an account may pass ± this many minor units (api.md, Money)."""

_PLAIN: Final = re.compile(r"([0-9]{1,15})(?:\.([0-9]{1,4}))?", re.ASCII)
_SIGNED: Final = re.compile(r"(-?)([0-9]{1,18})(?:\.([0-9]{1,4}))?", re.ASCII)


def minor_digits(currency: str) -> int:
    """Minor digits of an ISO 4217 currency code.

    Raises ValueError for a code that ISO 4217 does not list or gives no minor unit.
    """
    digits = MINOR_DIGITS.get(currency)
    if digits is None:
        raise ValueError(f"{currency!r} is not an ISO 4217 currency with a minor unit")
    return digits


def parse_amount(text: str, currency: str) -> int:
    """Minor units of a positive decimal string such as "50", "50.0" or "50.00".

    Raises ValueError for anything else: signs, exponents, spaces, digits outside ASCII, more
    decimals than the currency has, zero, or more than 15 digits of minor units.
    """
    digits = minor_digits(currency)
    match = _PLAIN.fullmatch(text)
    if match is None:
        raise ValueError("must be a plain decimal string such as 50.00")
    minor = _to_minor(match[1], match[2] or "", digits)
    if minor == 0:
        raise ValueError("must be greater than zero")
    if minor >= 10**AMOUNT_DIGITS_MAX:
        raise ValueError(f"must have at most {AMOUNT_DIGITS_MAX} digits of minor units")
    return minor


def parse_balance(text: str, currency: str) -> int:
    """Minor units of a decimal string that may be zero or negative.

    Raises ValueError when it is not plain, has too many decimals or passes ± SUM_LIMIT_MINOR.
    """
    digits = minor_digits(currency)
    match = _SIGNED.fullmatch(text)
    if match is None:
        raise ValueError("must be a plain decimal string such as -50.00")
    minor = _to_minor(match[2], match[3] or "", digits)
    if minor > SUM_LIMIT_MINOR:
        raise ValueError("passes the limit of a sum, 10^17 minor units")
    return -minor if match[1] else minor


def _to_minor(whole: str, fraction: str, digits: int) -> int:
    if len(fraction) > digits:
        raise ValueError(f"has more than {digits} decimals")
    return int(whole + fraction.ljust(digits, "0"))


def format_amount(minor: int, currency: str) -> str:
    """The decimal string of minor units with exactly the currency's digits: "50.00", "-0.05"."""
    digits = MINOR_DIGITS[currency]
    if digits == 0:
        return str(minor)
    text = str(abs(minor)).rjust(digits + 1, "0")
    sign = "-" if minor < 0 else ""
    return f"{sign}{text[:-digits]}.{text[-digits:]}"
