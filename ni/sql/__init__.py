"""The named queries, one SQL file each: no SQL text stands in Python or is built from input."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Final

_FOLDER: Final = Path(__file__).resolve().parent


@cache
def query(name: str) -> str:
    """The text of `ni/sql/<name>.sql`.

    Raises FileNotFoundError for a name that has no file: a mistake in the program.
    """
    return (_FOLDER / f"{name}.sql").read_text(encoding="utf-8")
