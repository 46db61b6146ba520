"""Small bank statements for the replay's tests."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from ni.replay.statement import COLUMNS

HEADER = ",".join(COLUMNS)

SMALL = (
    "1,1993-01-04,ACC-1,credit,VKLAD,,700.00,700.00,,",
    "2,1993-01-04,ACC-2,debit,VYBER,,150.00,850.00,,",
    "3,1993-01-05,ACC-1,debit,PREVOD NA UCET,SIPO,200.50,499.50,AB,123",
    "4,1993-01-05,ACC-2,credit,PREVOD Z UCTU,DUCHOD,50.00,900.00,YZ,99",
    "5,1993-01-06,ACC-1,debit,VYBER KARTOU,,499.50,0.00,,",
    "6,1993-01-06,ACC-2,debit,VYBER,,1000.00,-100.00,,",
    "7,1993-01-08,ACC-2,debit,VYBER,SANKC. UROK,0.20,-100.20,,",
    "8,1993-01-08,ACC-1,credit,,UROK,1.00,1.00,,",
    "9,1993-01-08,ACC-1,debit,VYBER,SLUZBY,14.60,-13.60,,",
)
"""Two accounts; ACC-2 opens with 1,000.00. The deepest overdrafts are 13.60 and 100.20."""


def write_statement(folder: Path, lines: Iterable[str] = SMALL) -> Path:
    """A statement file of these lines."""
    path = folder / "statement.csv"
    path.write_text("".join(f"{line}\n" for line in (HEADER, *lines)), encoding="utf-8")
    return path
