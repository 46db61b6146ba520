"""`ni replay`: a bank's recorded statement through the REST API and into the core, all compared."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Annotated, Final

import asyncpg
import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from ni.cli.support import api_address, known
from ni.clock import monotonic
from ni.core_ledger import core_session
from ni.errors import NiError
from ni.money import format_amount, minor_digits
from ni.replay import (
    Calendar,
    DaysReport,
    Outcome,
    Plan,
    Replay,
    ReplayByDay,
    ReplayReport,
    RestDoor,
    Sender,
    Switch,
    check,
    find_place,
    pending,
    prepare,
    survey,
)
from ni.replay.days import NIGHT_PERCENT
from ni.replay.sender import PATIENCE_S
from ni.replay.switch import SCOPES as DAY_SCOPES
from ni.replay.unloading import AT_ONCE
from ni.settings import load_settings

INTERRUPTED_EXIT: Final = 130
_SHOW_EVERY_ROWS: Final = 50
_LATENCIES_SHOWN: Final = 1_000


def register(app: typer.Typer) -> None:
    """Adds the command to `ni`."""
    app.command(name="replay")(replay)


@dataclass(frozen=True, slots=True)
class _Order:
    """What is replayed and how. Without an operator's key the dates are not closed."""

    file: Path
    currency: str
    url: str
    key: str
    in_flight: int
    patience_s: int
    operator_key: str
    night_percent: int


def replay(  # noqa: PLR0913  a parameter for each option
    file: Annotated[Path, typer.Argument(metavar="FILE", help="CSV, gzip allowed.")],
    *,
    in_flight: Annotated[int, typer.Option(min=1, max=1024, help="Accounts at once.")] = 32,
    currency: Annotated[str, typer.Option(help="The currency of the file.")] = "CZK",
    client: Annotated[
        str, typer.Option(help="Whose key to use, of those `ni up` made.")
    ] = "payments",
    base_url: Annotated[str, typer.Option(help="NI's address, if `ni up` does not run here.")] = "",
    key: Annotated[str, typer.Option(envvar="NI_KEY", help="The client's key, likewise.")] = "",
    patience: Annotated[int, typer.Option(min=1, help="Seconds of trying a row.")] = PATIENCE_S,
    close_every_day: Annotated[
        bool, typer.Option("--close-every-day", help="End every date: close, a night, open.")
    ] = False,
    night_share: Annotated[
        int, typer.Option(min=0, max=100, help="Per cent of a date's rows, its last, by night.")
    ] = NIGHT_PERCENT,
    operator: Annotated[str, typer.Option(help="Whose key closes and opens.")] = "operator",
    operator_key: Annotated[
        str, typer.Option(envvar="NI_OPERATOR_KEY", help="The operator's key, likewise.")
    ] = "",
) -> None:
    """Replay a statement and unload it; exit code 1 when anything is refused or differs.

    It may be interrupted and run again: what was answered before is answered the same.
    """
    _refuse_unknown(currency)
    url, secret = api_address(client, base_url, key)
    operators = api_address(operator, base_url, operator_key)[1] if close_every_day else ""
    order = _Order(file, currency, url, secret, in_flight, patience, operators, night_share)
    report = asyncio.run(_replay(order))
    if report.interrupted:
        typer.echo("interrupted: run the same command again and it finishes the file")
        if report.days is not None and report.days.by_night:
            typer.echo("it is night for NI until then")
        raise typer.Exit(INTERRUPTED_EXIT)
    if not report.is_clean:
        raise typer.Exit(1)


def _refuse_unknown(currency: str) -> None:
    try:
        minor_digits(currency)
    except ValueError as error:
        raise NiError(str(error)) from error


async def _replay(order: _Order) -> ReplayReport:
    address = known(load_settings().core_database_url, "NI_CORE_DATABASE_URL")
    async with core_session(address) as core:
        with ExitStack() as doors:
            door = RestDoor(order.url, order.key, connections=order.in_flight + AT_ONCE)
            sender = Sender(doors.enter_context(closing(door)), patience_s=order.patience_s)
            switch = _switch(order, core, doors) if order.operator_key else None
            plan = await _prepare(order, core, switch)
            run = partial(_run, order, plan, sender)
            if switch is not None:
                calendar = await find_place(switch, plan.survey)
                run = partial(_run_by_day, order, plan, sender, switch, calendar)
            before = await pending(sender, plan.survey.internal_accounts, order.currency)
            started = monotonic()
            report = await run()
            seconds = monotonic() - started
            if not report.interrupted:
                await check(sender, core, plan.survey, report, before)
    _tell(report, seconds)
    if report.outcome is not None:
        _tell_outcome(report, report.outcome, order.currency)
    return report


def _switch(order: _Order, core: asyncpg.Connection, doors: ExitStack) -> Switch:
    """What closes and opens, with the operator's key."""
    door = doors.enter_context(closing(RestDoor(order.url, order.operator_key, connections=1)))
    sender = Sender(door, patience_s=order.patience_s, scopes=DAY_SCOPES)
    return Switch(sender, core, patience_s=order.patience_s)


async def _prepare(order: _Order, core: asyncpg.Connection, switch: Switch | None) -> Plan:
    found = survey(order.file, order.currency)
    by_night = switch is not None and (await switch.status()).mode == "night"
    plan = await prepare(core, found, set_date=switch is None, by_night=by_night)
    typer.echo(
        f"{found.rows} rows of {len(found.accounts)} accounts; "
        f"{plan.accounts_created} accounts opened in the core"
    )
    return plan


async def _run(order: _Order, plan: Plan, sender: Sender) -> ReplayReport:
    with _bar(plan.survey.rows) as bar:
        run = Replay(plan, sender, in_flight=order.in_flight, on_answer=bar.show)
        with _stops(run):
            return await run.run()


async def _run_by_day(
    order: _Order, plan: Plan, sender: Sender, switch: Switch, calendar: Calendar
) -> ReplayReport:
    with _bar(len(calendar.dates)) as bar:
        run = ReplayByDay(
            plan,
            calendar,
            sender,
            switch,
            in_flight=order.in_flight,
            night_percent=order.night_percent,
            on_answer=bar.show,
        )
        with _stops(run):
            return await run.run()


@contextmanager
def _stops(run: Replay | ReplayByDay) -> Iterator[None]:
    """The first Ctrl-C or SIGTERM lets the rows in flight finish, the second ends the process."""
    loop = asyncio.get_running_loop()
    signals = (signal.SIGINT, signal.SIGTERM)

    def stop() -> None:
        for number in signals:
            loop.remove_signal_handler(number)
        run.stop()

    for number in signals:
        loop.add_signal_handler(number, stop)
    try:
        yield
    finally:
        for number in signals:
            loop.remove_signal_handler(number)


class _Bar:
    """The progress bar, of rows or of dates, with rate and latencies of the last answers."""

    def __init__(self, progress: Progress, whole: int) -> None:
        self._progress = progress
        self._started = monotonic()
        self._task = progress.add_task("replaying", total=whole, figures="")

    def show(self, report: ReplayReport) -> None:
        """Shows what the report says; called after every answer, draws at times."""
        if report.rows % _SHOW_EVERY_ROWS and report.rows != report.rows_in_file:
            return
        done = report.rows if report.days is None else report.days.done
        rate = report.rows / max(monotonic() - self._started, 0.001)
        figures = (
            f"{rate:,.0f} rows/s  p50 {report.latency_ms(50, _LATENCIES_SHOWN):.1f} ms  "
            f"p99 {report.latency_ms(99, _LATENCIES_SHOWN):.1f} ms"
        )
        self._progress.update(self._task, completed=done, figures=figures)


@contextmanager
def _bar(whole: int) -> Iterator[_Bar]:
    console = Console(stderr=True)
    with Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[figures]}"),
        TimeRemainingColumn(),
        console=console,
        transient=True,
        disable=not console.is_terminal,
    ) as progress:
        yield _Bar(progress, whole)


def _tell(report: ReplayReport, seconds: float) -> None:
    for fault in report.faults:
        typer.echo(fault, err=True)
    typer.echo(
        f"{report.rows} of {report.rows_in_file} rows, {report.refusals} refusals, "
        f"{report.mismatches} mismatches, {report.replayed} replayed"
    )
    typer.echo(
        f"{seconds:.1f} s, {report.rows / max(seconds, 0.001):,.0f} rows/s, "
        f"p50 {report.latency_ms(50):.1f} ms, p99 {report.latency_ms(99):.1f} ms, "
        f"{report.retries} retries"
    )

    if report.days is not None:
        _tell_days(report.days)


def _tell_days(days: DaysReport) -> None:
    """Counts of closes and opens, and where their time went."""
    typer.echo(
        f"{days.done} of {days.dates} dates, {days.ended_before} had ended before, "
        f"{days.closes} closes, {days.opens} opens, {days.night_rows} rows by night"
    )
    steps = ", ".join(f"{step} {us / 1_000_000:.1f} s" for step, us in days.took_us.items())
    typer.echo(f"{steps or 'no step'}; waited {days.waited_us / 1_000_000:.1f} s to switch")


def _tell_outcome(report: ReplayReport, outcome: Outcome, currency: str) -> None:
    posted, debits, credits_ = (
        format_amount(minor, currency)
        for minor in (outcome.posted, outcome.debits, outcome.credits)
    )
    typer.echo(
        f"{outcome.packets} packets, {outcome.unbooked_packets} not wholly booked, "
        f"{outcome.problems} problems, {report.packet_refusals} refusals"
    )
    typer.echo(
        f"NI: {outcome.pending_accounts} of {outcome.accounts} accounts pending, "
        f"postings of {posted} {currency}"
    )
    typer.echo(
        f"core: {outcome.different_balances} balances other than the statement's, "
        f"debits {debits}, credits {credits_} {currency}"
    )
