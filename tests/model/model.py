"""An independent model of NI's decisions, written from the REST contract.

It shares no code with `ni/`: money is an integer of minor units, time an aware datetime, an
account a few numbers. `Model.decide` answers one command the way the contract says, or a `Refused`.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

DIGITS = {"CZK": 2, "EUR": 2, "JPY": 0, "KWD": 3}
SUM_LIMIT = 10**17
Body = dict[str, Any]


def minor(text: str, currency: str) -> int:
    """Minor units of a valid decimal string."""
    whole, _, fraction = text.partition(".")
    return int(whole + fraction.ljust(DIGITS[currency], "0"))


def text_of(amount: int, currency: str) -> str:
    """The decimal string that an answer prints."""
    digits = DIGITS[currency]
    whole, rest = divmod(abs(amount), 10**digits)
    sign = "-" if amount < 0 else ""
    return f"{sign}{whole}.{rest:0{digits}d}" if digits else f"{sign}{whole}"


@dataclass
class Account:
    """What the core says about an account, and what NI has added."""

    number: str
    kind: str
    currency: str
    balance: int = 0
    limit: int = 0
    closed: bool = False
    blocked: set[str] = field(default_factory=set)
    pending: int = 0
    sequence: int = 0

    @property
    def is_customer(self) -> bool:
        return self.kind == "customer"

    def blocks(self, side: str) -> bool:
        return side in self.blocked or "all" in self.blocked


@dataclass
class Hold:
    """Money that is locked. `captured` is held money only; `captured_in_all` what was taken."""

    client: str
    account: Account
    amount: int
    expires_at: datetime | None
    kind: str
    hold_id: str = ""
    captured: int = 0
    released: int = 0
    captured_in_all: int = 0
    swept: bool = False

    @property
    def remaining(self) -> int:
        return self.amount - self.captured - self.released

    def status(self, now: datetime) -> str:
        """`active` until nothing remains or the instant of expiry has come."""
        if self.remaining == 0:
            return "captured" if self.captured_in_all else "released"
        if self.expires_at is not None and self.expires_at <= now:
            return "expired"
        return "active"


@dataclass
class Posting:
    """Money that has moved and that the core has not booked yet."""

    client: str
    debit: Account
    credit: Account
    amount: int
    body: Body
    posting_id: str = ""
    status: str = "pending"


@dataclass(frozen=True)
class Refused:
    """A refusal: its code, the account it names, and for want of funds what was there."""

    code: str
    account: str | None = None
    available: int | None = None
    requested: int | None = None


@dataclass
class Approved:
    """An approval: what was made or changed."""

    status: int
    hold: Hold | None = None
    posting: Posting | None = None


Outcome = Refused | Approved


@dataclass(frozen=True)
class Command:
    """One request as it is sent: the operation, which hold or posting it names, and the body.

    `target` is the number of the hold or posting in the model; None is one that nobody has made.
    """

    client: str
    operation: str
    target: int | None
    body: Body

    def path(self, identifier: str) -> str:
        """Where the command is sent; `identifier` is the id of the hold or posting it names."""
        if self.operation in ("hold", "posting"):
            return f"/v1/{self.operation}s"
        noun = "postings" if self.operation == "cancel" else "holds"
        return f"/v1/{noun}/{identifier}/{self.operation}"


class Model:
    """All accounts, holds and postings of one test, and the rules between them."""

    def __init__(self, accounts: list[Account]) -> None:
        self.accounts = {account.number: account for account in accounts}
        self.holds: list[Hold] = []
        self.postings: list[Posting] = []
        self.movements: list[Hold | Posting] = []

    def held(self, account: Account, now: datetime) -> int:
        return sum(
            hold.remaining
            for hold in self.holds
            if hold.account is account and hold.status(now) == "active"
        )

    def available(self, account: Account, now: datetime) -> int:
        """The equation: base + limit + pending - active holds."""
        return account.balance + account.limit + account.pending - self.held(account, now)

    def unswept(self, account: Account, now: datetime) -> list[Hold]:
        """Expired holds whose going has not surely been given a sequence of its own yet.

        NI sweeps them when it likes, at the latest with the next change of the account.
        """
        return [
            hold
            for hold in self.holds
            if hold.account is account and hold.status(now) == "expired" and not hold.swept
        ]

    def decide(self, command: Command, now: datetime) -> Outcome:
        """Decide one command at an instant and, when it is approved, apply it."""
        rules = {
            "hold": self._hold,
            "capture": self._capture,
            "release": self._release,
            "adjust": self._adjust,
            "posting": self._posting,
            "cancel": self._cancel,
        }
        return rules[command.operation](command, now)

    def _hold(self, command: Command, now: datetime) -> Outcome:
        body = command.body
        account = self.accounts.get(body["account"])
        if account is None:
            return Refused("account_not_found", body["account"])
        if not account.is_customer:
            return Refused("account_kind_mismatch", account.number)
        if account.currency != body["currency"]:
            return Refused("currency_mismatch", account.number)
        amount = minor(body["amount"], account.currency)
        refused = None
        if body.get("check") != "none":
            refused = _closed(account) or _blocked(body, debit=account)
            refused = refused or self._funds(account, amount, now)
        if refused:
            return refused
        expires_at = body.get("expires_at")
        expiry = None if expires_at is None else datetime.fromisoformat(expires_at)
        hold = Hold(command.client, account, amount, expiry, body.get("kind", "authorization"))
        self.holds.append(hold)
        self.movements.append(hold)
        self._count(account, now)
        return Approved(201, hold=hold)

    def _capture(self, command: Command, now: datetime) -> Outcome:
        hold, body = self._named_hold(command), command.body
        if hold is None:
            return Refused("hold_not_found")
        credit = self.accounts.get(body["credit_account"])
        account = hold.account
        amount = minor(body["amount"], account.currency) if "amount" in body else hold.remaining
        refused = _joinable(account, credit, body["credit_account"]) or self._inactive(hold, now)
        if refused or credit is None:
            return refused or Refused("account_not_found")
        refused = _closed(account) or _closed(credit) or _blocked(body, account, credit)
        excess = amount - hold.remaining
        over = body.get("over_capture", "reject")
        if not refused and excess > 0 and over == "reject":
            refused = Refused("exceeds_hold", account.number)
        if not refused and excess > 0 and over == "check":
            refused = self._funds(account, excess, now)
        if refused:
            return refused
        hold.captured += min(amount, hold.remaining)
        hold.captured_in_all += amount
        if command.body.get("final", True):
            hold.released += hold.remaining
        posting = self._moved(command, hold.account, credit, amount, now)
        return Approved(201, hold=hold, posting=posting)

    def _release(self, command: Command, now: datetime) -> Outcome:
        hold, body = self._named_hold(command), command.body
        if hold is None:
            return Refused("hold_not_found")
        account = hold.account
        amount = minor(body["amount"], account.currency) if "amount" in body else hold.remaining
        refused = self._inactive(hold, now)
        if refused:
            return refused
        if amount > hold.remaining:
            return Refused("exceeds_hold", account.number)
        hold.released += amount
        self._count(account, now)
        return Approved(200, hold=hold)

    def _adjust(self, command: Command, now: datetime) -> Outcome:
        hold, body = self._named_hold(command), command.body
        if hold is None:
            return Refused("hold_not_found")
        account = hold.account
        amount = minor(body["amount"], account.currency) if "amount" in body else hold.amount
        raised = amount - hold.amount
        refused = self._inactive(hold, now)
        if refused is None and raised > 0 and body.get("check") != "none":
            refused = _closed(account) or _blocked(body, debit=account)
        if refused is None and amount < hold.captured + hold.released:
            refused = Refused("exceeds_hold", account.number)
        if refused is None and raised > 0 and body.get("check") != "none":
            refused = self._funds(account, raised, now)
        if refused:
            return refused
        hold.amount = amount
        if "expires_at" in body:
            text = body["expires_at"]
            hold.expires_at = None if text is None else datetime.fromisoformat(text)
        self._count(account, now)
        return Approved(200, hold=hold)

    def _posting(self, command: Command, now: datetime) -> Outcome:
        body = command.body
        debit = self.accounts.get(body["debit_account"])
        if debit is None:
            return Refused("account_not_found", body["debit_account"])
        credit = self.accounts.get(body["credit_account"])
        refused = _joinable(debit, credit, body["credit_account"], body["currency"])
        if refused or credit is None:
            return refused or Refused("account_not_found")
        amount = minor(body["amount"], debit.currency)
        if body.get("check") != "none":
            refused = _closed(debit) or _closed(credit) or _blocked(body, debit, credit)
            refused = refused or self._funds(debit, amount, now)
        if refused:
            return refused
        return Approved(201, posting=self._moved(command, debit, credit, amount, now))

    def _cancel(self, command: Command, now: datetime) -> Outcome:
        posting = None if command.target is None else self.postings[command.target]
        if posting is None or posting.client != command.client:
            return Refused("posting_not_found")
        if posting.status == "cancelled":
            return Refused("posting_cancelled")
        if command.body.get("check") != "none":
            refused = self._funds(posting.credit, posting.amount, now)
            if refused:
                return refused
        posting.status = "cancelled"
        self._shift(posting.debit, posting.amount, now)
        self._shift(posting.credit, -posting.amount, now)
        return Approved(200, posting=posting)

    def _named_hold(self, command: Command) -> Hold | None:
        if command.target is None:
            return None
        hold = self.holds[command.target]
        return hold if hold.client == command.client else None

    def _moved(
        self, command: Command, debit: Account, credit: Account, amount: int, now: datetime
    ) -> Posting:
        posting = Posting(command.client, debit, credit, amount, command.body)
        self.postings.append(posting)
        self.movements.append(posting)
        self._shift(debit, -amount, now)
        self._shift(credit, amount, now)
        return posting

    def _shift(self, account: Account, amount: int, now: datetime) -> None:
        account.pending += amount
        if account.is_customer:
            self._count(account, now)

    def _count(self, account: Account, now: datetime) -> None:
        """One change more, after those of the holds that have expired."""
        for hold in self.unswept(account, now):
            hold.swept = True
            account.sequence += 1
        account.sequence += 1

    def _funds(self, account: Account, amount: int, now: datetime) -> Refused | None:
        if not account.is_customer:
            return None
        available = self.available(account, now)
        if available >= amount:
            return None
        return Refused("insufficient_funds", account.number, available, amount)

    def _inactive(self, hold: Hold, now: datetime) -> Refused | None:
        status = hold.status(now)
        return None if status == "active" else Refused(f"hold_{status}")


def _joinable(
    debit: Account, credit: Account | None, credit_number: str, currency: str | None = None
) -> Refused | None:
    """Existence of the credited account, kinds, then currency (`currency`: the request's)."""
    if credit is None:
        return Refused("account_not_found", credit_number)
    if (debit.kind == "off_balance") != (credit.kind == "off_balance"):
        return Refused("account_kind_mismatch")
    wanted = currency or debit.currency
    for account in (debit, credit):
        if account.currency != wanted:
            return Refused("currency_mismatch", account.number)
    return None


def _closed(account: Account) -> Refused | None:
    return Refused("account_closed", account.number) if account.closed else None


def _blocked(body: Body, debit: Account, credit: Account | None = None) -> Refused | None:
    if body.get("override"):
        return None
    if debit.blocks("debit"):
        return Refused("account_blocked", debit.number)
    if credit is not None and credit.blocks("credit"):
        return Refused("account_blocked", credit.number)
    return None
