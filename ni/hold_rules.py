"""The rules of holds: create, capture, release, adjust."""

from __future__ import annotations

from datetime import datetime

from ni.batch_state import Answer, BatchState, instant_of, refuse
from ni.commands import (
    AdjustHold,
    CaptureHold,
    CreateHold,
    ReleaseHold,
    Unset,
)
from ni.decisions import Decision
from ni.documents import hold_document, posting_document, refusal_document
from ni.money import parse_amount
from ni.movements import AccountFigures, Hold, Posting
from ni.posting_rules import (
    home_account,
    move_credit,
    refuse_pair,
    refuse_standing,
    refuse_value_date,
)

_NOT_ACTIVE = {
    "captured": Decision.hold_captured,
    "released": Decision.hold_released,
    "expired": Decision.hold_expired,
}


def create(state: BatchState, command: CreateHold) -> Answer:
    """Lock an amount of a customer account, if the balance allows."""
    refusal = _refuse_expiry(state, command.expires_at) or _refuse_create(state, command)
    if refusal is not None:
        return refusal
    account = state.snapshot.accounts[command.account]
    change_us = state.next_change()
    instant = instant_of(change_us)
    available_after, sequence = state.change(account, change_us, created=0, held=command.amount)
    _expect_expiry(account, command.expires_at)
    hold = Hold(
        hold_id=state.new_id(change_us, command.account),
        client=command.client,
        account=command.account,
        currency=command.currency,
        amount=command.amount,
        captured=0,
        released=0,
        status="active",
        kind=command.kind,
        expires_at=command.expires_at,
        reference=command.reference,
        narrative=command.narrative,
        actor=command.actor,
        original_amount=command.original_amount,
        original_currency=command.original_currency,
        legal_reference=command.legal_reference,
        available_after=available_after,
        sequence=sequence,
        epoch=state.snapshot.epoch,
        created_at=instant,
        changed_at=instant,
    )
    state.effects.new_holds.append(hold)
    state.tell("ni.hold.placed", account, hold, change_us, hold.amount, -1)
    return Answer(Decision.approved, hold_document(hold))


def _refuse_create(state: BatchState, command: CreateHold) -> Answer | None:
    account = state.account(command.account)
    if account is None:
        return refuse(Decision.account_not_found, command.account)
    if not account.is_customer:
        return refuse(Decision.account_kind_mismatch, account)
    if account.currency != command.currency:
        return refuse(Decision.currency_mismatch, account)
    if command.check == "available":
        refusal = _refuse_lock(account, command.amount, override=bool(command.legal_reference))
        if refusal is not None:
            return refusal
    if not state.fits(account, created=0, held=command.amount):
        return refuse(Decision.amount_out_of_range, account)
    return None


def _refuse_lock(account: AccountFigures, amount: int, *, override: bool = False) -> Answer | None:
    if account.status == "closed":
        return refuse(Decision.account_closed, account)
    if account.debit_blocked and not override:
        return refuse(Decision.account_blocked, account)
    if account.available < amount:
        return refuse(Decision.insufficient_funds, account, amount)
    return None


def _refuse_expiry(state: BatchState, expires_at: datetime | Unset | None) -> Answer | None:
    if not isinstance(expires_at, datetime) or expires_at > state.instant:
        return None
    detail = refusal_document(detail="expires_at is in the past")
    return Answer(Decision.validation_failed, detail)


def _expect_expiry(account: AccountFigures, expires_at: datetime | None) -> None:
    """Keep the account's next expiry a lower bound of its holds' expiries."""
    if expires_at is not None and (account.next_expiry is None or expires_at < account.next_expiry):
        account.next_expiry = expires_at


def _named_hold(
    state: BatchState, command: CaptureHold | ReleaseHold | AdjustHold
) -> tuple[Hold, int | None] | Answer:
    """The hold that a command names, if the client may see it, and the amount in its currency."""
    hold = state.snapshot.holds.get(command.hold_id)
    if hold is None:
        busy = command.hold_id in state.snapshot.busy
        return refuse(Decision.posting_being_unloaded if busy else Decision.hold_not_found)
    if hold.client != command.client and not command.any_client:
        return refuse(Decision.hold_not_found)
    if command.amount is None:
        return hold, None
    try:
        return hold, parse_amount(command.amount, hold.currency)
    except ValueError as error:
        detail = refusal_document(detail=f"amount {error}")
        return Answer(Decision.validation_failed, detail)


def _refuse_state(state: BatchState, hold: Hold) -> Answer | None:
    if hold.status in _NOT_ACTIVE:
        return refuse(_NOT_ACTIVE[hold.status])
    if hold.expires_at is not None and hold.expires_at <= state.instant:
        return refuse(Decision.hold_expired)
    return None


def _settle(hold: Hold) -> None:
    """A hold of which nothing remains is captured if anything was captured, else released."""
    if hold.remaining == 0:
        hold.status = "captured" if hold.captured else "released"


def _capture_accounts(
    state: BatchState, command: CaptureHold, hold: Hold
) -> tuple[AccountFigures, AccountFigures] | Answer:
    """Both accounts of a capture, if they exist and fit; a hold is on a customer's account."""
    debit = state.account(hold.account)
    if debit is None:
        return refuse(Decision.account_not_found, hold.account)
    credit = state.account(command.credit_account)
    if credit is None:
        return refuse(Decision.account_not_found, command.credit_account)
    if credit is debit:
        return refuse(Decision.same_account, credit)
    if not debit.is_customer:
        return refuse(Decision.account_kind_mismatch, debit)
    refusal = refuse_pair(debit, credit, hold.currency)
    return (debit, credit) if refusal is None else refusal


def _refuse_capture(
    state: BatchState, command: CaptureHold, hold: Hold, amount: int
) -> Answer | None:
    accounts = _capture_accounts(state, command, hold)
    if isinstance(accounts, Answer):
        return accounts
    debit, credit = accounts
    override = command.legal_reference is not None
    refusal = _refuse_state(state, hold) or refuse_standing(
        debit, credit, debit_override=override, credit_override=override
    )
    if refusal is not None:
        return refusal
    excess = amount - hold.remaining
    if excess > 0:
        if command.over_capture == "reject":
            return refuse(Decision.exceeds_hold, debit)
        if command.over_capture == "check" and debit.available < excess:
            return refuse(Decision.insufficient_funds, debit, excess)
    if not state.fits(debit, -amount):
        return refuse(Decision.amount_out_of_range, debit)
    if not state.fits(credit, amount):
        return refuse(Decision.amount_out_of_range, credit)
    return None


def capture(state: BatchState, command: CaptureHold) -> Answer:
    """Post all or part of what is held; a final capture releases the rest."""
    named = _named_hold(state, command)
    if isinstance(named, Answer):
        return named
    hold, amount = named
    amount = hold.remaining if amount is None else amount
    refusal = refuse_value_date(state, command.value_date) or _refuse_capture(
        state, command, hold, amount
    )
    if refusal is not None:
        return refusal
    debit = state.snapshot.accounts[hold.account]
    credit = state.snapshot.accounts[command.credit_account]
    change_us = state.next_change()
    state.touch_hold(hold, change_us)
    before = hold.remaining
    hold.captured += amount
    if command.final:
        hold.released += hold.remaining
    posting = _captured_posting(state, command, hold, change_us, amount, debit, credit)
    after = state.change(debit, change_us, created=-amount, held=hold.remaining - before)
    posting.debit_available_after, posting.debit_sequence = after
    hold.available_after, hold.sequence = after
    told = state.tell("ni.hold.captured", debit, posting, change_us, amount, -1)
    told.hold_id, told.hold_remaining = hold.hold_id, hold.remaining
    move_credit(state, posting, credit, change_us, amount, "ni.posting.created")
    _settle(hold)
    state.effects.new_postings.append(posting)
    return Answer(Decision.approved, posting_document(posting, hold))


def _captured_posting(
    state: BatchState,
    command: CaptureHold,
    hold: Hold,
    change_us: int,
    amount: int,
    debit: AccountFigures,
    credit: AccountFigures,
) -> Posting:
    instant = instant_of(change_us)
    return Posting(
        posting_id=state.new_id(change_us, home_account(debit, credit)),
        home=True,
        client=command.client,
        type="TRANSFER",
        debit_account=hold.account,
        credit_account=command.credit_account,
        debit_customer=True,
        credit_customer=credit.is_customer,
        amount=amount,
        currency=hold.currency,
        packet=command.packet,
        straight_through=command.straight_through,
        status="pending",
        check_mode="available" if command.over_capture != "none" else "none",
        value_date=command.value_date or state.snapshot.business_date,
        valid_from=instant,
        link_id=None,
        hold_id=hold.hold_id,
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


def release(state: BatchState, command: ReleaseHold) -> Answer:
    """Give all or part of a hold back; never refused for blocks or closure."""
    named = _named_hold(state, command)
    if isinstance(named, Answer):
        return named
    hold, amount = named
    refusal = _refuse_state(state, hold)
    if refusal is not None:
        return refusal
    account = state.snapshot.accounts[hold.account]
    amount = hold.remaining if amount is None else amount
    if amount > hold.remaining:
        return refuse(Decision.exceeds_hold, account)
    change_us = state.next_change()
    state.touch_hold(hold, change_us)
    hold.released += amount
    after = state.change(account, change_us, created=0, held=-amount)
    hold.available_after, hold.sequence = after
    _settle(hold)
    told = state.tell("ni.hold.released", account, hold, change_us, amount, +1)
    if command.reference is not None:
        told.reference = command.reference
    return Answer(Decision.approved, hold_document(hold))


def adjust(state: BatchState, command: AdjustHold) -> Answer:
    """Change a hold's total or expiry; only raising it is checked."""
    named = _named_hold(state, command)
    if isinstance(named, Answer):
        return named
    hold, amount = named
    refusal = _refuse_expiry(state, command.expires_at) or _refuse_adjust(
        state, command, hold, amount
    )
    if refusal is not None:
        return refusal
    account = state.snapshot.accounts[hold.account]
    change_us = state.next_change()
    state.touch_hold(hold, change_us)
    before = hold.remaining
    if amount is not None:
        hold.amount = amount
    if not isinstance(command.expires_at, Unset):
        hold.expires_at = command.expires_at
        _expect_expiry(account, command.expires_at)
    difference = hold.remaining - before
    after = state.change(account, change_us, created=0, held=difference)
    hold.available_after, hold.sequence = after
    _settle(hold)
    direction = -1 if difference > 0 else 1
    state.tell("ni.hold.adjusted", account, hold, change_us, abs(difference), direction)
    return Answer(Decision.approved, hold_document(hold))


def _refuse_adjust(
    state: BatchState, command: AdjustHold, hold: Hold, amount: int | None
) -> Answer | None:
    account = state.snapshot.accounts[hold.account]
    raised = 0 if amount is None else amount - hold.amount
    if raised > 0 and account.kind is None:
        return refuse(Decision.account_not_found, hold.account)
    if raised > 0 and not account.is_customer:
        return refuse(Decision.account_kind_mismatch, account)
    refusal = _refuse_state(state, hold)
    if refusal is not None or amount is None:
        return refusal
    checked = raised > 0 and command.check == "available"
    if checked and (refusal := _refuse_lock(account, raised)) is not None:
        return refusal
    if amount < hold.captured + hold.released:
        return refuse(Decision.exceeds_hold, account)
    if not state.fits(account, created=0, held=raised):
        return refuse(Decision.amount_out_of_range, account)
    return None
