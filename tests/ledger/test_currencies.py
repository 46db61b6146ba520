"""The generated currency table is the package's, and the generator says so."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from iso4217 import Currency

from ni.currencies import MINOR_DIGITS

ROOT = Path(__file__).parents[2]


def test_the_table_equals_iso_4217() -> None:
    expected = {
        currency.code: currency.exponent for currency in Currency if currency.exponent is not None
    }
    assert dict(MINOR_DIGITS) == expected


def test_known_currencies() -> None:
    assert [MINOR_DIGITS[code] for code in ("CZK", "JPY", "KWD", "CLF", "HUF")] == [2, 0, 3, 4, 2]
    assert "XAU" not in MINOR_DIGITS
    assert "XXX" not in MINOR_DIGITS


def test_the_file_is_what_the_generator_writes() -> None:
    script = ROOT / "tools" / "generate_currencies.py"
    assert subprocess.run([sys.executable, script, "--check"], check=False).returncode == 0
