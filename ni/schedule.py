"""When the day closes and opens by itself: pure, from settings, an instant and the mode.

A schedule is a row of instants at which the day opens or closes. Only the last one that has passed
matters, and only if nobody has switched since: whoever closes or opens by hand after it has decided
otherwise, and is left alone until the next one.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from typing import TYPE_CHECKING, Final
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from ni.errors import NiError

if TYPE_CHECKING:
    from ni.database import Mode
    from ni.settings import Settings

WEEKDAYS: Final = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
LOOK_BACK_DAYS: Final = 40
"""No bank is closed for longer; further back nothing is due any more."""


@dataclass(frozen=True, slots=True)
class Due:
    """An instant at which the mode shall become `mode`."""

    at: datetime
    mode: Mode


@dataclass(frozen=True, slots=True)
class Schedule:
    """Times of the day and the days on which there is none.

    A close that is not later than the open belongs to the next calendar day.
    """

    opens: time
    closes: time
    zone: ZoneInfo
    holidays: frozenset[date]
    weekend: frozenset[int]

    def last_due(self, now: datetime) -> Due | None:
        """What has been due last at `now`; None: nothing within LOOK_BACK_DAYS."""
        return max(
            (due for due in self._around(now) if due.at <= now), key=lambda d: d.at, default=None
        )

    def next_due(self, now: datetime) -> Due | None:
        """What will be due next after `now`."""
        return min(
            (due for due in self._around(now) if due.at > now), key=lambda d: d.at, default=None
        )

    def wanted(self, now: datetime, mode: Mode, since: datetime) -> Due | None:
        """What is due and not done: the mode is another one, and is so since before."""
        due = self.last_due(now)
        return due if due is not None and due.mode != mode and since < due.at else None

    def is_business_day(self, day: date) -> bool:
        """Whether the day opens and closes on this date."""
        return day.weekday() not in self.weekend and day not in self.holidays

    def _around(self, now: datetime) -> Iterator[Due]:
        today = now.astimezone(self.zone).date()
        over_midnight = timedelta(days=self.closes <= self.opens)
        for ago in range(-LOOK_BACK_DAYS, LOOK_BACK_DAYS + 1):
            day = today + timedelta(days=ago)
            if self.is_business_day(day):
                yield Due(self._at(day, self.opens), "day")
                yield Due(self._at(day + over_midnight, self.closes), "night")

    def _at(self, day: date, clock_time: time) -> datetime:
        return datetime.combine(day, clock_time, self.zone).astimezone(UTC)


def schedule_of(settings: Settings) -> Schedule | None:
    """The schedule of the settings; None: none is set.

    Raises NiError that names the setting which is wrong.
    """
    if not settings.close_time and not settings.open_time:
        return None
    opens, closes = _time("NI_OPEN_TIME", settings.open_time), _time(
        "NI_CLOSE_TIME", settings.close_time
    )  # fmt: skip
    if opens == closes:
        raise NiError("NI_OPEN_TIME and NI_CLOSE_TIME are the same: the day needs some time")
    weekend = frozenset(_weekday(word) for word in _words(settings.weekend))
    if len(weekend) == len(WEEKDAYS):
        raise NiError("NI_WEEKEND leaves no weekday: the day would never open")
    holidays = frozenset(_holiday(word) for word in _words(settings.holidays))
    return Schedule(opens, closes, zone_of(settings), holidays, weekend)


def _words(text: str) -> list[str]:
    return [word.strip().lower() for word in text.split(",") if word.strip()]


def _time(setting: str, text: str) -> time:
    try:
        found = time.fromisoformat(text)
    except ValueError as error:
        raise NiError(f"{setting} must be a time such as 18:00, not {text!r}") from error
    if found.tzinfo is not None:
        raise NiError(f"{setting} has no offset: its zone is NI_DAY_TIMEZONE")
    return found


def _weekday(word: str) -> int:
    if word not in WEEKDAYS:
        raise NiError(f"NI_WEEKEND knows {', '.join(WEEKDAYS)}, not {word!r}")
    return WEEKDAYS.index(word)


def _holiday(word: str) -> date:
    try:
        return date.fromisoformat(word)
    except ValueError as error:
        raise NiError(f"NI_HOLIDAYS has dates such as 2026-12-24, not {word!r}") from error


def zone_of(settings: Settings) -> ZoneInfo:
    """The zone in which the bank's people live. Raises NiError when it is not known here."""
    return _zone(settings.day_timezone)


def _zone(name: str) -> ZoneInfo:
    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError) as error:
        raise NiError(f"NI_DAY_TIMEZONE: no time zone {name!r} is known on this machine") from error
