"""Compares an answer of the API with what the model says it must be."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any, Final

from tests.model.model import Account, Approved, Hold, Model, Outcome, Posting, Refused, text_of
from tests.support.caller import Answer, assert_problem

REFUSAL_STATUS: Final = {
    "insufficient_funds": 409,
    "account_not_found": 404,
    "account_closed": 409,
    "account_blocked": 409,
    "account_kind_mismatch": 409,
    "currency_mismatch": 409,
    "hold_not_found": 404,
    "hold_captured": 409,
    "hold_released": 409,
    "hold_expired": 409,
    "exceeds_hold": 409,
    "posting_not_found": 404,
    "posting_cancelled": 409,
    "batch_refused": 409,
}
_DRIFT: Final = timedelta(seconds=1)
Document = dict[str, Any]


def check_answer(model: Model, outcome: Outcome, answer: Answer, now: datetime) -> None:
    """The answer of one command; the ids that it brings are kept in the model."""
    if isinstance(outcome, Refused):
        check_refusal(outcome, answer, model)
        return
    assert answer.status == outcome.status, (answer.status, answer.content, outcome)
    assert answer.headers.get("content-type", "").split(";")[0] == "application/json"
    check_document(model, outcome, answer.body, now)


def check_refusal(refused: Refused, answer: Answer, model: Model) -> None:
    """A refusal's status, code, the account that it names and what was available there."""
    assert_problem(answer, refused.code)
    assert answer.status == REFUSAL_STATUS[refused.code], answer.content
    body = answer.body
    if refused.account is not None:
        assert body.get("account") == refused.account, (body, refused)
    if refused.available is None or refused.requested is None:
        return
    currency = model.accounts[str(refused.account)].currency
    assert body["available"] == text_of(refused.available, currency), (body, refused)
    assert body["requested"] == text_of(refused.requested, currency), (body, refused)
    assert body["currency"] == currency


def check_document(model: Model, outcome: Approved, body: Document, now: datetime) -> None:
    """An approval: the hold, the posting, or the posting with its hold inside."""
    if outcome.posting is not None:
        outcome.posting.posting_id = outcome.posting.posting_id or body["posting_id"]
        check_posting(outcome.posting, body)
        check_leg(model, outcome.posting.debit, body["debit"], now)
        check_leg(model, outcome.posting.credit, body["credit"], now)
        if outcome.hold is not None:
            check_hold(outcome.hold, body["hold"], now)
        return
    assert outcome.hold is not None
    outcome.hold.hold_id = outcome.hold.hold_id or body["hold_id"]
    check_hold(outcome.hold, body, now)
    account = outcome.hold.account
    assert body["available_after"] == text_of(model.available(account, now), account.currency)
    assert body["sequence"] == account.sequence, body


def check_leg(model: Model, account: Account, leg: Document, now: datetime) -> None:
    """One side of a posting: figures for a customer account, nulls for the bank's own."""
    if account.is_customer:
        expected = text_of(model.available(account, now), account.currency)
        assert leg == {"available_after": expected, "sequence": account.sequence}, (leg, account)
    else:
        assert leg == {"available_after": None, "sequence": None}, leg


def check_hold(hold: Hold, body: Document, now: datetime) -> None:
    """What a hold says of itself, in any answer."""
    currency = hold.account.currency
    assert body["hold_id"] == hold.hold_id
    assert body["account"] == hold.account.number
    assert body["currency"] == currency
    assert body["amount"] == text_of(hold.amount, currency), (body, hold)
    taken = {text_of(amount, currency) for amount in (hold.captured, hold.captured_in_all)}
    assert body["captured"] in taken, (body, hold)
    assert body["released"] == text_of(hold.released, currency), (body, hold)
    assert body["status"] == hold.status(now), (body, hold)
    remaining = hold.remaining if hold.status(now) == "active" else 0
    assert body["remaining"] == text_of(remaining, currency), (body, hold)
    assert body["kind"] == hold.kind
    assert body["epoch"] == 1
    printed = body["expires_at"]
    assert (None if printed is None else datetime.fromisoformat(printed)) == hold.expires_at
    assert datetime.fromisoformat(body["created_at"]) < now + _DRIFT


def check_posting(posting: Posting, body: Document) -> None:
    """What a posting says of itself, in any answer."""
    assert body["posting_id"] == posting.posting_id
    assert body["debit_account"] == posting.debit.number
    assert body["credit_account"] == posting.credit.number
    assert body["currency"] == posting.debit.currency
    assert body["amount"] == text_of(posting.amount, posting.debit.currency), (body, posting)
    assert body["status"] == posting.status, (body, posting)
    assert body["packet"] == posting.body.get("packet")
    assert body["straight_through"] == posting.body.get("straight_through", False)
    assert body["reference"] == posting.body.get("reference")
    assert body["link_id"] == posting.body.get("link_id")


def check_balance(model: Model, account: Account, answer: Answer, now: datetime) -> None:
    """`GET balance` against the model, and the equation inside the answer."""
    assert answer.status == 200, answer.content
    body = answer.body
    held = model.held(account, now) if account.is_customer else 0
    expected = {
        "account": account.number,
        "kind": account.kind,
        "currency": account.currency,
        "booked": text_of(account.balance, account.currency),
        "pending": text_of(account.pending, account.currency),
        "held": text_of(held, account.currency),
        "credit_limit": text_of(account.limit, account.currency),
        "status": "closed" if account.closed else "active",
        "available": None,
    }
    if account.is_customer:
        expected["available"] = text_of(model.available(account, now), account.currency)
        highest = account.sequence + len(model.unswept(account, now))
        assert account.sequence <= body["sequence"] <= highest, (body, account)
    else:
        assert body["sequence"] is None
    assert {name: body[name] for name in expected} == expected
    assert {block["side"] for block in body["blocks"]} == account.blocked
    assert (body["mode"], body["epoch"]) == ("day", 1)
