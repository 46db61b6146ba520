"""$NI_HOME/run.json: where NI runs and with which keys, for scripts and for every `ni` command.

It is there from the moment the API is ready until NI stops, for its owner's eyes only.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, fields
from pathlib import Path

from ni.errors import NiError
from ni.private_file import read_private, write_private
from ni.settings import RUN_FILE


@dataclass(frozen=True, slots=True)
class Run:
    """What run.json holds. `postgres_dsn` is the owner's address; `pid` is the supervisor's."""

    base_url: str
    postgres_dsn: str
    engine_dsn: str
    core_dsn: str
    redis_url: str
    keys: dict[str, str]
    pid: int
    sms_dsn: str = ""


def write_run(home: Path, run: Run) -> None:
    """Writes the file in one step, so that nobody reads half of it."""
    write_private(home / RUN_FILE, asdict(run))


def read_run(home: Path) -> Run | None:
    """What the file holds; None when NI does not run. Raises NiError when it is damaged."""
    document = read_private(home / RUN_FILE)
    if document is None:
        return None
    try:
        return Run(**{field.name: document[field.name] for field in fields(Run)})
    except KeyError as error:
        raise NiError(
            f"{home / RUN_FILE} lacks {error}: stop NI with `ni down`, then start it"
        ) from error


def remove_run(home: Path) -> None:
    """Removes the file if it is there."""
    (home / RUN_FILE).unlink(missing_ok=True)
