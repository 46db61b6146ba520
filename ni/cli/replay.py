"""`ni replay`: a bank's recorded statement through the REST API and into the core, all compared."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Annotated, Final

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from ni.cli.support import api_address, known
from ni.clock import monotonic
from ni.core_ledger import core_session
from ni.errors import NiError
from ni.money import format_amount, minor_digits
from ni.replay import (
    Outcome,
    Plan,
    Replay,
    ReplayReport,
    RestDoor,
    Sender,
    check,
    pending,
    prepare,
    survey,
)
from ni.replay.sender import PATIENCE_S
from ni.replay.unloading import AT_ONCE
from ni.settings import load_settings

INTERRUPTED_EXIT: Final = 130
_SHOW_EVERY_ROWS: Final = 50
_LATENCIES_SHOWN: Final = 1_000


def register(app: typer.Typer) -> None:
    """Adds the command to `ni`."""
    app.command(name="replay")(replay)


def replay(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="CSV, gzip allowed.")],
    in_flight: Annotated[int, typer.Option(min=1, max=1024, help="Accounts at once.")] = 32,
    currency: Annotated[str, typer.Option(help="The currency of the file.")] = "CZK",
    client: Annotated[
        str, typer.Option(help="Whose key to use, of those `ni up` made.")
    ] = "payments",
    base_url: Annotated[str, typer.Option(help="NI's address, if `ni up` does not run here.")] = "",
    key: Annotated[str, typer.Option(envvar="NI_KEY", help="The client's key, likewise.")] = "",
    patience: Annotated[int, typer.Option(min=1, help="Seconds of trying a row.")] = PATIENCE_S,
) -> None:
    """Replay a statement and unload it; exit code 1 when anything is refused or differs.

    It may be interrupted and run again: what was answered before is answered the same.
    """
    try:
        minor_digits(currency)
    except ValueError as error:
        raise NiError(str(error)) from error
    url, secret = api_address(client, base_url, key)
    report = asyncio.run(_replay(file, currency, url, secret, in_flight, patience))
    if report.interrupted:
        typer.echo("interrupted: run the same command again and it finishes the file")
        raise typer.Exit(INTERRUPTED_EXIT)
    if not report.is_clean:
        raise typer.Exit(1)


async def _replay(
    file: Path, currency: str, url: str, key: str, in_flight: int, patience_s: int
) -> ReplayReport:
    core = known(load_settings().core_database_url, "NI_CORE_DATABASE_URL")
    plan = await _prepare(core, file, currency)
    with closing(RestDoor(url, key, connections=in_flight + AT_ONCE)) as door:
        sender = Sender(door, patience_s=patience_s)
        before = await pending(sender, plan.survey.internal_accounts, currency)
        started = monotonic()
        with _bar(plan.survey.rows) as bar:
            run = Replay(plan, sender, in_flight=in_flight, on_answer=bar.show)
            with _stops(run):
                report = await run.run()
        seconds = monotonic() - started
        if not report.interrupted:
            async with core_session(core) as connection:
                await check(sender, connection, plan.survey, report, before)
    _tell(report, seconds)
    if report.outcome is not None:
        _tell_outcome(report, report.outcome, currency)
    return report


async def _prepare(core: str, file: Path, currency: str) -> Plan:
    found = survey(file, currency)
    async with core_session(core) as connection:
        plan = await prepare(connection, found)
    typer.echo(
        f"{found.rows} rows of {len(found.accounts)} accounts; "
        f"{plan.accounts_created} accounts opened in the core"
    )
    return plan


@contextmanager
def _stops(run: Replay) -> Iterator[None]:
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
    """The progress bar, with rate and latencies of the last answers."""

    def __init__(self, progress: Progress, rows: int) -> None:
        self._progress = progress
        self._started = monotonic()
        self._task = progress.add_task("replaying", total=rows, figures="")

    def show(self, report: ReplayReport) -> None:
        """Shows what the report says; called after every answer, draws at times."""
        if report.rows % _SHOW_EVERY_ROWS and report.rows != report.rows_in_file:
            return
        rate = report.rows / max(monotonic() - self._started, 0.001)
        figures = (
            f"{rate:,.0f} rows/s  p50 {report.latency_ms(50, _LATENCIES_SHOWN):.1f} ms  "
            f"p99 {report.latency_ms(99, _LATENCIES_SHOWN):.1f} ms"
        )
        self._progress.update(self._task, completed=report.rows, figures=figures)


@contextmanager
def _bar(rows: int) -> Iterator[_Bar]:
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
        yield _Bar(progress, rows)


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
