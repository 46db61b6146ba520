"""The dates of a statement: which the core has ended already, and where NI and it stand now."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from typing import Final

import asyncpg

from ni.core_ledger import business_dates, set_business_date
from ni.errors import NiError
from ni.replay.statement import Survey
from ni.replay.switch import Switch
from ni.sql import query

_ADVICE: Final = "Replay the statement into a database of its own"


@dataclass(frozen=True, slots=True)
class Calendar:
    """The file's dates in order; those that had ended when the replay began.

    `night_of` is the date in whose night NI is, closed and not ended yet.
    """

    dates: Sequence[date]
    ended: frozenset[date]
    night_of: date | None

    def after(self, day: date) -> date:
        """The file's next date, or the next day when there is none."""
        return next((one for one in self.dates if one > day), day + timedelta(days=1))


async def find_place(switch: Switch, survey: Survey) -> Calendar:
    """Sets the business date to the first date that has not ended, and opens a night that is over.

    Raises NiError when the file's dates go back, the core has ended a later date than that first
    one, or NI is in the night of another date; nothing is changed then.
    """
    if not survey.is_in_date_order:
        raise NiError(f"{survey.path}: its dates go back, so they cannot be closed one by one")
    dates, core = sorted(survey.days), switch.core
    rows = await core.fetch(query("core_end_of_day_list"))
    epochs = {row["business_date"]: row["ni_epoch"] for row in rows}
    ended = frozenset(epochs.keys() & set(dates))
    first = next((day for day in dates if day not in ended), None)
    if first is not None and any(day > first for day in epochs):
        raise NiError(
            f"the core has ended {max(epochs)} and not {first}, which the statement has. {_ADVICE}"
        )
    now = await switch.status()
    night_of = None
    if now.mode == "night":
        if now.epoch in epochs.values():
            await switch.open()
        elif first is not None:
            night_of = await _night_of(core, first)
    calendar = Calendar(dates, ended, night_of)
    if first is not None and night_of is None:
        await _set_date(core, first, calendar.after(first))
    return calendar


async def _night_of(core: asyncpg.Connection, first: date) -> date:
    known = await business_dates(core)
    if known is None or known[0] != first:
        raise NiError(
            f"NI is by night and the core's business date is not {first}, where the statement goes "
            "on: `ni day open` first"
        )
    return first


async def _set_date(core: asyncpg.Connection, first: date, after: date) -> None:
    if await business_dates(core) != (first, after):
        await set_business_date(core, first, after)
