"""Writing what a batch of decisions changes: one set-based call for each bucket.

The tuples below are in the columns' order of the types in migrations/0001_schema.sql; events and
refusals in that of those in migrations/0005_events.sql.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field
from operator import attrgetter
from typing import TYPE_CHECKING, Any, Final
from uuid import UUID

from ni.batch_state import Effects, PostingChange
from ni.identifiers import bucket_of, bucket_of_id
from ni.movements import ERA_SHIFT, Posting

if TYPE_CHECKING:
    from ni.database import Session

WRITE: Final = "SELECT ni.write_v2($1, $2, $3, $4, $5, $6, $7, $8, $9)"
TELL_REFUSED: Final = "SELECT ni.tell_refusals_v1($1, $2)"

_NEW_HOLD: Final = attrgetter(
    "hold_id", "client", "account", "currency", "amount", "captured", "released", "status", "kind",
    "expires_at", "reference", "narrative", "actor", "original_amount", "original_currency",
    "legal_reference", "available_after", "sequence", "epoch", "created_at",
)  # fmt: skip
_HOLD_CHANGE: Final = attrgetter(
    "status", "amount", "captured", "released", "expires_at", "available_after", "sequence",
    "epoch", "changed_at",
)  # fmt: skip
_NEW_POSTING: Final = attrgetter(
    "client", "type", "debit_account", "credit_account", "debit_customer", "credit_customer",
    "amount", "currency", "packet", "straight_through", "check_mode", "value_date", "valid_from",
    "link_id", "hold_id", "reference", "narrative", "actor", "legal_reference",
    "debit_available_after", "debit_sequence", "credit_available_after", "credit_sequence",
    "epoch", "created_at",
)  # fmt: skip
_POSTING_CHANGE: Final = attrgetter(
    "status", "debit_account", "credit_account", "debit_customer", "credit_customer",
    "debit_redirected", "credit_redirected", "debit_available_after", "debit_sequence",
    "credit_available_after", "credit_sequence", "epoch", "changed_at", "change_reason",
    "change_actor",
)  # fmt: skip
_RESOLUTION: Final = attrgetter(
    "posting_id", "resolved_at", "action", "reason", "resolved_by", "actor",
)  # fmt: skip
_EVENT: Final = attrgetter(
    "event_id", "type", "account", "sequence", "epoch", "client", "movement_id", "currency",
    "amount", "direction", "available_after", "reference", "narrative", "hold_id",
    "hold_remaining",
)  # fmt: skip
_REFUSED: Final = attrgetter(
    "event_id", "account", "epoch", "client", "movement_id", "currency", "amount",
    "available_after", "reference", "narrative", "reason",
)  # fmt: skip


@dataclass(slots=True)
class BucketRows:
    """The rows of one bucket, in the order of the parameters of `ni.write_v2`."""

    states: list[tuple[Any, ...]] = field(default_factory=list)
    holds: list[tuple[Any, ...]] = field(default_factory=list)
    hold_changes: list[tuple[Any, ...]] = field(default_factory=list)
    postings: list[tuple[Any, ...]] = field(default_factory=list)
    posting_changes: list[tuple[Any, ...]] = field(default_factory=list)
    resolutions: list[tuple[Any, ...]] = field(default_factory=list)
    requests: list[tuple[Any, ...]] = field(default_factory=list)
    events: list[tuple[Any, ...]] = field(default_factory=list)


async def write(connection: Session, effects: Effects, buckets: int) -> None:
    """Write `effects`, bucket by bucket, inside the caller's transaction."""
    for bucket, r in sorted(_rows(effects, buckets).items()):
        await connection.execute(
            WRITE,
            bucket,
            r.states,
            r.holds,
            r.hold_changes,
            r.postings,
            r.posting_changes,
            r.resolutions,
            r.requests,
            r.events,
        )
    refused: defaultdict[int, list[tuple[Any, ...]]] = defaultdict(list)
    for event in effects.refused:
        refused[bucket_of(event.account, buckets)].append(_REFUSED(event))
    for bucket, events in sorted(refused.items()):
        await connection.execute(TELL_REFUSED, bucket, events)


def _rows(effects: Effects, buckets: int) -> dict[int, BucketRows]:
    rows: defaultdict[int, BucketRows] = defaultdict(BucketRows)
    _add_states(rows, effects, buckets)
    for hold in effects.new_holds:
        rows[bucket_of_id(hold.hold_id)].holds.append(_NEW_HOLD(hold))
    for hold_id, (status, hold) in effects.changed_holds.items():
        change = (hold_id, status, *_HOLD_CHANGE(hold))
        rows[bucket_of_id(hold_id)].hold_changes.append(change)
    for posting in effects.new_postings:
        _add_posting(rows, posting, buckets)
    for posting_change in effects.changed_postings.values():
        _add_posting_change(rows, posting_change, buckets)
    for resolution in effects.resolutions:
        row = _RESOLUTION(resolution)
        rows[bucket_of_id(resolution.posting_id)].resolutions.append(row)
    for request in effects.requests:
        answer = request.answer
        rows[request.bucket].requests.append(
            (
                request.client,
                request.key,
                request.fingerprint,
                int(answer.decision),
                answer.document,
                request.decided_at,
            )
        )
    for event in effects.events:
        rows[bucket_of(event.account, buckets)].events.append(_EVENT(event))
    return rows


def _add_states(rows: dict[int, BucketRows], effects: Effects, buckets: int) -> None:
    for account, (figures, changed_at) in effects.accounts.items():
        rows[bucket_of(account, buckets)].states.append(
            (
                account,
                figures.sequence >> ERA_SHIFT,
                figures.created,
                figures.held,
                figures.sequence,
                changed_at,
                figures.next_expiry,
            )
        )


def _add_posting(rows: dict[int, BucketRows], posting: Posting, buckets: int) -> None:
    home = bucket_of_id(posting.posting_id)
    row = _NEW_POSTING(posting)
    if buckets == 1:
        events = (posting.debit_event_id, posting.credit_event_id)
        rows[home].postings.append((posting.posting_id, True, *row, *events))
        return
    for bucket in _buckets_of(home, posting.customers, buckets):
        events = _events_of(posting, bucket)
        rows[bucket].postings.append((posting.posting_id, bucket == home, *row, *events))


def _add_posting_change(rows: dict[int, BucketRows], change: PostingChange, buckets: int) -> None:
    """Change the posting's rows; one that was redirected may gain or leave a bucket."""
    posting = change.posting
    home = bucket_of_id(posting.posting_id)
    before = _buckets_of(home, change.customers_before, buckets)
    after = _buckets_of(home, posting.customers, buckets)
    status, *rest = _POSTING_CHANGE(posting)
    for bucket in before:
        seen = status if bucket in after else "cancelled"
        row = (posting.posting_id, change.from_status, seen, *rest, None)
        rows[bucket].posting_changes.append(row)
    for bucket in after - before:
        entering = (posting.posting_id, False, *_NEW_POSTING(posting), None, None)
        row = (posting.posting_id, change.from_status, status, *rest, entering)
        rows[bucket].posting_changes.append(row)


def _events_of(posting: Posting, bucket: int) -> tuple[UUID | None, UUID | None]:
    """The events of a posting's creation that live in `bucket`, where their account does."""
    debit, credit = posting.debit_event_id, posting.credit_event_id
    return (
        debit if debit and bucket_of_id(debit) == bucket else None,
        credit if credit and bucket_of_id(credit) == bucket else None,
    )


def _buckets_of(home: int, customers: tuple[str, ...], buckets: int) -> set[int]:
    """The bucket where a posting is at home and those of its customers' movements."""
    return {home} if buckets == 1 else {home, *(bucket_of(name, buckets) for name in customers)}
