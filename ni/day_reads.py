"""How the day stands, as every door shows it. By night nothing of it comes from the core."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any, Final

from ni.database import Mode
from ni.day_switch import NAMES_LOOKED_AT_MAX, PACKETS_SHOWN_MAX
from ni.documents import rfc3339
from ni.money import format_amount

if TYPE_CHECKING:
    from ni.reads import Reads

DAY: Final = "SELECT * FROM ni.business_day_v1($1)"
FACTS: Final = "SELECT * FROM ni.day_facts_v1($1, $2)"
STATE: Final = "SELECT * FROM ni.day_state_v1($1, $2)"


@dataclass(slots=True, frozen=True)
class DayState:
    """The mode and since when; `now` by the same clock. `done`: this key has made a switch."""

    mode: Mode
    epoch: int
    since: datetime
    now: datetime
    done: bool


class DayReads:
    """Reads the day through the pools of `Reads`."""

    def __init__(self, reads: Reads) -> None:
        self._reads = reads

    async def document(self) -> str:
        """The document of the business day. Raises Unavailable."""
        row = await self._reads.by_mode(lambda session, mode: session.fetchrow(DAY, mode))
        return day_document(dict(row), await self.facts())

    async def facts(self) -> dict[str, Any]:
        """What is shown of the day beside its mode and dates. Raises Unavailable."""
        [row] = await self._reads.fetch(FACTS, NAMES_LOOKED_AT_MAX, PACKETS_SHOWN_MAX)
        return dict(row)

    async def state(self, client: str = "", key: str | None = None) -> DayState:
        """The mode, without the gate: for switches, not for money. Raises Unavailable."""
        [row] = await self._reads.fetch(STATE, client, key)
        return DayState(*row)


def day_document(day: Mapping[str, Any], facts: Mapping[str, Any]) -> str:
    """The document of the REST contract; dates are null while the core shows none."""
    copied_at = facts["o_copied_at"]
    return json.dumps(
        {
            "mode": day["o_mode"],
            "business_date": _date(day["o_business_date"]),
            "next_business_date": _date(day["o_next_business_date"]),
            "epoch": day["o_epoch"],
            "since": rfc3339(day["o_since"]),
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
