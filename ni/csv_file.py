"""Reading a CSV file of any size, plain or gzip, line by line and strictly."""

from __future__ import annotations

import csv
import gzip
import hashlib
import io
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final

from ni.errors import NiError

LINE_CHARACTERS_MAX: Final = 10_000
_GZIP_MAGIC: Final = b"\x1f\x8b"
_BLOCK_BYTES: Final = 1 << 20
_UNREADABLE: Final = (OSError, EOFError, zlib.error, UnicodeDecodeError, csv.Error)


class CsvFile:
    """One pass over a file whose first line names exactly `columns`.

    Iterate over `rows()`; `position` of `size` bytes (as stored, so compressed ones) were read.
    """

    def __init__(self, path: Path, columns: Sequence[str]) -> None:
        self.path = path
        self.columns = tuple(columns)
        self.position = 0
        self.size = 0

    def rows(self) -> Iterator[tuple[int, list[str]]]:
        """Line number and fields of each line after the first; empty lines are left out.

        A line may have any number of fields: what that means is the caller's. Raises NiError, with
        the line number, when the file cannot be read as UTF-8 CSV or its first line is another.
        """
        line = 0
        try:
            with self.path.open("rb") as raw, _text(raw) as text:
                self.size = self.path.stat().st_size
                reader = csv.reader(_lines(text), strict=True)
                self._check_header(next(reader, []))
                for fields in reader:
                    line = reader.line_num
                    self.position = raw.tell()
                    if fields:
                        yield line, fields
                self.position = self.size
        except _UNREADABLE as error:
            place = f"{self.path}, after line {line}" if line else f"{self.path}"
            raise NiError(f"{place}: {_reason(error)}") from error

    def _check_header(self, header: list[str]) -> None:
        if tuple(header) != self.columns:
            raise NiError(f"{self.path}: the first line must be {','.join(self.columns)}")


def content_hash(path: Path) -> str:
    """SHA-256 of the content, the same for a file and its gzip, as 64 hexadecimal digits."""
    digest = hashlib.sha256()
    try:
        with path.open("rb") as raw, _content(raw) as content:
            while block := content.read(_BLOCK_BYTES):
                digest.update(block)
    except _UNREADABLE as error:
        raise NiError(f"{path}: {_reason(error)}") from error
    return digest.hexdigest()


def _content(raw: io.BufferedReader) -> io.BufferedReader | gzip.GzipFile:
    if raw.peek(len(_GZIP_MAGIC)).startswith(_GZIP_MAGIC):
        return gzip.GzipFile(fileobj=raw, mode="rb")
    return raw


def _text(raw: io.BufferedReader) -> io.TextIOWrapper:
    return io.TextIOWrapper(_content(raw), encoding="utf-8-sig", newline="")


def _lines(text: io.TextIOWrapper) -> Iterator[str]:
    while line := text.readline(LINE_CHARACTERS_MAX):
        if len(line) == LINE_CHARACTERS_MAX and not line.endswith("\n"):
            raise csv.Error(f"the next line is longer than {LINE_CHARACTERS_MAX} characters")
        yield line


def _reason(error: Exception) -> str:
    if isinstance(error, UnicodeDecodeError):
        return "the text is not UTF-8"
    if isinstance(error, EOFError | zlib.error):
        return "the compressed file is damaged or not complete"
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return str(error)
