"""The decision: a pure function from locked figures and commands to answers and effects.

No I/O, no clock, no floats, no randomness of its own (`Snapshot.salt` brings it). Commands are
decided in order; each sees what the ones before it did. Every test that can refuse stands in the
order that the REST contract gives: accounts exist, kinds fit, currency, state of the hold or
posting, account closed, blocks, exceeds_hold, funds. The first failure answers.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Final

from ni import hold_rules, posting_rules, problem_rules, refused_debits
from ni.batch_state import Answer, BatchState, Effects, NewRequest, Snapshot, StoredRequest
from ni.commands import (
    AdjustHold,
    CancelPosting,
    CaptureHold,
    Command,
    CreateHold,
    CreatePosting,
    ExpireHolds,
    ReleaseHold,
    ResolveProblem,
    accounts_of,
    movement_of,
)
from ni.decisions import NOT_STORED, Decision
from ni.identifiers import bucket_of, bucket_of_id


def _expire(_state: BatchState, _command: ExpireHolds) -> Answer:
    return Answer(Decision.approved, "{}")  # every batch sweeps the accounts that it locks


_RULES: Final[dict[type[Command], Callable[[BatchState, Any], Answer]]] = {
    CreatePosting: posting_rules.create,
    CancelPosting: posting_rules.cancel,
    ResolveProblem: problem_rules.resolve,
    CreateHold: hold_rules.create,
    CaptureHold: hold_rules.capture,
    ReleaseHold: hold_rules.release,
    AdjustHold: hold_rules.adjust,
    ExpireHolds: _expire,
}


def decide(snapshot: Snapshot, commands: Sequence[Command]) -> tuple[list[Answer], Effects]:
    """Decide `commands` in order on `snapshot`, whose records it takes over and changes."""
    state = BatchState(snapshot)
    state.sweep_expired()
    return [_answer(state, command) for command in commands], state.effects


def _answer(state: BatchState, command: Command) -> Answer:
    """The stored answer of the command's key, or a new one, which is kept under it."""
    if command.key is None:
        return _decide(state, command)
    requests = state.snapshot.requests
    bucket = request_bucket(command, state.snapshot.buckets)
    name = (bucket, command.client, command.key)
    stored = requests.get(name)
    if stored is not None:
        if stored.fingerprint != command.fingerprint:
            return Answer(Decision.idempotency_key_reused, "{}")
        return Answer(stored.decision, stored.document, replayed=True)
    answer = _decide(state, command)
    if answer.decision not in NOT_STORED:
        requests[name] = StoredRequest(command.fingerprint, answer.decision, answer.document)
        state.effects.requests.append(NewRequest(*name, command.fingerprint, answer, state.instant))
    return answer


def _decide(state: BatchState, command: Command) -> Answer:
    answer = _RULES[type(command)](state, command)
    if state.snapshot.tell_refused:
        refused_debits.tell(state, command, answer)
    return answer


def request_bucket(command: Command, buckets: int) -> int:
    """The bucket of a command's request row: that of the movement or first account it names.

    An id that names no bucket of this installation lives in bucket 0.
    """
    movement = movement_of(command)
    if movement is not None:
        bucket = bucket_of_id(movement)
        return bucket if bucket < buckets else 0
    return bucket_of(accounts_of(command)[0], buckets)
