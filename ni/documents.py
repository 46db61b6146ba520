"""The JSON documents of the REST contract for a hold, a posting and the facts of a refusal.

Written once, at the decision, and kept with the request, so that a replay is the same bytes.
They are templates, not serialised dictionaries: this runs for every decision.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from functools import lru_cache
from json.encoder import encode_basestring
from typing import Any, Final
from uuid import UUID

from ni.money import format_amount
from ni.movements import Hold, Posting, Resolution

_NULL: Final = "null"


def _text(value: str | UUID | None) -> str:
    return _NULL if value is None else encode_basestring(str(value))


def _money(minor: int | None, currency: str) -> str:
    return _NULL if minor is None else f'"{format_amount(minor, currency)}"'


def rfc3339(instant: datetime) -> str:
    """An instant in UTC with microseconds: 2026-11-21T10:00:00.123456Z."""
    i = instant
    second = _second(i.year, i.month, i.day, i.hour, i.minute, i.second)
    return f"{second}.{i.microsecond:06d}Z"


@lru_cache(maxsize=64)  # the instants of a batch share theirs
def _second(year: int, month: int, day: int, hour: int, minute: int, second: int) -> str:
    return f"{year:04d}-{month:02d}-{day:02d}T{hour:02d}:{minute:02d}:{second:02d}"


def _instant(value: datetime | None) -> str:
    return _NULL if value is None else f'"{rfc3339(value)}"'


def _number(value: int | None) -> str:
    return _NULL if value is None else str(value)


def posting_document(posting: Posting, hold: Hold | None = None) -> str:
    """A posting as every door shows it; with `hold`, the posting of its capture."""
    p = posting
    money = p.currency
    tail = "" if hold is None else f',"hold":{hold_document(hold)}'
    created = rfc3339(p.created_at)
    valid = created if p.valid_from is p.created_at else rfc3339(p.valid_from)
    return (
        f'{{"posting_id":"{p.posting_id}","type":"{p.type}"'
        f',"debit_account":"{p.debit_account}","credit_account":"{p.credit_account}"'
        f',"amount":"{format_amount(p.amount, money)}","currency":"{money}"'
        f',"packet":{_text(p.packet)}'
        f',"straight_through":{"true" if p.straight_through else "false"}'
        f',"status":"{p.status}","check":"{p.check_mode}","value_date":"{p.value_date}"'
        f',"valid_from":"{valid}","link_id":{_text(p.link_id)}'
        f',"reference":{_text(p.reference)},"narrative":{_text(p.narrative)}'
        f',"actor":{_text(p.actor)}'
        f',"debit":{{"available_after":{_money(p.debit_available_after, money)}'
        f',"sequence":{_number(p.debit_sequence)}}}'
        f',"credit":{{"available_after":{_money(p.credit_available_after, money)}'
        f',"sequence":{_number(p.credit_sequence)}}}'
        f',"epoch":{p.epoch},"created_at":"{created}"{tail}}}'
    )


def hold_document(hold: Hold) -> str:
    """A hold as every door shows it."""
    h = hold
    money = h.currency
    original = (
        _NULL
        if h.original_amount is None or h.original_currency is None
        else f'"{format_amount(h.original_amount, h.original_currency)}"'
    )
    return (
        f'{{"hold_id":"{h.hold_id}","account":"{h.account}","currency":"{money}"'
        f',"amount":"{format_amount(h.amount, money)}"'
        f',"captured":"{format_amount(h.captured, money)}"'
        f',"released":"{format_amount(h.released, money)}"'
        f',"remaining":"{format_amount(h.remaining if h.status == "active" else 0, money)}"'
        f',"status":"{h.status}","kind":"{h.kind}","expires_at":{_instant(h.expires_at)}'
        f',"reference":{_text(h.reference)},"narrative":{_text(h.narrative)}'
        f',"actor":{_text(h.actor)},"original_amount":{original}'
        f',"original_currency":{_text(h.original_currency)}'
        f',"available_after":"{format_amount(h.available_after, money)}"'
        f',"sequence":{h.sequence},"epoch":{h.epoch},"created_at":"{rfc3339(h.created_at)}"}}'
    )


def refusal_document(
    account: str | None = None,
    currency: str | None = None,
    available: int | None = None,
    requested: int | None = None,
    detail: str | None = None,
) -> str:
    """What helps the caller of a refused request; the door adds number, title and status."""
    parts = []
    if account is not None:
        parts.append(f'"account":{_text(account)}')
    if currency is not None and available is not None and requested is not None:
        parts.append(f'"available":{_money(available, currency)}')
        parts.append(f'"requested":{_money(requested, currency)}')
        parts.append(f'"currency":"{currency}"')
    if detail is not None:
        parts.append(f'"detail":{_text(detail)}')
    return "{" + ",".join(parts) + "}"


def balance_document(account: str, row: Mapping[str, Any]) -> str:
    """An account's balance from a row of `ni.balance_v1`. Only customers have an available."""
    currency = row["o_currency"]
    base, pending, held = row["o_base"], int(row["o_pending"]), row["o_held"]
    is_customer = row["o_kind"] == "customer"
    available = base + row["o_credit_limit"] + pending - held if is_customer else None
    return (
        f'{{"account":"{account}","kind":"{row["o_kind"]}","currency":"{currency}"'
        f',"available":{_money(available, currency)},"booked":{_money(base, currency)}'
        f',"pending":{_money(pending, currency)},"held":{_money(held, currency)}'
        f',"credit_limit":{_money(row["o_credit_limit"], currency)}'
        f',"status":"{row["o_status"]}","blocks":[{",".join(map(_block, row["o_blocks"] or ()))}]'
        f',"mode":"{row["o_mode"]}","business_date":"{row["o_business_date"]}"'
        f',"epoch":{row["o_epoch"]}'
        f',"sequence":{_number(row["o_sequence"] if is_customer else None)}'
        f',"as_of":"{rfc3339(row["o_as_of"])}"}}'
    )


def _block(row: tuple[str, str, datetime, datetime | None]) -> str:
    side, legal_reference, valid_from, valid_to = row
    return (
        f'{{"side":"{side}","legal_reference":{_text(legal_reference)}'
        f',"from":{_instant(valid_from)},"to":{_instant(valid_to)}}}'
    )


def unload_document(
    run: Mapping[str, Any], problems: Sequence[Mapping[str, Any]], problems_total: int
) -> str:
    """What a run of a packet did; `problems` may be the first of many."""
    shown = ",".join(
        f'{{"posting_id":"{p["posting_id"]}","code":"{p["code"]}","detail":{_text(p["detail"])}}}'
        for p in problems
    )
    return (
        f'{{"packet":"{run["packet"]}","number":{run["number"]},"status":"{run["status"]}"'
        f',"booked":{run["booked"]},"problems":[{shown}],"problems_total":{problems_total}}}'
    )


def problem_resolution_document(posting: Posting, resolution: Resolution) -> str:
    """A settled problem: the posting as it is now, and how, why and by whom it was settled."""
    r = resolution
    return (
        f'{{"posting":{posting_document(posting)}'
        f',"problem":{{"posting_id":"{r.posting_id}","action":"{r.action}"'
        f',"reason":{_text(r.reason)},"resolved_by":{_text(r.resolved_by)}'
        f',"actor":{_text(r.actor)},"resolved_at":"{rfc3339(r.resolved_at)}"}}}}'
    )


def packet_status(counts: Mapping[str, int]) -> str:
    """What a packet needs: `open`, `awaiting_acceptance`, `problems`, or `booked`: nothing."""
    for status, shown in (
        ("pending", "open"),
        ("awaiting_acceptance", "awaiting_acceptance"),
        ("problem", "problems"),
    ):
        if counts.get(status):
            return shown
    return "booked"


def packet_document(
    client: str,
    packet: str,
    counts: Mapping[str, int],
    totals: Mapping[str, int],
    runs: Sequence[Mapping[str, Any]],
    created_at: datetime,
) -> str:
    """A packet: its totals by currency, its postings by status, its newest runs."""
    statuses = ("pending", "awaiting_acceptance", "booked", "problem", "cancelled")
    shown_counts = ",".join(f'"{status}":{counts.get(status, 0)}' for status in statuses)
    shown_totals = ",".join(f'"{c}":{_money(totals[c], c)}' for c in sorted(totals))
    unloads = ",".join(
        f'{{"number":{run["number"]},"at":"{rfc3339(run["verdict_at"])}"'
        f',"booked":{run["booked"]},"problems":{run["problems"]}'
        f',"accepted":{"true" if run["accepted"] else "false"},"status":"{run["status"]}"}}'
        for run in runs
    )
    return (
        f'{{"packet":"{packet}","client":"{client}","status":"{packet_status(counts)}"'
        f',"totals":{{{shown_totals}}},"counts":{{{shown_counts}}},"unloads":[{unloads}]'
        f',"created_at":"{rfc3339(created_at)}"}}'
    )


def problem_document(row: Mapping[str, Any]) -> str:
    """A problem: the posting that the core could not book, why, and how it was settled."""
    status = "open" if row["resolved_at"] is None else "resolved"
    return (
        f'{{"posting_id":"{row["posting_id"]}","client":"{row["client"]}"'
        f',"packet":"{row["packet"]}","number":{row["number"]},"status":"{status}"'
        f',"code":"{row["code"]}","detail":{_text(row["detail"])}'
        f',"debit_account":"{row["debit_account"]}","credit_account":"{row["credit_account"]}"'
        f',"amount":{_money(row["amount"], row["currency"])},"currency":"{row["currency"]}"'
        f',"raised_at":"{rfc3339(row["raised_at"])}","resolved_at":{_instant(row["resolved_at"])}'
        f',"action":{_text(row["action"])},"reason":{_text(row["reason"])}'
        f',"resolved_by":{_text(row["resolved_by"])},"actor":{_text(row["actor"])}}}'
    )
