"""Loading accounts into the reference core from a file, with NI running.

Lines go in chunks, one transaction each, every statement over the whole chunk. An account that
exists keeps its kind and currency for ever, and its balance from its first movement on: a balance
set later would be counted on top of what NI has pending, or undo what was unloaded.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path
from typing import Final

import asyncpg

from ni.core_file import COLUMNS, AccountLine, RefusedLine, read_lines
from ni.csv_file import CsvFile
from ni.errors import NiError
from ni.sql import query

CHUNK_LINES: Final = 1_000
REFUSED_LINES_KEPT: Final = 1_000
"""Refused lines that a report keeps with their reasons; it counts all of them."""

CLAIM_TIMEOUT: Final = "200ms"
"""How long a chunk waits for decisions on accounts whose balance it changes."""

Progress = Callable[[int, int], None]
"""Called with the bytes read and the bytes of the file, after every chunk."""


@dataclass(slots=True)
class LoadReport:
    """What a file did to the core's accounts: numbers of lines, and the refused ones in order."""

    created: int = 0
    updated: int = 0
    unchanged: int = 0
    refused: int = 0
    refused_lines: list[RefusedLine] = field(default_factory=list)

    def refuse(self, line: RefusedLine) -> None:
        """Counts a refused line and keeps its reason while there is room."""
        self.refused += 1
        if len(self.refused_lines) < REFUSED_LINES_KEPT:
            self.refused_lines.append(line)


async def load_accounts(
    connection: asyncpg.Connection, path: Path, progress: Progress | None = None
) -> LoadReport:
    """Loads a CSV file (gzip allowed) of core_file.COLUMNS into the core, as role ni_core.

    A wrong line is refused alone and told in the report. Raises NiError when the file as a whole
    cannot be read, or an account stays locked by others: what was loaded before stays, and the
    same file may be loaded again.
    """
    file = CsvFile(path, COLUMNS)
    report = LoadReport()
    for chunk in _chunks(file):
        try:
            await _load_chunk(connection, chunk, report)
        except asyncpg.LockNotAvailableError as error:
            raise NiError(
                f"{path}, lines {chunk[0].line} to {chunk[-1].line}: accounts are in use by other "
                "transactions. The lines before are loaded; load the file again"
            ) from error
        if progress is not None:
            progress(file.position, file.size)
    report.refused_lines.sort(key=lambda refused: refused.line)
    return report


def _chunks(file: CsvFile) -> Iterator[list[AccountLine | RefusedLine]]:
    """Chunks in which every account stands once: a repeated one begins the next chunk."""
    chunk: list[AccountLine | RefusedLine] = []
    accounts: set[str] = set()
    for line in read_lines(file):
        repeated = isinstance(line, AccountLine) and line.account in accounts
        if repeated or len(chunk) == CHUNK_LINES:
            yield chunk
            chunk, accounts = [], set()
        chunk.append(line)
        if isinstance(line, AccountLine):
            accounts.add(line.account)
    if chunk:
        yield chunk


async def _load_chunk(
    connection: asyncpg.Connection,
    chunk: Sequence[AccountLine | RefusedLine],
    report: LoadReport,
) -> None:
    lines = [line for line in chunk if isinstance(line, AccountLine)]
    async with connection.transaction():
        result = await _write_lines(connection, lines)
    report.created += result.created
    report.updated += result.updated
    report.unchanged += result.unchanged
    wrong = (line for line in chunk if isinstance(line, RefusedLine))
    for refused in sorted(chain(wrong, result.refused_lines), key=lambda refused: refused.line):
        report.refuse(refused)


async def _write_lines(connection: asyncpg.Connection, lines: Sequence[AccountLine]) -> LoadReport:
    names = [line.account for line in lines]
    rows = await connection.fetch(query("core_account_lock"), names)
    current = {row["account"]: row for row in rows}
    free = await _free_balances(connection, lines, current)
    result = LoadReport()
    new: list[AccountLine] = []
    changed: list[AccountLine] = []
    for line in lines:
        row = current.get(line.account)
        reason = _refusal(line, row, free)
        if reason is not None:
            result.refuse(RefusedLine(line.line, reason))
        elif row is None:
            new.append(line)
        elif _differs(line, row):
            changed.append(line)
        else:
            result.unchanged += 1
    created = await open_accounts(connection, new)
    result.created = len(created)
    for line in new:
        if line.account not in created:
            reason = f"{line.account} was opened by somebody else at this moment; load it again"
            result.refuse(RefusedLine(line.line, reason))
    await _update(connection, changed)
    result.updated = len(changed)
    return result


async def _free_balances(
    connection: asyncpg.Connection,
    lines: Sequence[AccountLine],
    current: Mapping[str, asyncpg.Record],
) -> AbstractSet[str]:
    """Of the lines that change a balance, the accounts that have no entry and no movement."""
    wanted = [
        line
        for line in lines
        if (row := current.get(line.account)) is not None
        and row["kind"] == line.kind
        and row["balance"] != line.balance
    ]
    if not wanted:
        return frozenset()
    names = [line.account for line in wanted]
    booked = {row["account"] for row in await connection.fetch(query("core_account_booked"), names)}
    customers = [line.account for line in wanted if line.kind == "customer"]
    others = [line.account for line in wanted if line.kind != "customer"]
    await connection.execute("SELECT set_config('lock_timeout', $1, true)", CLAIM_TIMEOUT)
    unmoved = await connection.fetch(query("core_account_unmoved"), customers, others)
    return {row["account"] for row in unmoved} - booked


def _refusal(line: AccountLine, row: asyncpg.Record | None, free: AbstractSet[str]) -> str | None:
    if row is None:
        return None
    for column, wanted in (("kind", line.kind), ("currency", line.currency)):
        if row[column] != wanted:
            return f"{line.account} is {row[column]} and not {wanted}: a {column} never changes"
    if row["balance"] != line.balance and line.account not in free:
        return (
            f"{line.account} has movements: its balance is no longer set from a file. "
            "Nothing of the line was taken"
        )
    return None


def _differs(line: AccountLine, row: asyncpg.Record) -> bool:
    wanted = (line.balance, line.credit_limit, line.status, line.customer_id)
    return wanted != (row["balance"], row["credit_limit"], row["status"], row["customer_id"])


async def open_accounts(
    connection: asyncpg.Connection, lines: Sequence[AccountLine]
) -> AbstractSet[str]:
    """Opens accounts in the core; returns the numbers of those that were not there yet.

    One that exists stays exactly as it is.
    """
    if not lines:
        return frozenset()
    rows = await connection.fetch(
        query("core_account_insert"),
        [line.account for line in lines],
        [line.kind for line in lines],
        [line.currency for line in lines],
        [line.balance for line in lines],
        [line.credit_limit for line in lines],
        [line.status for line in lines],
        [line.customer_id for line in lines],
    )
    return {row["account"] for row in rows}


async def _update(connection: asyncpg.Connection, lines: Sequence[AccountLine]) -> None:
    if not lines:
        return
    rows = await connection.fetch(
        query("core_account_update"),
        [line.account for line in lines],
        [line.balance for line in lines],
        [line.credit_limit for line in lines],
        [line.status for line in lines],
        [line.customer_id for line in lines],
    )
    if len(rows) != len(lines):
        raise NiError(f"{len(rows)} accounts instead of {len(lines)} changed; none was kept")
