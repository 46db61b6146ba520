"""A bank statement as a file: one movement a line, with the balance recorded after it.

The words of `operation` and `purpose` are the Czech bank's own. They choose the bank's account on
the other side, the type and the check; an operation that the table does not have is `other`.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import date
from pathlib import Path
from types import MappingProxyType
from typing import Final, Literal

from ni.core_file import check_account
from ni.csv_file import CsvFile, content_hash
from ni.errors import NiError
from ni.money import format_amount, parse_amount, parse_balance

COLUMNS: Final = (
    "seq",
    "date",
    "account",
    "direction",
    "operation",
    "purpose",
    "amount",
    "balance_after",
    "counter_bank",
    "counter_account",
)

_SEQUENCE: Final = re.compile(r"[0-9]{1,18}")
_DATE: Final = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}")
_KEY_HASH_DIGITS: Final = 24


@dataclass(frozen=True, slots=True)
class Kind:
    """What sort of movement it is: part of the packet's name, the bank's account, the type."""

    name: str
    internal_account: str
    type: str


CASH_IN: Final = Kind("cash-in", "INT-CASH", "DEPOSIT")
CASH_OUT: Final = Kind("cash-out", "INT-CASH", "WITHDRAWAL")
TRANSFER_IN: Final = Kind("transfer-in", "INT-TRANSFER-IN", "TRANSFER")
TRANSFER_OUT: Final = Kind("transfer-out", "INT-TRANSFER-OUT", "TRANSFER")
CARD: Final = Kind("card", "INT-CARD", "WITHDRAWAL")
INTEREST: Final = Kind("interest", "INT-INTEREST", "INTEREST")
FEE: Final = Kind("fee", "INT-FEES", "FEE")
OTHER: Final = Kind("other", "INT-OTHER", "OTHER")

BY_OPERATION: Final[Mapping[str, Kind]] = MappingProxyType(
    {
        "VKLAD": CASH_IN,
        "VYBER": CASH_OUT,
        "PREVOD Z UCTU": TRANSFER_IN,
        "PREVOD NA UCET": TRANSFER_OUT,
        "VYBER KARTOU": CARD,
    }
)
OWN_BY_PURPOSE: Final[Mapping[str, Kind]] = MappingProxyType(
    {"UROK": INTEREST, "SANKC. UROK": INTEREST, "SLUZBY": FEE}
)
"""The bank's own charges and interest. They have happened: no balance is asked (check none)."""


@dataclass(frozen=True, slots=True)
class Row:
    """One movement; money in minor units, `amount` positive, `balance_after` credit-positive."""

    line: int
    seq: int
    day: date
    account: str
    direction: Literal["credit", "debit"]
    operation: str
    purpose: str
    amount: int
    balance_after: int
    counter: str

    @property
    def is_own(self) -> bool:
        """Whether the bank itself charged or paid it."""
        return self.purpose in OWN_BY_PURPOSE

    @property
    def kind(self) -> Kind:
        """The purpose tells the bank's own movements, the operation all others."""
        own = OWN_BY_PURPOSE.get(self.purpose)
        return own or BY_OPERATION.get(self.operation, OTHER)

    @property
    def packet(self) -> str:
        """The packet that takes it to the core: one for each day and kind."""
        return f"{self.day}.{self.kind.name}"

    @property
    def opening(self) -> int:
        """The balance before it, in minor units."""
        signed = self.amount if self.direction == "credit" else -self.amount
        return self.balance_after - signed

    def body(self, currency: str) -> dict[str, str]:
        """The posting that REST is asked for: the same in every run."""
        kind = self.kind
        sides = (self.account, kind.internal_account)
        debit, credit = sides if self.direction == "debit" else sides[::-1]
        body = {
            "debit_account": debit,
            "credit_account": credit,
            "amount": format_amount(self.amount, currency),
            "currency": currency,
            "packet": self.packet,
            "type": kind.type,
            "check": "none" if self.is_own else "available",
            "value_date": self.day.isoformat(),
        }
        if narrative := " ".join(filter(None, (self.operation, self.purpose))):
            body["narrative"] = narrative
        if self.counter:
            body["reference"] = self.counter
        return body


@dataclass(slots=True)
class AccountSurvey:
    """What the file shows of an account: money in minor units."""

    first_line: int
    opening: int
    lowest: int
    closing: int

    @property
    def credit_limit(self) -> int:
        """The deepest overdraft, zero when there is none."""
        return max(0, -self.lowest)


@dataclass(slots=True)
class DaySurvey:
    """What the file shows of a date."""

    rows: int = 0
    packets: set[str] = field(default_factory=set)


@dataclass(slots=True)
class Survey:
    """A first pass over the whole file: every line is right, and this is what it needs."""

    path: Path
    currency: str
    content: str
    rows: int = 0
    last_day: date = date.min
    is_in_date_order: bool = True
    accounts: dict[str, AccountSurvey] = field(default_factory=dict)
    days: dict[date, DaySurvey] = field(default_factory=dict)
    internal_accounts: set[str] = field(default_factory=set)

    @property
    def packets(self) -> set[str]:
        """The packets of all dates."""
        return set().union(*(day.packets for day in self.days.values()))

    def key(self, row: Row) -> str:
        """The idempotency key of a row: the same for the same content, wherever the file lies."""
        return f"replay-{self.content[:_KEY_HASH_DIGITS]}-{row.seq}"

    def unload_key(self, packet: str, after_run: int | str = 0) -> str:
        """The idempotency key of a packet's unload that comes after its run of that number.

        A packet's first unload is 0's, and the one after its night has a name of its own: the same
        in every replay of the same content.
        """
        return f"replay-{self.content[:_KEY_HASH_DIGITS]}-{packet}-{after_run}"


def survey(path: Path, currency: str) -> Survey:
    """Reads the whole file once. Raises NiError, with the line, when anything in it is wrong."""
    result = Survey(path, currency, content_hash(path))
    for row in read_rows(path, currency):
        account = result.accounts.get(row.account)
        if account is None:
            account = AccountSurvey(row.line, row.opening, row.opening, row.opening)
            result.accounts[row.account] = account
        account.lowest = min(account.lowest, row.balance_after)
        account.closing = row.balance_after
        day = result.days.setdefault(row.day, DaySurvey())
        day.rows += 1
        day.packets.add(row.packet)
        result.rows += 1
        result.is_in_date_order &= row.day >= result.last_day
        result.last_day = max(result.last_day, row.day)
        result.internal_accounts.add(row.kind.internal_account)
    if both := result.internal_accounts & result.accounts.keys():
        raise NiError(f"{path}: {min(both)} is the name of one of the bank's own accounts")
    if not result.rows:
        raise NiError(f"{path} has no rows")
    return result


def read_rows(path: Path, currency: str) -> Iterator[Row]:
    """The movements of the file in order. Raises NiError, with the line, at the first wrong one."""
    previous = -1
    for line, fields in CsvFile(path, COLUMNS).rows():
        try:
            row = parse_row(line, fields, currency)
        except ValueError as error:
            raise NiError(f"{path}, line {line}: {error}") from error
        if row.seq <= previous:
            raise NiError(f"{path}, line {line}: seq is {row.seq} after {previous}: it must grow")
        previous = row.seq
        yield row


def parse_row(line: int, fields: list[str], currency: str) -> Row:
    """The movement of one line's fields. Raises ValueError that says what is wrong."""
    if len(fields) != len(COLUMNS):
        raise ValueError(f"has {len(fields)} columns instead of {len(COLUMNS)}")
    seq, day, account, direction, operation, purpose, amount, balance, bank, counter = fields
    if _SEQUENCE.fullmatch(seq) is None:
        raise ValueError(f"seq is {seq[:40]!r}: must be a number")
    if _DATE.fullmatch(day) is None:
        raise ValueError(f"date is {day[:40]!r}: must be YYYY-MM-DD")
    if direction not in ("credit", "debit"):
        raise ValueError(f"direction is {direction[:40]!r}: must be credit or debit")
    try:
        minor = parse_amount(amount, currency)
        after = parse_balance(balance, currency)
    except ValueError as error:
        raise ValueError(f"amount {amount[:40]!r}, balance {balance[:40]!r}: {error}") from error
    return Row(
        line=line,
        seq=int(seq),
        day=date.fromisoformat(day),
        account=check_account(account),
        direction="credit" if direction == "credit" else "debit",
        operation=operation,
        purpose=purpose,
        amount=minor,
        balance_after=after,
        counter="/".join(filter(None, (bank, counter))),
    )
