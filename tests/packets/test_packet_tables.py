"""What `ni packet` prints on a terminal of 80 columns: ids and statuses stay whole."""

from __future__ import annotations

from io import StringIO
from typing import Any, Final

import pytest
from rich.console import Console, RenderableType

from ni.cli import packet_tables

INSTANT: Final = "2031-03-03T10:00:00.123456Z"
STATUS: Final = "awaiting_acceptance"
ID: Final = "7d09cff5-2c76-4a01-babd-5dfdf1d96cca"
PACKET: Final[dict[str, Any]] = {
    "packet": "salaries-of-the-municipality", "client": "payments-of-companies", "status": STATUS,
    "totals": {"CZK": "123456789.00", "EUR": "123456.00"}, "created_at": INSTANT,
    "counts": {"pending": 0, STATUS: 12_345, "booked": 123_456, "problem": 12, "cancelled": 3},
    "unloads": [
        {"number": 12, "at": INSTANT, "booked": 12_345, "problems": 12, "accepted": False,
         "status": STATUS}
    ],
}  # fmt: skip
POSTING: Final[dict[str, Any]] = {
    "posting_id": ID, "debit_account": "CZ0000002378", "credit_account": "INT-CLEARING",
    "amount": "12345.00", "currency": "CZK", "value_date": "2031-03-03", "reference": "R-1",
    "narrative": "rent", "status": STATUS,
}  # fmt: skip


def _printed(*shown: RenderableType) -> str:
    page = StringIO()
    console = Console(file=page, width=80)
    for one in shown:
        console.print(one)
    return page.getvalue()


@pytest.mark.parametrize(
    ("shown", "whole"),
    [
        pytest.param([packet_tables.packets([PACKET])], [STATUS], id="list"),
        pytest.param(packet_tables.packet(PACKET), [STATUS, INSTANT], id="show"),
        pytest.param([packet_tables.postings([POSTING])], [STATUS, ID], id="postings"),
    ],
)
def test_nothing_that_is_looked_for_is_broken(
    shown: list[RenderableType], whole: list[str]
) -> None:
    page = _printed(*shown)
    rows = [line for line in page.splitlines() if "│" in line]
    for text in whole:
        assert any(text in line for line in rows), page
    assert max(map(len, page.splitlines())) <= 80
