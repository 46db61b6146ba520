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
        refused = _refuse_standing(posting, debit, credit)
    if refused is not None:
        return refused
    return _move_sides(state, command, posting, debit, credit)


def _refuse_standing(
    posting: Posting, debit: AccountFigures, credit: AccountFigures
) -> Answer | None:
    """As for a new posting, but a legal reference was for the accounts that it was made with."""
    ordered = posting.legal_reference is not None
    debit_stays = debit.account == posting.debit_account and not posting.debit_redirected
    credit_stays = credit.account == posting.credit_account and not posting.credit_redirected
    return refuse_standing(
        debit,
        credit,
        debit_override=ordered and debit_stays,
        credit_override=ordered and credit_stays,
    )


def _move_sides(
    state: BatchState,
    command: ResolveProblem,
    posting: Posting,
    debit: AccountFigures,
    credit: AccountFigures,
) -> Answer | None:
    """Give each changed side back to the old account, then take it from the new one.

    The old account is counted as it was when the posting was made, the new one as it is.
    """
    old_debit = state.snapshot.accounts[posting.debit_account]
    old_credit = state.snapshot.accounts[posting.credit_account]
    debit_moves, credit_moves = debit is not old_debit, credit is not old_credit
    refused = _refuse_losses(state, command, posting, debit, credit)
    if refused is not None:
        return refused
    amount, cancelled, created = posting.amount, "ni.posting.cancelled", "ni.posting.created"
    change_us = state.next_change()
    _make_pending(state, command, posting, change_us)
    # Both given back first: of two accounts that change places, each is told in its own order.
    if debit_moves:
        move_debit(state, posting, old_debit, change_us, amount, cancelled)
        posting.debit_available_after = posting.debit_sequence = None
        posting.debit_account, posting.debit_customer = debit.account, debit.is_customer
        posting.debit_redirected = True
    if credit_moves:
        move_credit(state, posting, old_credit, state.next_change(), -amount, cancelled)
        posting.credit_available_after = posting.credit_sequence = None
        posting.credit_account, posting.credit_customer = credit.account, credit.is_customer
        posting.credit_redirected = True
    if debit_moves:
        move_debit(state, posting, debit, state.next_change(), -amount, created)
    if credit_moves:
        move_credit(state, posting, credit, state.next_change(), amount, created)
    return None


def _refuse_losses(
    state: BatchState,
    command: ResolveProblem,
    posting: Posting,
    debit: AccountFigures,
    credit: AccountFigures,
) -> Answer | None:
    """Whoever loses by moved sides has the money, and every sum stays in its range."""
    amount = posting.amount
    gains: dict[str, int] = {}
    sides: list[tuple[str, bool, int]] = []
    if debit.account != posting.debit_account:
        sides += [(posting.debit_account, posting.debit_customer, amount),
                  (debit.account, debit.is_customer, -amount)]  # fmt: skip
    if credit.account != posting.credit_account:
        sides += [(posting.credit_account, posting.credit_customer, -amount),
                  (credit.account, credit.is_customer, amount)]  # fmt: skip
    for name, counted, gain in sides:
        if counted:
            gains[name] = gains.get(name, 0) + gain
    for name, gain in gains.items():
        account = state.snapshot.accounts[name]
        if command.check == "available" and gain < 0 and account.available < -gain:
            return refuse(Decision.insufficient_funds, account, -gain)
        if not state.in_range(account, gain):
            return refuse(Decision.amount_out_of_range, account)
    return None


_ACTIONS: Final[
    dict[ProblemAction, Callable[[BatchState, ResolveProblem, Posting], Answer | None]]
] = {"retry": _retry, "cancel": _cancel, "redirect": _redirect}
