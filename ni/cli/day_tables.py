"""What `ni day` prints: the document of the day as lines and tables."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rich.console import RenderableType
from rich.markup import escape
from rich.table import Column, Table

Document = Mapping[str, Any]


def day(document: Document) -> list[RenderableType]:
    """How the day stands; then what needs somebody's eyes, if anything does."""
    head = Table(show_header=False)
    head.add_row("mode", f"{document['mode']}, epoch {document['epoch']}")
    head.add_row("since", document["since"])
    head.add_row("business date", _date(document["business_date"]))
    head.add_row("next business date", _date(document["next_business_date"]))
    head.add_row("night copy", _copy(document["night_copy"]))
    head.add_row("unloading now", str(document["unloading"]))
    return [
        head,
        *_unfinished(document["unfinished_packets"]),
        *_below(document["accounts_below_limit"]),
    ]


def _date(date: str | None) -> str:
    return date or "the core shows none"


def _copy(copy: Document) -> str:
    since = f", since {copy['copied_at']}" if copy["copied_at"] else ""
    return f"exact{since}" if copy["exact"] else f"lacks {copy['changed_keys']} changed keys"


def _unfinished(packets: list[Document]) -> list[RenderableType]:
    if not packets:
        return []
    table = Table("client", Column("unfinished packet", overflow="fold"), "status")
    for one in packets:
        name = "(straight through, no packet yet)" if one["packet"] is None else one["packet"]
        table.add_row(escape(one["client"]), escape(name), one["status"])
    return [table]


def _below(accounts: list[Document]) -> list[RenderableType]:
    if not accounts:
        return []
    table = Table(Column("account below its limit", overflow="fold"), "available", "credit limit")
    for one in accounts:
        table.add_row(escape(one["account"]), one["available"], one["credit_limit"])
    return [table]
