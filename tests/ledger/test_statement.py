"""A statement is read strictly; its rows say which posting they are."""

from __future__ import annotations

import gzip
from datetime import date
from pathlib import Path

import pytest

from ni.errors import NiError
from ni.replay.statement import COLUMNS, parse_row, survey
from tests.ledger.statements import write_statement

GOOD = ["17", "1993-01-05", "ACC-1", "debit", "VYBER", "", "200.50", "499.50", "", ""]


def fields(**changed: str) -> list[str]:
    return [changed.get(name, value) for name, value in zip(COLUMNS, GOOD, strict=True)]


def body(**changed: str) -> dict[str, str]:
    return parse_row(2, fields(**changed), "CZK").body("CZK")


def test_a_withdrawal() -> None:
    assert body() == {
        "debit_account": "ACC-1",
        "credit_account": "INT-CASH",
        "amount": "200.50",
        "currency": "CZK",
        "packet": "1993-01-05.cash-out",
        "type": "WITHDRAWAL",
        "check": "available",
        "value_date": "1993-01-05",
        "narrative": "VYBER",
    }


def test_a_credit_debits_the_bank_s_account() -> None:
    asked = body(
        direction="credit",
        operation="PREVOD Z UCTU",
        purpose="DUCHOD",
        counter_bank="YZ",
        counter_account="99",
    )
    assert (asked["debit_account"], asked["credit_account"]) == ("INT-TRANSFER-IN", "ACC-1")
    assert (asked["narrative"], asked["reference"]) == ("PREVOD Z UCTU DUCHOD", "YZ/99")


@pytest.mark.parametrize(
    ("direction", "operation", "purpose", "internal", "type_", "check"),
    [
        ("credit", "VKLAD", "", "INT-CASH", "DEPOSIT", "available"),
        ("debit", "VYBER", "SIPO", "INT-CASH", "WITHDRAWAL", "available"),
        ("debit", "VYBER KARTOU", "", "INT-CARD", "WITHDRAWAL", "available"),
        ("debit", "PREVOD NA UCET", "UVER", "INT-TRANSFER-OUT", "TRANSFER", "available"),
        ("debit", "VYBER", "SLUZBY", "INT-FEES", "FEE", "none"),
        ("debit", "VYBER", "SANKC. UROK", "INT-INTEREST", "INTEREST", "none"),
        ("credit", "", "UROK", "INT-INTEREST", "INTEREST", "none"),
        ("credit", "", "", "INT-OTHER", "OTHER", "available"),
        ("debit", "CHEQUE", "RENT", "INT-OTHER", "OTHER", "available"),
    ],
)
def test_kinds(
    direction: str, operation: str, purpose: str, internal: str, type_: str, check: str
) -> None:
    asked = body(direction=direction, operation=operation, purpose=purpose)
    assert internal in (asked["debit_account"], asked["credit_account"])
    assert (asked["type"], asked["check"]) == (type_, check)


def test_what_is_empty_is_not_sent() -> None:
    asked = body(operation="")
    assert "narrative" not in asked
    assert "reference" not in asked


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"seq": "x"}, "seq is 'x'"),
        ({"seq": "-1"}, "seq is '-1'"),
        ({"date": "5.1.1993"}, "date is '5.1.1993'"),
        ({"date": "1993-02-30"}, "day is out of range"),
        ({"account": "acc"}, "account 'acc'"),
        ({"direction": "Debit"}, "direction is 'Debit'"),
        ({"amount": "0.00"}, "amount '0.00'"),
        ({"amount": "-1"}, "amount '-1'"),
        ({"amount": "1.001"}, "amount '1.001'"),
        ({"balance_after": ""}, "balance ''"),
        ({"balance_after": "1e2"}, "balance '1e2'"),
    ],
)
def test_a_wrong_row_stops_the_file_with_its_line(
    tmp_path: Path, changed: dict[str, str], message: str
) -> None:
    lines = [",".join(GOOD), ",".join(fields(seq="18") if "seq" not in changed else GOOD)]
    lines[1] = ",".join(fields(**({"seq": "18"} | changed)))
    with pytest.raises(NiError, match="line 3: ") as caught:
        survey(write_statement(tmp_path, lines), "CZK")
    assert message in str(caught.value)


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        (["1,2,3"], "line 2: has 3 columns instead of 10"),
        ([",".join(GOOD)] * 2, "line 3: seq is 17 after 17: it must grow"),
        ([], "has no rows"),
        ([",".join(fields(account="INT-CASH"))], "INT-CASH is the name of one of the bank's own"),
    ],
)
def test_a_wrong_file(tmp_path: Path, lines: list[str], message: str) -> None:
    with pytest.raises(NiError, match=message):
        survey(write_statement(tmp_path, lines), "CZK")


def test_the_survey_finds_openings_and_overdrafts(tmp_path: Path) -> None:
    found = survey(write_statement(tmp_path), "CZK")
    assert (found.rows, found.last_day) == (9, date(1993, 1, 8))
    assert {
        name: (account.opening, account.credit_limit) for name, account in found.accounts.items()
    } == {"ACC-1": (0, 1_360), "ACC-2": (100_000, 10_020)}
    assert found.internal_accounts == {
        "INT-CASH",
        "INT-CARD",
        "INT-FEES",
        "INT-INTEREST",
        "INT-TRANSFER-IN",
        "INT-TRANSFER-OUT",
    }


def test_keys_follow_the_content_not_the_file(tmp_path: Path) -> None:
    path = write_statement(tmp_path)
    packed = tmp_path / "packed.gz"
    packed.write_bytes(gzip.compress(path.read_bytes()))
    other = tmp_path / "other.csv"
    other.write_bytes(path.read_bytes() + b"10,1993-01-08,ACC-1,credit,VKLAD,,1.00,-12.60,,\n")
    row = parse_row(2, GOOD, "CZK")
    keys = [survey(file, "CZK").key(row) for file in (path, packed, other)]
    assert keys[0] == keys[1] != keys[2]
    assert keys[0].endswith("-17")
    assert len(keys[0]) <= 64
