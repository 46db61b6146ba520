"""`ni core end-of-day`: the reference core ends its business date."""

from __future__ import annotations

from datetime import date
from typing import Annotated, Final

import asyncpg
import typer

from ni.cli.support import file_progress, in_core, parse_date
from ni.core_end_of_day import Charges, EndOfDay, end_of_day, parse_rate
from ni.errors import NiError
from ni.money import format_amount, minor_digits, parse_balance

INTERRUPTED_EXIT: Final = 130
HOLD_S_MAX: Final = 86_400

Day = Annotated[
    date | None,
    typer.Option(
        "--date", parser=parse_date, metavar="DATE", help="The date to end, if not the core's."
    ),
]
Following = Annotated[
    date | None,
    typer.Option(
        "--next", parser=parse_date, metavar="DATE", help="The date after the next business date."
    ),
]
Rate = Annotated[str, typer.Option(help="Per cent a year, actual days over 365.")]
Fee = Annotated[str, typer.Option(help="From every active customer account.")]


def end_of_day_(  # noqa: PLR0913  a parameter for each option
    *,
    day: Day = None,
    following: Following = None,
    credit_rate: Rate = "0",
    debit_rate: Rate = "0",
    fee: Fee = "0",
    monthly_fee: Fee = "0",
    currency: Annotated[str, typer.Option(help="The currency of the fees.")] = "CZK",
    hold: Annotated[
        int, typer.Option(min=0, max=HOLD_S_MAX, help="Seconds for which the tables stay locked.")
    ] = 0,
    force: Annotated[bool, typer.Option("--force", help="Although it is day for NI.")] = False,
) -> None:
    """End the core's business date: interest, fees, the next date; all in one commit."""
    charges = _charges((credit_rate, debit_rate), (fee, monthly_fee), currency)

    async def work(connection: asyncpg.Connection) -> EndOfDay:
        return await end_of_day(
            connection,
            closing=day,
            following=following,
            charges=charges,
            force=force,
            hold_s=hold,
            on_hold=progress,
        )

    try:
        with file_progress("the core is closed") as progress:
            ended = in_core(work)
    except KeyboardInterrupt as error:
        typer.echo("interrupted: nothing was changed", err=True)
        raise typer.Exit(INTERRUPTED_EXIT) from error
    if ended.was_done:
        typer.echo(f"{ended.business_date} has ended before: nothing to do")
        return
    typer.echo(f"{ended.business_date} has ended, the business date is {ended.next_business_date}")
    typer.echo(f"{ended.accounts} accounts charged, {ended.entries} entries")


def _charges(rates: tuple[str, str], fees: tuple[str, str], currency: str) -> Charges:
    """Raises NiError for what is no rate, no amount or no currency."""
    try:
        minor_digits(currency)
    except ValueError as error:
        raise NiError(str(error)) from error
    names = iter(("credit rate", "debit rate", "fee", "monthly fee"))
    credit_ppm, debit_ppm = (_parsed(next(names), text, "") for text in rates)
    fee_minor, monthly_fee_minor = (_parsed(next(names), text, currency) for text in fees)
    return Charges(credit_ppm, debit_ppm, fee_minor, monthly_fee_minor, currency)


def _parsed(name: str, text: str, currency: str) -> int:
    """Millionths without a currency, else minor units."""
    try:
        parsed = parse_balance(text, currency) if currency else parse_rate(text)
    except ValueError as error:
        raise NiError(f"the {name} {text!r} {error}") from error
    if parsed < 0:
        raise NiError(f"the {name} {format_amount(parsed, currency)} must be zero or more")
    return parsed
