"""The reference core's end of day: interest, fees and the next business date, in one transaction.

It closes as an old core does: every table of the core is locked ACCESS EXCLUSIVE until the commit,
as long as `hold_s` says. NI has to be in its night then; a core that closes in spite of NI's day
(`force`) stops what NI wants of the core until NI has closed too.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import date, timedelta
from typing import Final

import asyncpg

from ni.database import LOST_CONNECTION
from ni.errors import BrokenPromise, NiError, Unavailable

LOOK: Final = "SELECT * FROM core.look_end_of_day_v1($1, $2)"
BEGIN: Final = "SELECT * FROM core.begin_end_of_day_v1($1, $2)"
CHARGE: Final = "SELECT * FROM core.charge_v1($1, $2, $3, $4, $5, $6)"
FINISH: Final = "SELECT core.finish_end_of_day_v1($1, $2, $3, $4, $5)"

DAYS_MAX: Final = 366
"""Interest is computed over so many days at most."""

RATE_PPM_MAX: Final = 1_000_000
_RATE: Final = re.compile(r"([0-9]{1,3})(?:\.([0-9]{1,4}))?", re.ASCII)

Progress = Callable[[int, int], None]
"""Called with the seconds held and the whole, every second."""


@dataclass(frozen=True, slots=True)
class Charges:
    """What the core charges and pays.

    Rates in millionths a year, actual days over 365, on active customer accounts of every
    currency: `credit_ppm` on positive balances, `debit_ppm` on negative ones. `fee_minor` each
    time, `monthly_fee_minor` besides on the last business date of a month, in minor units, from
    the active customer accounts of `currency` alone.
    """

    credit_ppm: int = 0
    debit_ppm: int = 0
    fee_minor: int = 0
    monthly_fee_minor: int = 0
    currency: str = "CZK"

    @property
    def bear_interest(self) -> bool:
        """Whether there is a rate at all."""
        return bool(self.credit_ppm or self.debit_ppm)

    def fee(self, business_date: date, next_business_date: date) -> int:
        """The fee of this end of day in minor units; a month ends before a date of another."""
        dates = (business_date, next_business_date)
        first, second = ((day.year, day.month) for day in dates)
        return self.fee_minor + (self.monthly_fee_minor if first != second else 0)


NO_CHARGES: Final = Charges()


@dataclass(frozen=True, slots=True)
class EndOfDay:
    """A business date that has ended, and what it booked. `was_done`: by an earlier call."""

    business_date: date
    next_business_date: date
    accounts: int = 0
    entries: int = 0
    was_done: bool = False


def parse_rate(text: str) -> int:
    """Millionths of a rate in per cent a year, such as 2.5 for 25,000.

    Raises ValueError for anything but 0 to 100 with at most four decimals.
    """
    match = _RATE.fullmatch(text)
    if match is None:
        raise ValueError("must be per cent a year, such as 2.5, with at most four decimals")
    ppm = int(match[1] + (match[2] or "").ljust(4, "0"))
    if ppm > RATE_PPM_MAX:
        raise ValueError("must be at most 100 per cent")
    return ppm


async def end_of_day(
    connection: asyncpg.Connection,
    *,
    closing: date | None = None,
    following: date | None = None,
    charges: Charges = NO_CHARGES,
    force: bool = False,
    hold_s: int = 0,
    on_hold: Progress | None = None,
) -> EndOfDay:
    """Ends the business date, as ni_core: everything of it in one commit, or nothing.

    `closing` is the date to end, by default the one that the core is at; one that has ended is left
    alone. Without it a night ends one date. The business date becomes the next one, and the one
    after that is `following`, by default the next day. `hold_s`: seconds for which the tables stay
    locked when the work is done. `force`: although it is day for NI. Raises NiError with what to do
    when the date cannot be ended, or a balance or an account of the bank's own does not allow it,
    Unavailable when the database went away meanwhile.
    """
    async with _errors_told():
        asked = await _row(connection, LOOK, closing, force)
        if (done := _done_or_refused(asked, closing)) is not None:
            return done
        async with connection.transaction():
            asked = await _row(connection, BEGIN, closing, force)
            if (done := _done_or_refused(asked, closing)) is not None:
                return done
            result = await _book(connection, asked, following, charges)
            await _hold(connection, hold_s, on_hold)
    return result


@asynccontextmanager
async def _errors_told() -> AsyncIterator[None]:
    """What the database refuses, in words for an operator."""
    try:
        yield
    except asyncpg.DeadlockDetectedError as error:
        raise NiError(
            "the end of day gave way to others; nothing was changed, try again"
        ) from error
    except asyncpg.WrongObjectTypeError as error:
        raise NiError(f"{error}; nothing was changed") from error
    except asyncpg.CheckViolationError as error:
        raise NiError("a balance would pass 10^17 minor units; nothing was changed") from error
    except LOST_CONNECTION as error:
        raise Unavailable(
            "the database went away; the date has ended wholly or not at all, and running the same "
            "command again finds out and finishes"
        ) from error


async def _book(
    connection: asyncpg.Connection,
    asked: asyncpg.Record,
    following: date | None,
    charges: Charges,
) -> EndOfDay:
    ending, beginning = asked["o_business_date"], asked["o_next_business_date"]
    after = following or beginning + timedelta(days=1)
    if after <= beginning:
        raise NiError(f"the business date after {beginning} must be later than that")
    if charges.bear_interest and (beginning - ending).days > DAYS_MAX:
        raise NiError(
            f"from {ending} to {beginning} there are more than {DAYS_MAX} days, too many for "
            "interest: correct the business dates with `ni core date`"
        )
    row = await _row(
        connection,
        CHARGE,
        ending,
        beginning,
        charges.credit_ppm,
        charges.debit_ppm,
        charges.fee(ending, beginning),
        charges.currency,
    )
    accounts, entries = row["o_accounts"], row["o_entries"]
    await connection.execute(FINISH, ending, beginning, after, accounts, entries)
    return EndOfDay(ending, beginning, accounts, entries)


async def _row(connection: asyncpg.Connection, query: str, *values: object) -> asyncpg.Record:
    row = await connection.fetchrow(query, *values)
    if row is None:
        raise BrokenPromise(f"no row came of: {query}")
    return row


async def _hold(connection: asyncpg.Connection, hold_s: int, on_hold: Progress | None) -> None:
    """Keeps the transaction open; the server's end is noticed within a second."""
    for second in range(hold_s):
        if on_hold is not None:
            on_hold(second, hold_s)
        await asyncio.sleep(1)
        if connection.is_closed():
            raise ConnectionError("lost while the tables were held")


def _done_or_refused(asked: asyncpg.Record, closing: date | None) -> EndOfDay | None:
    """The end of day that was before; None when there is one to do. Raises NiError otherwise."""
    status, ending = asked["o_status"], asked["o_business_date"]
    if status == "done":
        return EndOfDay(ending, asked["o_next_business_date"], was_done=True)
    if status == "no_date":
        raise NiError("the core has no business date yet: set one with `ni core date`")
    if status == "other_date":
        raise NiError(
            f"the core's business date is {ending} and not {closing}: nothing was changed"
        )
    if status == "by_day":
        raise NiError(
            "it is day for NI, which still works in the core: `ni day close` first. "
            "A core that closes all the same is tried with --force"
        )
    return None
