"""What an end of day must book, worked out with fractions and without a look at the core's SQL."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from fractions import Fraction

from ni.core_end_of_day import Charges
from tests.support.bank import CoreAccount


def interest(balance: int, charges: Charges, days: int) -> int:
    """Interest in minor units: actual days over 365, half a unit away from zero."""
    ppm = charges.credit_ppm if balance > 0 else charges.debit_ppm
    exact = Fraction(abs(balance)) * Fraction(ppm, 1_000_000) * Fraction(days, 365)
    rounded = int(exact + Fraction(1, 2))
    return rounded if balance > 0 else -rounded


@dataclass
class Expected:
    """Balances afterwards, the entries that were written, and how many accounts they touched."""

    balances: dict[str, int]
    entries: Counter[tuple[str, str, int]]
    accounts: int


def expected(bank: Iterable[CoreAccount], charges: Charges, days: int, fee: int) -> Expected:
    """The end of day of a bank that has no interest or fee account of its own yet."""
    result = Expected({}, Counter(), 0)
    sums: Counter[tuple[str, str]] = Counter()
    for one in bank:
        legs = legs_of(one, charges, days, fee)
        result.balances[one.account] = one.balance + sum(legs.values())
        result.accounts += bool(legs)
        for source, amount in legs.items():
            result.entries[one.account, source, amount] += 1
            sums[f"INT-{'FEES' if source == 'fee' else 'INTEREST'}-{one.currency}", source] -= (
                amount
            )
    for (own, source), amount in sums.items():
        result.balances[own] = result.balances.get(own, 0) + amount
        result.entries[own, source, amount] += 1
    return result


def legs_of(account: CoreAccount, charges: Charges, days: int, fee: int) -> dict[str, int]:
    """What one account pays (negative) and gets, by its reason; nothing that is zero."""
    if account.kind != "customer" or account.status != "active":
        return {}
    amount = interest(account.balance, charges, days)
    legs = {"credit interest" if account.balance > 0 else "debit interest": amount}
    if account.currency == charges.currency:
        legs["fee"] = -fee
    return {source: amount for source, amount in legs.items() if amount}
