"""What `ni packet` prints: documents of the API as lines and tables.

Nothing is cut on a narrow terminal: ids and statuses keep their place, everything else goes on in
a next line.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Final

from rich.console import RenderableType
from rich.markup import escape
from rich.table import Column, Table

Document = Mapping[str, Any]

_ID_CHARACTERS: Final = 36
_STATUS_CHARACTERS: Final = len("awaiting_acceptance")


def packets(documents: Iterable[Document]) -> Table:
    """Packets, a line each."""
    table = _table("client", "packet", _whole("status"), "postings", "totals", "runs")
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
    runs = _table("run", "at", _whole("status"), "booked", "problems")
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
    """Postings: what moves, its status and texts."""
    table = _table(_id("posting"), "what", _whole("status"))
    for one in documents:
        texts = " ".join(text for text in (one["reference"], one["narrative"]) if text)
        lines = [f"{_movement(one)}, value date {one['value_date']}", texts]
        table.add_row(one["posting_id"], escape("\n".join(filter(None, lines))), one["status"])
    return table


def run(document: Document) -> list[RenderableType]:
    """What a run did: a line, and its problems if it has any."""
    line = (
        f"packet {escape(document['packet'])}, run {document['number']}: {document['status']}, "
        f"{document['booked']} booked, {document['problems_total']} problems"
    )
    if not document["problems"]:
        return [line]
    table = _table(_id("posting"), "problem")
    for one in document["problems"]:
        table.add_row(one["posting_id"], escape(f"{one['code']}: {one['detail']}"))
    more = document["problems_total"] - len(document["problems"])
    return [line, table, *([f"and {more} more: ni packet problems"] if more > 0 else [])]


def problems(documents: Iterable[Document]) -> Table:
    """Problems: what moves in which packet, why the core did not book it, what became of it."""
    table = _table(_id("posting"), "problem")
    for one in documents:
        lines = [
            f"{one['client']} {one['packet']}, run {one['number']}",
            _movement(one),
            f"{one['code']}: {one['detail']}",
        ]
        if one["action"] is not None:
            lines.append(f"{one['action']} by {one['resolved_by']}: {one['reason']}")
        table.add_row(one["posting_id"], escape("\n".join(lines)))
    return table


def resolution(document: Document) -> list[RenderableType]:
    """How a problem was settled."""
    posting, problem = document["posting"], document["problem"]
    return [
        f"posting {posting['posting_id']}: {problem['action']}; it is {posting['status']} now, "
        f"{_movement(posting)}"
    ]


def _table(*columns: str | Column) -> Table:
    return Table(
        *(
            Column(column, overflow="fold") if isinstance(column, str) else column
            for column in columns
        )
    )


def _id(title: str) -> Column:
    return Column(title, no_wrap=True, min_width=_ID_CHARACTERS)


def _whole(title: str) -> Column:
    return Column(title, no_wrap=True, min_width=_STATUS_CHARACTERS)


def _movement(one: Document) -> str:
    sides = f"{one['debit_account']} -> {one['credit_account']}"
    return f"{sides} {one['amount']} {one['currency']}"


def _counts(counts: Mapping[str, int]) -> str:
    shown = (f"{many} {status.replace('_', ' ')}" for status, many in counts.items() if many)
    return ", ".join(shown)


def _totals(totals: Mapping[str, str]) -> str:
    return ", ".join(f"{amount} {currency}" for currency, amount in totals.items())
