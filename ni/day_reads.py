"""How the day stands, as every door shows it: from what NI keeps, whatever the core does."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any, Final

from ni.database import Mode
from ni.day_switch import NAMES_LOOKED_AT_MAX, PACKETS_SHOWN_MAX
from ni.documents import rfc3339
from ni.errors import Unavailable
from ni.money import format_amount

if TYPE_CHECKING:
    from ni.reads import Reads

CORE_DATES: Final = "SELECT * FROM ni.core_dates_v1($1)"
FACTS: Final = "SELECT * FROM ni.day_facts_v1($1, $2, $3, $4)"
STATE: Final = "SELECT * FROM ni.day_state_v1($1, $2)"
CORE_PATIENCE_S: Final = 1


@dataclass(slots=True, frozen=True)
class DayState:
    """The mode and since when; `now` by the same clock. `made`: to which this key has switched."""

    mode: Mode
    epoch: int
    since: datetime
    now: datetime
    made: Mode | None


@dataclass(slots=True, frozen=True)
class Viewer:
    """Who looks: `client` sees its own packets alone (None: all), and `accounts` or none."""

    client: str | None = None
    accounts: bool = True


EVERYTHING: Final = Viewer()


class DayReads:
    """Reads the day through the night's pool of `Reads`, whatever the mode.

    By day nobody else uses that one, and nothing in it waits for the core: so the day can be told
    while every read of a balance waits.
    """

    def __init__(self, reads: Reads) -> None:
        self._reads = reads

    async def document(self, viewer: Viewer = EVERYTHING) -> str:
        """The document of the business day as `viewer` may see it. Raises Unavailable."""
        facts = await self.facts(viewer)
        if facts["o_mode"] == "day" and facts["o_business_date"] is None:
            facts |= await self._core_dates()
        return day_document(facts)

    async def facts(self, viewer: Viewer = EVERYTHING) -> dict[str, Any]:
        """What is shown of the day. Raises Unavailable."""
        [row] = await self._reads.fetch(
            FACTS, viewer.client, viewer.accounts, NAMES_LOOKED_AT_MAX, PACKETS_SHOWN_MAX,
            by="night",
        )  # fmt: skip
        return dict(row)

    async def state(self, client: str = "", key: str | None = None) -> DayState:
        """The mode, without the gate: for switches, not for money. Raises Unavailable."""
        [row] = await self._reads.fetch(STATE, client, key, by="night")
        return DayState(*row)

    async def _core_dates(self) -> dict[str, Any]:
        """The core's own dates, as far as they are to be had soon."""
        try:
            async with asyncio.timeout(CORE_PATIENCE_S):
                row = await self._reads.by_mode(
                    lambda session, mode: session.fetchrow(CORE_DATES, mode)
                )
        except (TimeoutError, Unavailable):
            return {}
        if row["o_mode"] != "day":
            return {}
        return {name: row[name] for name in ("o_business_date", "o_next_business_date")}


def day_document(facts: Mapping[str, Any]) -> str:
    """The document of the REST contract; dates are null while the core shows none."""
    copied_at = facts["o_copied_at"]
    return json.dumps(
        {
            "mode": facts["o_mode"],
            "business_date": _date(facts["o_business_date"]),
            "next_business_date": _date(facts["o_next_business_date"]),
            "epoch": facts["o_epoch"],
            "since": rfc3339(facts["o_since"]),
            "night_copy": {
                "exact": facts["o_exact"],
                "changed_keys": facts["o_changed_keys"],
                "copied_at": None if copied_at is None else rfc3339(copied_at),
            },
            "unloading": facts["o_runs"],
            "unfinished_packets": json.loads(facts["o_unfinished"]),
            "accounts_below_limit": [
                _below(account) for account in json.loads(facts["o_below"])
            ],
        },
        separators=(",", ":"),
    )  # fmt: skip


def _date(day: Any) -> str | None:
    return None if day is None else str(day)


def _below(account: Mapping[str, Any]) -> dict[str, str]:
    currency = account["currency"]
    return {
        "account": account["account"],
        "available": format_amount(account["available"], currency),
        "credit_limit": format_amount(account["credit_limit"], currency),
    }
