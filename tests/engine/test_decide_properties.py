"""The pure decision, without any database: what must hold for every batch that anybody sends."""

from __future__ import annotations

import copy
from collections import defaultdict
from datetime import date
from typing import Any, Final
from uuid import UUID

from hypothesis import given, settings
from hypothesis import strategies as st

from ni.batch_state import Answer, Effects, Snapshot
from ni.commands import CancelPosting, Check, Command, CreateHold, CreatePosting, ReleaseHold
from ni.decide import decide, request_bucket
from ni.decisions import NOT_STORED, Decision
from ni.identifiers import bucket_of_id
from ni.money import SUM_LIMIT_MINOR
from ni.movements import AccountFigures

INSTANT_US: Final = 1_700_000_000_000_000
CUSTOMERS: Final = ("A", "B", "C")
INTERNAL: Final = "I"
BUCKETS: Final = 4

amounts = st.one_of(st.integers(1, 200), st.integers(10**14, 10**15 - 1))
names = st.sampled_from((*CUSTOMERS, INTERNAL, "UNKNOWN"))
checks: st.SearchStrategy[Check] = st.sampled_from(("available", "available", "none"))


@st.composite
def accounts(draw: st.DrawFn) -> dict[str, AccountFigures]:
    """Three customers with figures of every size, the bank's own account and an unknown one."""
    found = {}
    for name in CUSTOMERS:
        held = draw(st.integers(0, 100))
        found[name] = AccountFigures(
            account=name, kind="customer", currency="CZK",
            status=draw(st.sampled_from(("active", "active", "active", "closed"))),
            base=draw(st.one_of(st.integers(-50, 500), st.just(SUM_LIMIT_MINOR - 100))),
            credit_limit=draw(st.integers(0, 100)),
            debit_blocked=draw(st.sampled_from((None, False, False, True))),
            credit_blocked=draw(st.sampled_from((None, False, False, True))),
            applied=draw(st.integers(-50, 50)), era=0, created=draw(st.integers(-50, 50)),
            held=held, sequence=draw(st.integers(0, 300)), next_expiry=None,
            following_expiry=None, expired=0,
        )  # fmt: skip
    found[INTERNAL] = AccountFigures(
        INTERNAL, "internal", "CZK", "active", 0, 0, None, None, 0, None, 0, 0, 0, None, None, 0
    )
    found["UNKNOWN"] = AccountFigures(
        "UNKNOWN", None, "", "", 0, 0, None, None, 0, None, 0, 0, 0, None, None, 0
    )
    return found


@st.composite
def command(draw: st.DrawFn) -> Command:
    """A posting or a hold; few keys, so that they repeat, and two fingerprints."""
    key = f"k{draw(st.integers(0, 25))}"
    common: dict[str, Any] = {
        "client": "c",
        "key": key,
        "fingerprint": draw(st.sampled_from((b"1", b"1", b"2"))),
    }
    if draw(st.booleans()):
        debit, credit = draw(st.lists(names, min_size=2, max_size=2, unique=True))
        return CreatePosting(
            **common, debit_account=debit, credit_account=credit, amount=draw(amounts),
            currency="CZK", packet="p", straight_through=False, check=draw(checks),
        )  # fmt: skip
    return CreateHold(
        **common, account=draw(names), amount=draw(amounts), currency="CZK", check=draw(checks)
    )


batches = st.lists(command(), min_size=1, max_size=30)


def snapshot(figures: dict[str, AccountFigures], epoch: int = 1) -> Snapshot:
    """A snapshot of copies, for a decision takes it over."""
    return Snapshot(
        instant_us=INSTANT_US, epoch=epoch, business_date=date(2026, 1, 1),
        next_business_date=date(2026, 1, 2), buckets=BUCKETS, salt=7,
        accounts=copy.deepcopy(figures),
    )  # fmt: skip


def run(figures: dict[str, AccountFigures], batch: list[Command]) -> tuple[list[Answer], Effects]:
    """Decide `batch` on `figures`, which stay as they are."""
    return decide(snapshot(figures), batch)


@given(accounts(), batches)
@settings(max_examples=300, deadline=None)
def test_money_is_neither_made_nor_lost(
    figures: dict[str, AccountFigures], batch: list[Command]
) -> None:
    _, effects = run(figures, batch)
    moved: defaultdict[str, int] = defaultdict(int)
    for posting in effects.new_postings:
        moved[posting.debit_account] -= posting.amount
        moved[posting.credit_account] += posting.amount
    locked: defaultdict[str, int] = defaultdict(int)
    for hold in effects.new_holds:
        locked[hold.account] += hold.amount
    for name in CUSTOMERS:
        after = effects.accounts[name][0] if name in effects.accounts else figures[name]
        assert after.created - figures[name].created == moved[name]
        assert after.held - figures[name].held == locked[name]
    assert sum(moved.values()) == 0


def events_of(effects: Effects) -> list[tuple[str, int, UUID]]:
    """Account, sequence and id of each event, those of new postings' creation among them."""
    told = [(event.account, event.sequence, event.event_id) for event in effects.events]
    for posting in effects.new_postings:
        for account, sequence, event_id in (
            (posting.debit_account, posting.debit_sequence, posting.debit_event_id),
            (posting.credit_account, posting.credit_sequence, posting.credit_event_id),
        ):
            if event_id is not None:
                assert sequence is not None
                told.append((account, sequence, event_id))
    return sorted(told)


@given(accounts(), batches)
@settings(max_examples=300, deadline=None)
def test_each_change_is_told_once_and_in_order(
    figures: dict[str, AccountFigures], batch: list[Command]
) -> None:
    _, effects = run(figures, batch)
    told: defaultdict[str, list[int]] = defaultdict(list)
    events = events_of(effects)
    for account, sequence, _ in events:
        told[account].append(sequence)
    for name, sequences in told.items():
        first = figures[name].sequence + 1
        assert sequences == list(range(first, first + len(sequences)))
        assert effects.accounts[name][0].sequence == sequences[-1]
    for name in told:
        numbers = [event_id.int for account, _, event_id in events if account == name]
        assert numbers == sorted(numbers)
    ids = [event_id for _, _, event_id in events]
    ids += [posting.posting_id for posting in effects.new_postings]
    assert len(ids) == len(set(ids))
    assert all(bucket_of_id(identifier) < BUCKETS for identifier in ids)


@given(accounts(), batches)
@settings(max_examples=300, deadline=None)
def test_a_checked_command_never_takes_what_is_not_there(
    figures: dict[str, AccountFigures], batch: list[Command]
) -> None:
    _, effects = run(figures, batch)
    for posting in effects.new_postings:
        if posting.check_mode == "available" and posting.debit_available_after is not None:
            assert posting.debit_available_after >= 0
    for account, _ in effects.accounts.values():
        assert abs(account.created) <= SUM_LIMIT_MINOR
        assert account.held <= SUM_LIMIT_MINOR


@given(accounts(), batches)
@settings(max_examples=300, deadline=None)
def test_the_same_question_has_the_same_answer(
    figures: dict[str, AccountFigures], batch: list[Command]
) -> None:
    first, effects = run(figures, batch)
    second, _ = run(figures, batch)
    assert [(a.decision, a.document) for a in first] == [(a.decision, a.document) for a in second]
    kept = {(request.bucket, request.key): request for request in effects.requests}
    for asked, answer in zip(batch, first, strict=True):
        if answer.replayed:
            assert asked.key is not None
            place = (request_bucket(asked, BUCKETS), asked.key)
            assert answer.document == kept[place].answer.document
    assert len(kept) == len(effects.requests), "one answer a key of a bucket"
    assert not {request.answer.decision for request in effects.requests} & NOT_STORED


@given(accounts(), batches)
@settings(max_examples=300, deadline=None)
def test_what_is_refused_leaves_no_trace(
    figures: dict[str, AccountFigures], batch: list[Command]
) -> None:
    answers, effects = run(figures, batch)
    new = [a for a in answers if a.decision is Decision.approved and not a.replayed]
    assert len(new) == len(effects.new_postings) + len(effects.new_holds)
    if not new:
        assert not effects.accounts
        assert not events_of(effects)


@given(accounts(), batches)
@settings(max_examples=200, deadline=None)
def test_taking_everything_back_restores_the_figures(
    figures: dict[str, AccountFigures], batch: list[Command]
) -> None:
    _, effects = run(figures, batch)
    again = snapshot({**figures, **{name: a for name, (a, _) in effects.accounts.items()}})
    again.holds = {hold.hold_id: hold for hold in effects.new_holds}
    again.postings = {posting.posting_id: posting for posting in effects.new_postings}
    common: dict[str, Any] = {"client": "c", "key": None, "fingerprint": b""}
    undo: list[Command] = [
        CancelPosting(**common, posting_id=posting.posting_id, reason="x", check="none")
        for posting in reversed(effects.new_postings)
    ]
    undo += [ReleaseHold(**common, hold_id=hold.hold_id, amount=None) for hold in effects.new_holds]
    answers, undone = decide(again, undo)
    refused = {answer.decision for answer in answers} - {Decision.approved}
    assert refused <= {Decision.amount_out_of_range}
    if not refused:
        for name, (account, _) in undone.accounts.items():
            assert (account.created, account.held) == (figures[name].created, figures[name].held)
