"""The SQL of these tests."""

from pathlib import Path


def statement(name: str) -> str:
    """The text of `<name>.sql` beside this file."""
    return (Path(__file__).with_name(name).with_suffix(".sql")).read_text(encoding="utf-8")
