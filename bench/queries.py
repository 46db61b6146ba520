"""The named queries of the benchmark."""

from pathlib import Path

SQL = Path(__file__).resolve().parent / "sql"


def query(name: str) -> str:
    """Return the text of `bench/sql/<name>.sql`."""
    return (SQL / f"{name}.sql").read_text()
