"""The file of `ni core load`: one account a line, each line right or refused on its own."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Final

from ni.csv_file import CsvFile
from ni.money import minor_digits, parse_balance

COLUMNS: Final = (
    "account",
    "kind",
    "currency",
    "balance",
    "credit_limit",
    "status",
    "customer_id",
)
KINDS: Final = ("customer", "internal", "off_balance")
STATUSES: Final = ("active", "closed")
CUSTOMER_ID_CHARACTERS_MAX: Final = 64

_ACCOUNT: Final = re.compile(r"[A-Z0-9-]{1,34}")


@dataclass(frozen=True, slots=True)
class AccountLine:
    """What a line says of an account; money in minor units of its currency."""

    line: int
    account: str
    kind: str
    currency: str
    balance: int
    credit_limit: int
    status: str
    customer_id: str | None


@dataclass(frozen=True, slots=True)
class RefusedLine:
    """A line that changed nothing, and why."""

    line: int
    reason: str


def read_lines(file: CsvFile) -> Iterator[AccountLine | RefusedLine]:
    """The lines of the file in order; a wrong one becomes a RefusedLine.

    Raises NiError when the file as a whole cannot be read.
    """
    for line, fields in file.rows():
        try:
            yield parse_line(line, fields)
        except ValueError as error:
            yield RefusedLine(line, str(error))


def parse_line(line: int, fields: list[str]) -> AccountLine:
    """The account of one line's fields. Raises ValueError that names the first wrong column."""
    if len(fields) != len(COLUMNS):
        raise ValueError(f"has {len(fields)} columns instead of {len(COLUMNS)}")
    account, kind, currency, balance, credit_limit, status, customer_id = fields
    check_account(account)
    if kind not in KINDS:
        raise ValueError(f"kind is {kind!r}: must be one of {', '.join(KINDS)}")
    _column("currency", minor_digits, currency)
    if status not in STATUSES:
        raise ValueError(f"status is {status!r}: must be one of {', '.join(STATUSES)}")
    if len(customer_id) > CUSTOMER_ID_CHARACTERS_MAX or not customer_id.isprintable():
        raise ValueError(
            f"customer_id must be at most {CUSTOMER_ID_CHARACTERS_MAX} printable characters"
        )
    return AccountLine(
        line,
        account,
        kind,
        currency,
        _column("balance", parse_balance, balance, currency),
        _column("credit_limit", parse_limit, credit_limit, currency),
        status,
        customer_id or None,
    )


def check_account(account: str) -> str:
    """The account number itself. Raises ValueError when it cannot be one."""
    if _ACCOUNT.fullmatch(account) is None:
        raise ValueError(f"account {account[:40]!r} is not 1 to 34 of A-Z, 0-9 and -")
    return account


def parse_limit(text: str, currency: str) -> int:
    """Minor units of a credit limit. Raises ValueError when it is negative or no plain decimal."""
    limit = parse_balance(text, currency)
    if limit < 0:
        raise ValueError("must not be negative")
    return limit


def _column(name: str, parse: Callable[..., int], *arguments: str) -> int:
    try:
        return parse(*arguments)
    except ValueError as error:
        raise ValueError(f"{name} {arguments[0][:40]!r}: {error}") from error
