"""The rules of a problem: retry, cancel or redirect a posting that the core could not book.

The money has moved, so a problem still counts in pending; what takes money back from a customer
or from another one is checked like any movement.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from ni.batch_state import Answer, BatchState, refuse
from ni.commands import CancelPosting, ProblemAction, ResolveProblem
from ni.decisions import Decision
from ni.documents import problem_resolution_document
from ni.movements import AccountFigures, Posting
from ni.posting_rules import cancel, move_credit, move_debit, refuse_pair, refuse_standing


def resolve(state: BatchState, command: ResolveProblem) -> Answer:
    """Settle a problem; the posting's document and how it was settled."""
    posting = state.snapshot.postings.get(command.posting_id)
    if posting is None:
        busy = command.posting_id in state.snapshot.busy
        return refuse(Decision.posting_being_unloaded if busy else Decision.posting_not_found)
    if posting.status != "problem":
        return refuse(Decision.problem_resolved)
    refused = _ACTIONS[command.action](state, command, posting)
    if refused is not None:
        return refused
    resolution = state.effects.resolutions[-1]
    return Answer(Decision.approved, problem_resolution_document(posting, resolution))


def _retry(state: BatchState, command: ResolveProblem, posting: Posting) -> Answer | None:
    if state.snapshot.mode == "night":
        return refuse(Decision.core_closed)
    _make_pending(state, command, posting, state.next_change())
    return None


def _cancel(state: BatchState, command: ResolveProblem, _posting: Posting) -> Answer | None:
    answer = cancel(
        state,
        CancelPosting(
            client=command.client,
            key=None,
            fingerprint=b"",
            any_client=True,
            posting_id=command.posting_id,
            reason=command.reason,
            check=command.check,
            actor=command.actor,
        ),
    )
    return None if answer.decision is Decision.approved else answer


def _make_pending(
    state: BatchState, command: ResolveProblem, posting: Posting, change_us: int
) -> None:
    state.touch_posting(posting, change_us)
    posting.status = "pending"
    posting.change_reason, posting.change_actor = command.reason, command.actor
    state.settle(posting, command.action, command.client)


def _redirect(state: BatchState, command: ResolveProblem, posting: Posting) -> Answer | None:
    debit_name = command.debit_account or posting.debit_account
    credit_name = command.credit_account or posting.credit_account
    debit = state.account(debit_name)
    if debit is None:
        return refuse(Decision.account_not_found, debit_name)
    credit = state.account(credit_name)
    if credit is None:
        return refuse(Decision.account_not_found, credit_name)
    if debit is credit:
        return refuse(Decision.same_account, debit)
    refused = refuse_pair(debit, credit, posting.currency)
    if refused is None and command.check == "available":
        override = posting.legal_reference is not None
        refused = refuse_standing(debit, credit, override=override)
    if refused is not None:
        return refused
    return _move_sides(state, command, posting, debit, credit)


def _move_sides(
    state: BatchState,
    command: ResolveProblem,
    posting: Posting,
    debit: AccountFigures,
    credit: AccountFigures,
) -> Answer | None:
    """Give each changed side back to the old account and take it from the new one."""
    amount = posting.amount
    old_debit = state.snapshot.accounts[posting.debit_account]
    old_credit = state.snapshot.accounts[posting.credit_account]
    gains: dict[str, int] = {}
    for account, gain in ((old_debit, amount), (debit, -amount), (old_credit, -amount),
                          (credit, amount)):  # fmt: skip
        gains[account.account] = gains.get(account.account, 0) + gain
    for name, gain in gains.items():
        account = state.snapshot.accounts[name]
        short = account.is_customer and gain < 0 and account.available < -gain
        if command.check == "available" and short:
            return refuse(Decision.insufficient_funds, account, -gain)
        if not state.fits(account, gain):
            return refuse(Decision.amount_out_of_range, account)
    change_us = state.next_change()
    _make_pending(state, command, posting, change_us)
    if debit is not old_debit:
        move_debit(state, posting, old_debit, change_us, amount, "ni.posting.cancelled")
        posting.debit_available_after = posting.debit_sequence = None
        posting.debit_account, posting.debit_customer = debit.account, debit.is_customer
        move_debit(state, posting, debit, state.next_change(), -amount, "ni.posting.created")
    if credit is not old_credit:
        move_credit(state, posting, old_credit, change_us, -amount, "ni.posting.cancelled")
        posting.credit_available_after = posting.credit_sequence = None
        posting.credit_account, posting.credit_customer = credit.account, credit.is_customer
        move_credit(state, posting, credit, state.next_change(), amount, "ni.posting.created")
    return None


_ACTIONS: Final[
    dict[ProblemAction, Callable[[BatchState, ResolveProblem, Posting], Answer | None]]
] = {"retry": _retry, "cancel": _cancel, "redirect": _redirect}
