"""Writes `ni/currencies.py` from the development package `iso4217`.

    python tools/generate_currencies.py          writes the file
    python tools/generate_currencies.py --check  exits 1 when the file is not what would be written

The package follows the ISO 4217 list of the maintenance agency; NI itself needs only the table.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Final

from iso4217 import Currency

TARGET: Final = Path(__file__).resolve().parent.parent / "ni" / "currencies.py"

HEAD: Final = '''"""Minor digits of the ISO 4217 currencies: see tools/generate_currencies.py.

Codes without a minor unit (metals, testing codes, units of account) are not currencies of NI.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

MINOR_DIGITS: Final[Mapping[str, int]] = MappingProxyType(
    {
'''
TAIL: Final = '''    }
)
"""Currency code → number of decimals of its amounts."""
'''


def minor_digits() -> dict[str, int]:
    """Every currency code of the package that has a minor unit, with its number of decimals."""
    return {
        currency.code: currency.exponent
        for currency in sorted(Currency, key=lambda currency: str(currency.code))
        if currency.exponent is not None
    }


def render() -> str:
    """The text of `ni/currencies.py`."""
    lines = [f'        "{code}": {digits},\n' for code, digits in minor_digits().items()]
    return HEAD + "".join(lines) + TAIL


def main(arguments: list[str]) -> int:
    """Writes the table, or with --check compares it; the exit code tells."""
    text = render()
    if "--check" in arguments:
        return 0 if TARGET.read_text(encoding="utf-8") == text else 1
    TARGET.write_text(text, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
