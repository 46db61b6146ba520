"""A line of the load file is right, or refused with the column that is wrong."""

from __future__ import annotations

import re

import pytest

from ni.core_file import AccountLine, parse_line

GOOD = ["CZ-0000002378", "customer", "CZK", "-12.5", "1000", "active", "C 17"]


def with_field(index: int, value: str) -> list[str]:
    return [value if position == index else field for position, field in enumerate(GOOD)]


def test_a_right_line() -> None:
    assert parse_line(7, GOOD) == AccountLine(
        7, "CZ-0000002378", "customer", "CZK", -1250, 100_000, "active", "C 17"
    )


def test_no_customer() -> None:
    assert parse_line(7, with_field(6, "")).customer_id is None


def test_digits_are_the_currency_s() -> None:
    yen = ["A", "internal", "JPY", "17", "0", "closed", ""]
    assert parse_line(2, yen).balance == 17
    dinar = ["A", "off_balance", "KWD", "17.001", "0", "closed", ""]
    assert parse_line(2, dinar).balance == 17001


@pytest.mark.parametrize(
    ("index", "value", "message"),
    [
        (0, "", "account '' is not 1 to 34"),
        (0, "cz1", "account 'cz1' is not 1 to 34"),
        (0, "A" * 35, "is not 1 to 34"),
        (0, "A B", "is not 1 to 34"),
        (0, "A\0", "is not 1 to 34"),
        (0, "\uff21", "is not 1 to 34"),
        (1, "Customer", "kind is 'Customer': must be one of customer, internal, off_balance"),
        (1, "", "kind is ''"),
        (2, "czk", "currency 'czk'"),
        (2, "XAU", "currency 'XAU'"),
        (3, "", "balance ''"),
        (3, "1e3", "balance '1e3'"),
        (3, "1,000.00", "balance '1,000.00'"),
        (3, "1.001", "balance '1.001'"),
        (3, " 1", "balance ' 1'"),
        (3, "+1", "balance '+1'"),
        (3, "NaN", "balance 'NaN'"),
        (3, "\uff11", "balance"),
        (3, "1000000000000000.01", "balance"),
        (4, "-0.01", "credit_limit '-0.01': must not be negative"),
        (4, "", "credit_limit ''"),
        (5, "open", "status is 'open': must be one of active, closed"),
        (6, "x" * 65, "customer_id must be at most 64 printable"),
        (6, "x\0", "customer_id must be at most 64 printable"),
    ],
)
def test_a_wrong_column(index: int, value: str, message: str) -> None:
    with pytest.raises(ValueError, match=re.escape(message)):
        parse_line(7, with_field(index, value))


@pytest.mark.parametrize("fields", [GOOD[:-1], [*GOOD, ""], ["x"]])
def test_a_wrong_number_of_columns(fields: list[str]) -> None:
    with pytest.raises(ValueError, match=f"has {len(fields)} columns instead of 7"):
        parse_line(7, fields)
