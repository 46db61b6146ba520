"""What has left against what was committed: nothing lost, nothing invented, nothing altered.

The book that the database kept is one side, what came out of the queue the other; the code that
made events is asked nothing.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Mapping
from decimal import Decimal
from pathlib import Path
from typing import Any, Final

import asyncpg

from tests.torture.account_for import UnaccountedError
from tests.torture.event_auditor import Auditor

_HERE: Final = Path(__file__).parent
LEDGER: Final = (_HERE / "event_ledger.sql").read_text()
TOLD: Final = (_HERE / "event_told.sql").read_text()
FAULTS: Final = (_HERE / "event_faults.sql").read_text()
ENVELOPE: Final = {"specversion": "1.0", "source": "urn:ni", "datacontenttype": "application/json"}
MINOR: Final = Decimal("0.01")
"""Of every currency that the load uses."""
TYPES: Final = (
    "ni.hold.placed", "ni.hold.adjusted", "ni.hold.captured", "ni.hold.released",
    "ni.hold.expired", "ni.posting.created", "ni.posting.cancelled", "ni.posting.booked",
    "ni.posting.problem", "ni.packet.unloaded", "ni.day.closed", "ni.day.opened",
    "ni.debit.refused",
)  # fmt: skip
"""All that a bank can tell."""


async def account_for_events(owner: asyncpg.Connection, auditor: Auditor) -> Counter[str]:
    """Compare everything; how many events of each type there were. Raises UnaccountedError."""
    faults = list(auditor.faults[:5])
    faults += [row["fault"] for row in (await owner.fetch(FAULTS))[:5]]
    told = [dict(row) for row in await owner.fetch(TOLD)]
    faults += compared(told, auditor.first)
    if faults:
        raise UnaccountedError("; ".join(faults[:8]))
    return Counter(row["type"] for row in told)


def check_types(kinds: Mapping[str, int]) -> None:
    """Every type was told, and no other. Raises UnaccountedError."""
    if missing := [kind for kind in TYPES if not kinds.get(kind)]:
        raise UnaccountedError(f"never told: {', '.join(missing)}")
    if others := kinds.keys() - set(TYPES):
        raise UnaccountedError(f"told, and no type of NI's: {', '.join(sorted(others))}")


def compared(told: Iterable[Mapping[str, Any]], arrived: Mapping[str, bytes]) -> list[str]:
    """What was committed and did not come, came and was not committed, or came as another."""
    book = {row["id"]: row for row in told}
    lost, invented = book.keys() - arrived.keys(), arrived.keys() - book.keys()
    faults = [f"{identifier}: committed and never came" for identifier in sorted(lost)[:3]]
    faults += [f"{identifier}: came and was never committed" for identifier in sorted(invented)[:3]]
    faults += [f"{row['id']}: written {row['times']} times" for row in told if row["times"] != 1]
    for identifier in book.keys() & arrived.keys():
        wrong = altered(book[identifier], json.loads(arrived[identifier]))
        if wrong:
            faults.append(f"{identifier}: {wrong}")
    return faults


def altered(row: Mapping[str, Any], event: Mapping[str, Any]) -> str:
    """In what an event differs from what was committed; empty: in nothing."""
    data = event["data"]
    seen = {
        "type": event["type"],
        "account": data["account"],
        "subject": event.get("subject"),
        "sequence": data["sequence"],
        "currency": data["currency"],
        "amount": minor(data["amount"]),
        "available_after": minor(data["available_after"]),
        "movement": data["movement_id"],
        "epoch": data["epoch"],
    }
    meant = {name: row["account" if name == "subject" else name] for name in seen}
    if {name: event.get(name) for name in ENVELOPE} != ENVELOPE:
        return f"the envelope is {event}"
    return "" if seen == meant else f"{seen} instead of {meant}"


def minor(amount: str | None) -> int | None:
    """An amount as it is written in events, in minor units."""
    return None if amount is None else int(Decimal(amount) / MINOR)
