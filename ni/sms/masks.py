"""What is left of account and phone numbers in texts, tables and logs."""

from __future__ import annotations

from typing import Final

SHOWN: Final = 4


def mask_account(account: str) -> str:
    """The last four characters of an account number after `*`; of a short one at most half."""
    shown = min(SHOWN, len(account) // 2)
    return f"*{account[len(account) - shown :]}"


def mask_phone(phone: str) -> str:
    """The last two digits of a phone number after `*`."""
    return f"*{phone[-2:]}"
