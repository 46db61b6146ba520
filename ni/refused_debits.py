"""Refused debits as events, where NI_REFUSED_EVENTS is set.

Told is what would have taken money or locked it and did not, for want of funds or because of the
debited account itself: postings, holds, captures, and holds that were to be raised.
"""

from __future__ import annotations

import json
from typing import Final
from uuid import UUID

from ni.batch_state import Answer, BatchState
from ni.commands import AdjustHold, CaptureHold, Command, CreateHold, CreatePosting
from ni.decisions import Decision
from ni.money import parse_amount
from ni.movements import RefusedDebit

REASONS: Final = frozenset(
    {Decision.insufficient_funds, Decision.account_blocked, Decision.account_closed}
)


def tell(state: BatchState, command: Command, answer: Answer) -> None:
    """Add the event of a refused debit to the outbox, if `answer` is one."""
    if answer.decision not in REASONS:
        return
    debit = _debit(state, command)
    if debit is None:
        return
    name, amount, movement_id = debit
    if json.loads(answer.document).get("account") != name:
        return  # the credited account was refused
    account = state.snapshot.accounts[name]
    assert account.currency is not None, "what was refused for its funds has a currency"
    assert isinstance(command, CreatePosting | CreateHold | CaptureHold | AdjustHold)
    said = state.snapshot.holds[command.hold_id] if isinstance(command, AdjustHold) else command
    state.effects.refused.append(
        RefusedDebit(
            event_id=state.new_id(state.next_change(), name),
            account=name,
            epoch=state.snapshot.epoch,
            client=command.client,
            movement_id=movement_id,
            currency=account.currency,
            amount=amount,
            available_after=account.available,
            reference=said.reference,
            narrative=said.narrative,
            reason=answer.decision.name,
        )
    )


def _debit(state: BatchState, command: Command) -> tuple[str, int, UUID | None] | None:
    """Which account a command debits, how much it asks for, and of which hold."""
    match command:
        case CreatePosting():
            account = state.account(command.debit_account)
            if account is None or not account.is_customer:
                return None
            return command.debit_account, command.amount, None
        case CreateHold():
            return command.account, command.amount, None
        case CaptureHold():
            hold = state.snapshot.holds[command.hold_id]
            asked = command.amount
            amount = hold.remaining if asked is None else parse_amount(asked, hold.currency)
            return hold.account, amount, hold.hold_id
        case AdjustHold(amount=str(total)):
            hold = state.snapshot.holds[command.hold_id]
            return hold.account, parse_amount(total, hold.currency) - hold.amount, hold.hold_id
        case _:
            return None
