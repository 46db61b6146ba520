"""What `ni packet` prints: documents of the API as lines and tables."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from rich.console import RenderableType
from rich.markup import escape
from rich.table import Column, Table

Document = Mapping[str, Any]


def packets(documents: Iterable[Document]) -> Table:
    """Packets, a line each."""
    table = Table("client", "packet", "status", "postings", "totals", "runs")
    for one in documents:
        table.add_row(
            escape(one["client"]),
            escape(one["packet"]),
            one["status"],
            _counts(one["counts"]),
            _totals(one["totals"]),
            str(len(one["unloads"])),
        )
    return table


def packet(document: Document) -> list[RenderableType]:
    """A packet: its figures, then its runs."""
    head = Table(show_header=False)
    head.add_row("packet", f"{escape(document['packet'])} of {escape(document['client'])}")
    head.add_row("status", document["status"])
    head.add_row("postings", _counts(document["counts"]))
    head.add_row("totals", _totals(document["totals"]))
    head.add_row("since", document["created_at"])
    if not document["unloads"]:
        return [head]
    runs = Table("run", "at", "status", "booked", "problems")
    for run in document["unloads"]:
        runs.add_row(
            str(run["number"]),
            run["at"],
            run["status"],
            str(run["booked"]),
            str(run["problems"]),
        )
    return [head, runs]


def postings(documents: Iterable[Document]) -> Table:
    """Postings, a line each."""
    table = Table("posting", "status", "debit", "credit", _right("amount"), "value date", "text")
    for one in documents:
        texts = (one["reference"], one["narrative"])
        table.add_row(
            one["posting_id"],
            one["status"],
            one["debit_account"],
            one["credit_account"],
            f"{one['amount']} {one['currency']}",
            one["value_date"],
            escape(" ".join(text for text in texts if text)),
        )
    return table


def run(document: Document) -> list[RenderableType]:
    """What a run did: a line, and its problems if it has any."""
    line = (
        f"packet {escape(document['packet'])}, run {document['number']}: {document['status']}, "
        f"{document['booked']} booked, {document['problems_total']} problems"
    )
    if not document["problems"]:
        return [line]
    table = Table("posting", "problem", "detail")
    for one in document["problems"]:
        table.add_row(one["posting_id"], one["code"], escape(one["detail"]))
    more = document["problems_total"] - len(document["problems"])
    return [line, table, *([f"and {more} more: ni packet problems"] if more > 0 else [])]


def problems(documents: Iterable[Document]) -> Table:
    """Problems, a line each."""
    table = Table(
        "posting", "client", "packet", "problem", "debit", "credit", _right("amount"), "resolved"
    )
    for one in documents:
        resolved = "" if one["action"] is None else f"{one['action']} by {one['resolved_by']}"
        table.add_row(
            one["posting_id"],
            escape(one["client"]),
            f"{escape(one['packet'])}, run {one['number']}",
            f"{one['code']}: {escape(one['detail'])}",
            one["debit_account"],
            one["credit_account"],
            f"{one['amount']} {one['currency']}",
            escape(": ".join(filter(None, (resolved, one["reason"])))),
        )
    return table


def resolution(document: Document) -> list[RenderableType]:
    """How a problem was settled."""
    posting, problem = document["posting"], document["problem"]
    return [
        f"posting {posting['posting_id']}: {problem['action']}; it is {posting['status']} now, "
        f"{posting['debit_account']} -> {posting['credit_account']} "
        f"{posting['amount']} {posting['currency']}"
    ]


def _right(title: str) -> Column:
    return Column(title, justify="right")


def _counts(counts: Mapping[str, int]) -> str:
    shown = (f"{many} {status.replace('_', ' ')}" for status, many in counts.items() if many)
    return ", ".join(shown)


def _totals(totals: Mapping[str, str]) -> str:
    return ", ".join(f"{amount} {currency}" for currency, amount in totals.items())
