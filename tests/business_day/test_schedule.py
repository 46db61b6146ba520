"""The schedule: what is due when, from the clock and the mode alone; no database."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ni.database import Mode
from ni.errors import NiError
from ni.schedule import Due, Schedule, schedule_of
from ni.settings import Settings

PRAGUE = ZoneInfo("Europe/Prague")
FRIDAY = "2026-11-20"


def schedule(**more: Any) -> Schedule:
    """Open at six, closed at eighteen, in Prague."""
    given: dict[str, Any] = {
        "open_time": "06:00", "close_time": "18:00", "day_timezone": "Europe/Prague"
    }  # fmt: skip
    found = schedule_of(Settings(**(given | more)))
    assert found is not None
    return found


def local(text: str) -> datetime:
    """An instant given in Prague's time."""
    return datetime.fromisoformat(text).replace(tzinfo=PRAGUE).astimezone(UTC)


@pytest.mark.parametrize(
    ("now", "at", "mode"),
    [
        pytest.param(f"{FRIDAY} 05:59", "2026-11-19 18:00", "night", id="before-the-open"),
        pytest.param(f"{FRIDAY} 06:00", f"{FRIDAY} 06:00", "day", id="at-the-open"),
        pytest.param(f"{FRIDAY} 18:00", f"{FRIDAY} 18:00", "night", id="at-the-close"),
        pytest.param("2026-11-22 12:00", f"{FRIDAY} 18:00", "night", id="weekend"),
        pytest.param("2026-11-23 07:00", "2026-11-23 06:00", "day", id="monday"),
        pytest.param("2026-10-25 12:00", "2026-10-23 18:00", "night", id="clocks-change"),
        pytest.param("2026-10-26 06:00", "2026-10-26 06:00", "day", id="after-the-change"),
    ],
)
def test_what_was_due_last(now: str, at: str, mode: str) -> None:
    due = schedule().last_due(local(now))
    assert due is not None
    assert (due.at, due.mode) == (local(at), mode)


def test_a_holiday_neither_opens_nor_closes() -> None:
    free = schedule(holidays="2026-11-23, 2026-11-24")
    assert free.last_due(local("2026-11-24 20:00")) == Due(local(f"{FRIDAY} 18:00"), "night")
    assert free.next_due(local("2026-11-22 20:00")) == Due(local("2026-11-25 06:00"), "day")


def test_a_close_after_midnight_belongs_to_the_day_before() -> None:
    late = schedule(close_time="00:30")
    assert late.last_due(local("2026-11-21 00:29")) == Due(local(f"{FRIDAY} 06:00"), "day")
    assert late.last_due(local("2026-11-21 00:30")) == Due(local("2026-11-21 00:30"), "night")


@pytest.mark.parametrize(
    ("now", "mode", "since", "wanted"),
    [
        pytest.param("18:00", "day", "06:00", "night", id="time-to-close"),
        pytest.param("17:59", "day", "06:00", None, id="not-yet"),
        pytest.param("23:00", "day", "06:00", "night", id="late-after-a-crash"),
        pytest.param("18:05", "night", "18:00", None, id="done"),
        pytest.param("18:05", "night", "17:00", None, id="closed-early-by-hand"),
        pytest.param("20:00", "day", "19:00", None, id="opened-again-by-hand"),
        pytest.param("14:00", "night", "13:00", None, id="closed-by-hand-at-noon"),
        pytest.param("06:00", "night", "01:00", "day", id="open-as-the-schedule-says"),
        pytest.param("06:30", "night", "06:10", None, id="closed-by-hand-after-the-open"),
        pytest.param("06:30", "day", "05:00", None, id="opened-early-by-hand"),
    ],
)
def test_what_is_to_be_done(now: str, mode: Any, since: str, wanted: str | None) -> None:
    """Only what nobody has decided otherwise since."""
    due = schedule().wanted(local(f"{FRIDAY} {now}"), mode, local(f"{FRIDAY} {since}"))
    assert (due and due.mode) == wanted


def test_what_somebody_closed_by_hand_is_opened_by_the_next_open_alone() -> None:
    hours = [local(f"{FRIDAY} 14:00") + timedelta(hours=n) for n in range(24 * 4)]
    closed_at = local(f"{FRIDAY} 13:00")
    wanted = [now for now in hours if schedule().wanted(now, "night", closed_at)]
    assert wanted[0] == local("2026-11-23 06:00")


@given(
    start=st.integers(0, 700 * 24 * 60),
    looks=st.lists(st.integers(1, 3_000), min_size=1, max_size=60),
)
def test_a_worker_that_does_what_is_wanted_switches_once_for_each_due(
    start: int, looks: list[int]
) -> None:
    """Whenever it looks: never twice for one instant, and the mode is the schedule's afterwards."""
    plan = schedule()
    now = since = datetime(2026, 1, 1, tzinfo=UTC) + timedelta(minutes=start)
    mode: Mode = "day"
    done: list[datetime] = []
    for minutes in looks:
        now += timedelta(minutes=minutes)
        due = plan.wanted(now, mode, since)
        if due is not None:
            assert due.at <= now
            done.append(due.at)
            mode, since = due.mode, now
        last = plan.last_due(now)
        assert last is not None
        assert since < last.at or mode == last.mode or not done
    assert sorted(set(done)) == done


def test_without_times_there_is_no_schedule() -> None:
    assert schedule_of(Settings()) is None


@pytest.mark.parametrize(
    ("wrong", "named"),
    [
        pytest.param({"close_time": "25:00"}, "NI_CLOSE_TIME", id="close"),
        pytest.param({"open_time": ""}, "NI_OPEN_TIME", id="open-missing"),
        pytest.param({"open_time": "06:00+01:00"}, "NI_DAY_TIMEZONE", id="offset"),
        pytest.param({"close_time": "06:00"}, "the same", id="same"),
        pytest.param({"day_timezone": "Prague"}, "NI_DAY_TIMEZONE", id="zone"),
        pytest.param({"holidays": "24.12."}, "NI_HOLIDAYS", id="holiday"),
        pytest.param({"weekend": "sunday"}, "NI_WEEKEND", id="weekend"),
        pytest.param({"weekend": "mon,tue,wed,thu,fri,sat,sun"}, "NI_WEEKEND", id="no-day"),
    ],
)
def test_a_wrong_setting_is_named(wrong: dict[str, str], named: str) -> None:
    with pytest.raises(NiError, match=named):
        schedule(**wrong)
