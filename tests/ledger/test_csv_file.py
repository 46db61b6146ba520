"""CSV files are read strictly, as a stream, plain or gzip, and errors name the line."""

from __future__ import annotations

import gzip
from pathlib import Path

import pytest

from ni.csv_file import LINE_CHARACTERS_MAX, CsvFile, content_hash
from ni.errors import NiError

TEXT = b'a,b\n1,2\n\n"x, y","say ""no"""\n'
ROWS = [(2, ["1", "2"]), (4, ["x, y", 'say "no"'])]


def written(folder: Path, content: bytes) -> Path:
    path = folder / "file.csv"
    path.write_bytes(content)
    return path


def read(path: Path) -> list[tuple[int, list[str]]]:
    return list(CsvFile(path, ("a", "b")).rows())


@pytest.mark.parametrize(
    "content",
    [TEXT, gzip.compress(TEXT), b"\xef\xbb\xbf" + TEXT, TEXT.replace(b"\n", b"\r\n")],
    ids=["plain", "gzip", "byte order mark", "CRLF"],
)
def test_rows_with_line_numbers(tmp_path: Path, content: bytes) -> None:
    file = CsvFile(written(tmp_path, content), ("a", "b"))
    assert list(file.rows()) == ROWS
    assert file.position == file.size == len(content)


def test_a_file_and_its_gzip_have_one_hash(tmp_path: Path) -> None:
    plain = content_hash(written(tmp_path, TEXT))
    assert content_hash(written(tmp_path, gzip.compress(TEXT))) == plain
    assert content_hash(written(tmp_path, TEXT + b"3,4\n")) != plain


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "the first line must be a,b"),
        (b"b,a\n1,2\n", "the first line must be a,b"),
        (b"a,b,c\n1,2,3\n", "the first line must be a,b"),
        (b'a,b\n1,2\n1,"2\n', "after line 2: unexpected end of data"),
        (b'a,b\n1,2\n1,"2"3\n', "after line 2: "),
        (b"a,b\n" + b"x" * (LINE_CHARACTERS_MAX + 1), "after line 0|longer than 10000 characters"),
        (b"a,b\n\xff,2\n", "the text is not UTF-8"),
        (gzip.compress(TEXT)[:-9], "the compressed file is damaged or not complete"),
        (gzip.compress(TEXT)[:-1] + b"x", "CRC|length|damaged"),
        (b"\x1f\x8bnonsense", "damaged|method"),
    ],
    ids=[
        "empty",
        "other order",
        "more columns",
        "open quote",
        "text after quote",
        "long line",
        "not UTF-8",
        "cut gzip",
        "changed gzip",
        "no gzip",
    ],
)
def test_what_cannot_be_read_is_told_plainly(tmp_path: Path, content: bytes, message: str) -> None:
    path = written(tmp_path, content)
    with pytest.raises(NiError, match=message) as caught:
        read(path)
    assert str(path) in str(caught.value)


def test_no_file(tmp_path: Path) -> None:
    for use in (read, content_hash):
        with pytest.raises(NiError, match="nowhere: No such file"):
            use(tmp_path / "nowhere")


def test_a_damaged_gzip_has_no_hash(tmp_path: Path) -> None:
    with pytest.raises(NiError, match="damaged"):
        content_hash(written(tmp_path, gzip.compress(TEXT)[:-9]))
