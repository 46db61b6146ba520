"""`ni core`: the reference core ledger, changed the way a bank's core changes, with NI running."""

from __future__ import annotations

from datetime import date, datetime
from pathlib import Path
from typing import Annotated

import asyncpg
import typer
from rich.markup import escape
from rich.table import Column, Table

from ni import core_ledger
from ni.cli.core_day import end_of_day_
from ni.cli.support import file_progress, in_core, output, parse_date, parse_instant
from ni.core_file import COLUMNS, check_account, parse_limit
from ni.core_ledger import CoreAccount
from ni.core_statement import CoreEntry, Statement, read_statement
from ni.errors import NiError
from ni.money import format_amount

core = typer.Typer(help="The reference core ledger.", no_args_is_help=True)


def account_number(text: str) -> str:
    """An argument's account number. Raises typer.BadParameter when it cannot be one."""
    try:
        return check_account(text)
    except ValueError as error:
        raise typer.BadParameter(str(error)) from error


Account = Annotated[str, typer.Argument(parser=account_number, metavar="ACCOUNT")]
Day = Annotated[date, typer.Argument(parser=parse_date, metavar="DATE", help="YYYY-MM-DD")]
NextDay = Annotated[
    date | None,
    typer.Option("--next", parser=parse_date, metavar="DATE", help="The next business date."),
]
From = Annotated[
    datetime | None,
    typer.Option("--from", parser=parse_instant, metavar="TIME", help="Begin, if not now."),
]
To = Annotated[
    datetime | None,
    typer.Option("--to", parser=parse_instant, metavar="TIME", help="End, if there is one."),
]


FromDay = Annotated[
    date | None,
    typer.Option("--from", parser=parse_date, metavar="DATE", help="The first business date."),
]
ToDay = Annotated[
    date | None,
    typer.Option("--to", parser=parse_date, metavar="DATE", help="The first one not shown."),
]


def register(app: typer.Typer) -> None:
    """Adds the commands to `ni`."""
    core.command(name="end-of-day")(end_of_day_)
    app.add_typer(core, name="core")


@core.command(help=f"Load accounts from CSV, gzip allowed, with the columns {','.join(COLUMNS)}.")
def load(file: Annotated[Path, typer.Argument(metavar="FILE")]) -> None:
    """Creates and updates accounts; exit code 1 when a line was refused."""

    async def work(connection: asyncpg.Connection) -> core_ledger.LoadReport:
        return await core_ledger.load_accounts(connection, file, progress)

    with file_progress(f"loading {escape(file.name)}") as progress:
        report = in_core(work)
    for refused in report.refused_lines:
        typer.echo(f"line {refused.line} refused: {refused.reason}", err=True)
    if report.refused > len(report.refused_lines):
        typer.echo(f"… and {report.refused - len(report.refused_lines)} more", err=True)
    typer.echo(
        f"{report.created} created, {report.updated} updated, {report.unchanged} unchanged, "
        f"{report.refused} refused"
    )
    if report.refused:
        raise typer.Exit(1)


@core.command(name="date")
def date_(day: Day, following: NextDay = None) -> None:
    """Set the business date; the next one is the next weekday unless told."""
    after = in_core(lambda connection: core_ledger.set_business_date(connection, day, following))
    typer.echo(f"business date {day}, next business date {after}")


@core.command()
def block(
    account: Account,
    side: Annotated[str, typer.Option(help=f"One of {', '.join(core_ledger.SIDES)}.")],
    reference: Annotated[str, typer.Option(help="The legal reference.")],
    valid_from: From = None,
    valid_to: To = None,
) -> None:
    """Block an account's debits, credits or all."""
    block_id = in_core(
        lambda connection: core_ledger.block(
            connection, account, side, reference, valid_from=valid_from, valid_to=valid_to
        )
    )
    typer.echo(f"{account}: {side} blocked, block {block_id}")


@core.command()
def unblock(
    account: Account,
    reference: Annotated[
        str | None, typer.Option(help="Only blocks of this legal reference.")
    ] = None,
) -> None:
    """End an account's blocks now."""
    ended = in_core(lambda connection: core_ledger.unblock(connection, account, reference))
    typer.echo(f"{account}: {ended} block(s) ended")


@core.command()
def close(account: Account) -> None:
    """Close an account."""
    closed = in_core(lambda connection: core_ledger.close_account(connection, account))
    typer.echo(f"{account}: {'closed' if closed else 'was closed already'}")


@core.command()
def limit(
    account: Account,
    amount: Annotated[str, typer.Argument(help="In the account's currency, zero or more.")],
) -> None:
    """Set an account's credit limit."""

    async def work(connection: asyncpg.Connection) -> str:
        known = await core_ledger.show_account(connection, account)
        try:
            limit_minor = parse_limit(amount, known.currency)
        except ValueError as error:
            raise NiError(f"the limit {amount!r} {error}") from error
        await core_ledger.set_limit(connection, account, limit_minor)
        return f"{format_amount(limit_minor, known.currency)} {known.currency}"

    typer.echo(f"{account}: credit limit {in_core(work)}")


@core.command(name="account")
def account_(account: Account) -> None:
    """Show an account as the core has it."""
    output.print(_table(in_core(lambda connection: core_ledger.show_account(connection, account))))


@core.command()
def statement(
    account: Account,
    begin: FromDay = None,
    end: ToDay = None,
    limit: Annotated[int, typer.Option(min=1, help="The newest so many.")] = 1_000,
) -> None:
    """Show an account's entries in the core, each with the balance after it."""
    found = in_core(
        lambda connection: read_statement(connection, account, begin=begin, end=end, limit=limit)
    )
    output.print(_statement(found))


def _statement(statement: Statement) -> Table:
    def money(minor: int) -> str:
        return format_amount(minor, statement.currency)

    table = Table(
        Column("business date", no_wrap=True),
        Column("value date", no_wrap=True),
        Column("amount", justify="right", no_wrap=True),
        Column(statement.currency, justify="right", no_wrap=True),
        Column("packet", overflow="fold"),
        Column("text", overflow="fold"),
        title=statement.account,
        title_justify="left",
    )
    table.add_row("opening", "", "", money(statement.opening))
    for entry in statement.entries:
        table.add_row(
            str(entry.business_date),
            str(entry.value_date),
            money(entry.amount),
            "waiting" if entry.waits else money(entry.balance_after),
            _packet(entry),
            _text(entry),
        )
    table.add_row("closing", "", "", money(statement.closing))
    return table


def _packet(entry: CoreEntry) -> str:
    """Which run of which packet brought it; empty: the core's own booking."""
    if entry.packet is None:
        return ""
    return escape(f"{entry.client} {entry.packet}, run {entry.number}")


def _text(entry: CoreEntry) -> str:
    texts = (entry.reference, entry.narrative, entry.legal_reference)
    return escape(" ".join(text for text in texts if text))


def _table(account: CoreAccount) -> Table:
    table = Table(show_header=False)
    table.add_row("account", account.account)
    table.add_row("kind", account.kind)
    table.add_row("status", account.status)
    table.add_row(
        "balance", f"{format_amount(account.balance, account.currency)} {account.currency}"
    )
    table.add_row(
        "credit limit",
        f"{format_amount(account.credit_limit, account.currency)} {account.currency}",
    )
    table.add_row("customer", escape(account.customer_id or ""))
    table.add_row("opened", account.opened_at.isoformat(sep=" ", timespec="seconds"))
    for known in account.blocks:
        until = "" if known.valid_to is None else f" to {known.valid_to:%Y-%m-%d %H:%M:%S %Z}"
        table.add_row(
            f"block {known.block_id}",
            f"{known.side}: {escape(known.legal_reference)}, "
            f"from {known.valid_from:%Y-%m-%d %H:%M:%S %Z}{until}",
        )
    return table
