"""What the state machine draws from: names, amounts, options, and the bank of one example."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from hypothesis import strategies as st

from tests.model.model import Account, Body, text_of

UNKNOWN: Final = 50
"""The pick of a hold or posting that nobody has made."""

CUSTOMERS: Final = ["A1", "A2", "A3", "J1"]
ACCOUNTS: Final = st.sampled_from(CUSTOMERS)
NAMES: Final = st.sampled_from(
    ["A1"] * 5 + ["A2"] * 4 + ["A3", "J1", "J1", *["CASH", "OFF1", "SHUT", "NOBODY"]]
)
CREDITS: Final = st.sampled_from(["CASH"] * 8 + ["A2", "A3", *["CASHJ", "OFF1", "SHUT", "NOBODY"]])
PAIRS: Final = st.sampled_from(
    [("A1", "CASH"), ("CASH", "A1"), ("A1", "A2"), ("A2", "A3"), ("A2", "CASH")] * 4
    + [("CASH", "A2"), ("A3", "A1"), ("A2", "A1"), ("J1", "CASHJ"), ("CASHJ", "J1")] * 2
    + [("CASH", "FEES"), ("OFF1", "OFF2"), ("CASH", "SHUT"), ("SHUT", "CASH"), ("NOBODY", "CASH")]
    + [("A1", "NOBODY"), ("NOBODY", "OFF1"), ("OFF1", "CASH"), ("A1", "OFF1"), ("A1", "CASHJ")]
    + [("J1", "A1"), ("SHUT", "NOBODY"), ("A3", "SHUT"), ("OFF1", "A1")]
)
"""Debit and credit; mostly a posting that can be, sometimes one that cannot."""

CLIENTS: Final = st.sampled_from(["payments"] * 9 + ["cards"])
PICKS: Final = st.sampled_from([0, 0, 0, 0, 1, 1, 1, 2, 2, 3, 4, 5, 6, 9, UNKNOWN])
CHECKS: Final = st.sampled_from([None, None, None, None, None, "available", "none"])
OVERS: Final = st.sampled_from([None, "reject", "check", "none"])
EXPIRIES: Final = st.sampled_from([None, None, 30, 60, 3600])
OVERRIDES: Final = st.sampled_from([None, None, None, None, {"legal_reference": "order 8/1993"}])
AMOUNTS: Final = st.one_of(
    st.tuples(st.just("plain"), st.integers(1, 3000)),
    st.tuples(st.just("edge"), st.integers(-2, 2)),
)


def bank_of(prefix: str) -> list[Account]:
    """Accounts of one example: customers with and without a limit, and the bank's own."""
    return [
        Account(f"{prefix}-A1", "customer", "CZK", balance=10_000),
        Account(f"{prefix}-A2", "customer", "CZK", balance=5_000, limit=3_000),
        Account(f"{prefix}-A3", "customer", "CZK"),
        Account(f"{prefix}-J1", "customer", "JPY", balance=4_000),
        Account(f"{prefix}-SHUT", "customer", "CZK", balance=5_000, closed=True),
        Account(f"{prefix}-CASH", "internal", "CZK"),
        Account(f"{prefix}-FEES", "internal", "CZK"),
        Account(f"{prefix}-CASHJ", "internal", "JPY"),
        Account(f"{prefix}-OFF1", "off_balance", "CZK"),
        Account(f"{prefix}-OFF2", "off_balance", "CZK"),
    ]


def money(amount: int, currency: str) -> str:
    """An amount as a client writes it."""
    return text_of(amount, currency)


def without_nones(body: Mapping[str, object]) -> Body:
    """Optional fields that were not drawn are not sent."""
    return {name: value for name, value in body.items() if value is not None}
