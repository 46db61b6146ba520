"""Decisions: the numbered outcome of every request. 0 is approved; numbers are never reused.

This is the one list of refusals. Doors translate it (`api.problems` to HTTP, the card adapter to
field 39); tests hold each translation to be total.
"""

from __future__ import annotations

from enum import IntEnum
from typing import Final


class Decision(IntEnum):
    """What NI answered. Names are the problem codes of the REST contract."""

    approved = 0
    insufficient_funds = 1
    account_not_found = 2
    account_closed = 3
    account_blocked = 4
    account_kind_mismatch = 5
    currency_mismatch = 6
    amount_out_of_range = 7
    hold_not_found = 8
    hold_captured = 9
    hold_released = 10
    hold_expired = 11
    exceeds_hold = 12
    posting_not_found = 13
    posting_booked = 14
    posting_cancelled = 15
    posting_awaiting_acceptance = 16
    posting_being_unloaded = 17
    packet_not_found = 18
    packet_not_waiting = 19
    same_client = 20
    problem_resolved = 21
    core_closed = 22
    night_copy_not_exact = 23
    packets_unfinished = 24
    core_still_closed = 25
    batch_refused = 26
    validation_failed = 40
    same_account = 41
    idempotency_key_missing = 42
    idempotency_key_invalid = 43
    idempotency_key_reused = 44
    unauthorized = 45
    scope_missing = 46
    not_found = 47
    overloaded = 48
    body_too_large = 50
    method_not_allowed = 51
    rate_limited = 52
    internal_error = 53


NOT_STORED: Final = frozenset(
    {
        Decision.core_closed,
        Decision.core_still_closed,
        Decision.night_copy_not_exact,
        Decision.packets_unfinished,
        Decision.posting_being_unloaded,
        Decision.batch_refused,
    }
    | {decision for decision in Decision if decision >= Decision.validation_failed}
)
"""Answers that a later try with the same key may change, so no request row keeps them."""
