"""The rules of postings: create and cancel."""

from __future__ import annotations

from datetime import date

from ni.batch_state import Answer, BatchState, instant_of, refuse
from ni.commands import CancelPosting, CreatePosting
from ni.decisions import Decision
from ni.documents import posting_document, refusal_document
from ni.movements import AccountFigures, Posting

_CANCEL_REFUSALS = {
    "booked": Decision.posting_booked,
    "cancelled": Decision.posting_cancelled,
    "awaiting_acceptance": Decision.posting_awaiting_acceptance,
}


def refuse_pair(debit: AccountFigures, credit: AccountFigures, currency: str) -> Answer | None:
    """Kinds fit and both accounts are kept in `currency`."""
    if (debit.kind == "off_balance") is not (credit.kind == "off_balance"):
        return refuse(Decision.account_kind_mismatch, credit)
    if debit.currency != currency:
        return refuse(Decision.currency_mismatch, debit)
    if credit.currency != currency:
        return refuse(Decision.currency_mismatch, credit)
    return None


def refuse_standing(
    debit: AccountFigures, credit: AccountFigures, *, debit_override: bool, credit_override: bool
) -> Answer | None:
    """Neither account is closed; no block stands in the way of a side that no order overrides."""
    if debit.status == "closed":
        return refuse(Decision.account_closed, debit)
    if credit.status == "closed":
        return refuse(Decision.account_closed, credit)
    if debit.debit_blocked and not debit_override:
        return refuse(Decision.account_blocked, debit)
    if credit.credit_blocked and not credit_override:
        return refuse(Decision.account_blocked, credit)
    return None


def _refuse_create(state: BatchState, command: CreatePosting) -> Answer | None:
    debit = state.account(command.debit_account)
    if debit is None:
        return refuse(Decision.account_not_found, command.debit_account)
    credit = state.account(command.credit_account)
    if credit is None:
        return refuse(Decision.account_not_found, command.credit_account)
    refusal = refuse_pair(debit, credit, command.currency)
    if refusal is not None:
        return refusal
    amount = command.amount
    if command.check == "available":
        override = command.legal_reference is not None
        refusal = refuse_standing(debit, credit, debit_override=override, credit_override=override)
        if refusal is not None:
            return refusal
        if debit.is_customer and debit.available < amount:
            return refuse(Decision.insufficient_funds, debit, amount)
    if not state.fits(debit, -amount):
        return refuse(Decision.amount_out_of_range, debit)
    if not state.fits(credit, amount):
        return refuse(Decision.amount_out_of_range, credit)
    return None


def create(state: BatchState, command: CreatePosting) -> Answer:
    """Book an amount from the debit to the credit account, if the balance allows."""
    refusal = refuse_value_date(state, command.value_date) or _refuse_create(state, command)
    if refusal is not None:
        return refusal
    debit = state.snapshot.accounts[command.debit_account]
    credit = state.snapshot.accounts[command.credit_account]
    change_us = state.next_change()
    instant = instant_of(change_us)
    posting = Posting(
        posting_id=state.new_id(change_us, home_account(debit, credit)),
        home=True,
        client=command.client,
        type=command.type,
        debit_account=command.debit_account,
        credit_account=command.credit_account,
        debit_customer=debit.is_customer,
        credit_customer=credit.is_customer,
        amount=command.amount,
        currency=command.currency,
        packet=command.packet,
        straight_through=command.straight_through,
        status="pending",
        check_mode=command.check,
        value_date=command.value_date or state.snapshot.business_date,
        valid_from=command.valid_from or instant,
        link_id=command.link_id,
        hold_id=None,
        reference=command.reference,
        narrative=command.narrative,
        actor=command.actor,
        legal_reference=command.legal_reference,
        debit_available_after=None,
        debit_sequence=None,
        credit_available_after=None,
        credit_sequence=None,
        epoch=state.snapshot.epoch,
        created_at=instant,
        changed_at=instant,
    )
    _move_both(state, posting, debit, credit, change_us)
    state.effects.new_postings.append(posting)
    return Answer(Decision.approved, posting_document(posting))


def _move_both(
    state: BatchState,
    posting: Posting,
    debit: AccountFigures,
    credit: AccountFigures,
    change_us: int,
) -> None:
    """Move both customers' counters; the events are made of the posting where it is written."""
    if debit.is_customer:
        after = state.change(debit, change_us, -posting.amount)
        posting.debit_available_after, posting.debit_sequence = after
        posting.debit_event_id = state.new_id(change_us, debit.account)
    if credit.is_customer:
        after = state.change(credit, change_us, posting.amount)
        posting.credit_available_after, posting.credit_sequence = after
        posting.credit_event_id = state.new_id(change_us, credit.account)


def refuse_value_date(state: BatchState, value_date: date | None) -> Answer | None:
    """No posting is dated later than the next business date."""
    latest = state.snapshot.next_business_date
    if value_date is None or value_date <= latest:
        return None
    detail = f"value_date is later than the next business date, {latest}"
    return Answer(Decision.validation_failed, refusal_document(detail=detail))


def home_account(debit: AccountFigures, credit: AccountFigures) -> str:
    """The account in whose bucket a posting lives: its debit customer, else its credit customer,
    else its debit account."""
    return credit.account if credit.is_customer and not debit.is_customer else debit.account


def move_debit(
    state: BatchState,
    posting: Posting,
    debit: AccountFigures,
    change_us: int,
    created: int,
    event_type: str,
) -> None:
    """Move the debit side's counter and tell it, if NI counts that side of the posting."""
    if posting.debit_customer:
        after = state.change(debit, change_us, created)
        posting.debit_available_after, posting.debit_sequence = after
        direction = 1 if created > 0 else -1
        state.tell(event_type, debit, posting, change_us, posting.amount, direction)


def move_credit(
    state: BatchState,
    posting: Posting,
    credit: AccountFigures,
    change_us: int,
    created: int,
    event_type: str,
) -> None:
    """Move the credit side's counter and tell it, if NI counts that side of the posting."""
    if posting.credit_customer:
        after = state.change(credit, change_us, created)
        posting.credit_available_after, posting.credit_sequence = after
        direction = 1 if created > 0 else -1
        state.tell(event_type, credit, posting, change_us, posting.amount, direction)


def cancel(state: BatchState, command: CancelPosting) -> Answer:
    """Take a posting back; the customer who was credited must still have the money.

    Each side is counted as it was when the posting was made, whatever the account has become.
    """
    posting = state.snapshot.postings.get(command.posting_id)
    if posting is None:
        busy = command.posting_id in state.snapshot.busy
        return refuse(Decision.posting_being_unloaded if busy else Decision.posting_not_found)
    if posting.client != command.client and not command.any_client:
        return refuse(Decision.posting_not_found)
    if posting.status in _CANCEL_REFUSALS:
        return refuse(_CANCEL_REFUSALS[posting.status])
    debit = state.snapshot.accounts[posting.debit_account]
    credit = state.snapshot.accounts[posting.credit_account]
    amount = posting.amount
    if command.check == "available" and posting.credit_customer and credit.available < amount:
        return refuse(Decision.insufficient_funds, credit, amount)
    for account, created, counted in (
        (debit, amount, posting.debit_customer),
        (credit, -amount, posting.credit_customer),
    ):
        if counted and not state.in_range(account, created):
            return refuse(Decision.amount_out_of_range, account)
    change_us = state.next_change()
    state.touch_posting(posting, change_us)
    was_problem = posting.status == "problem"
    posting.status = "cancelled"
    posting.change_reason, posting.change_actor = command.reason, command.actor
    if was_problem:
        state.settle(posting, "cancel", command.client)
    move_debit(state, posting, debit, change_us, amount, "ni.posting.cancelled")
    move_credit(state, posting, credit, change_us, -amount, "ni.posting.cancelled")
    return Answer(Decision.approved, posting_document(posting))
