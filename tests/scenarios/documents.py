"""The examples of a document: what it tells the reader to type, and what it says comes back.

A block of commands that follows `<!-- tried -->` is run; a `text` block right after it is what the
commands print. What differs from run to run (ids, instants, durations) is masked before the two are
compared.
"""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

_TRIED: Final = re.compile(
    r"^<!-- tried -->\n```sh\n(?P<commands>.*?)^```\n(?:\n?```text\n(?P<output>.*?)^```\n)?",
    re.MULTILINE | re.DOTALL,
)
_MASKS: Final = (
    (re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}"), "<id>"),
    (re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z"), "<instant>"),
    (re.compile(r"\d{4}-\d\d-\d\d \d\d:\d\d(:\d\d)?"), "<instant>"),
    (re.compile(r"[\d,]+(\.\d+)? (?=s\b|ms\b|rows/s)"), "<number> "),
    (re.compile(r"\bni_[\w-]{43}"), "<key>"),
    (re.compile(r"127\.0\.0\.1:\d+"), "<address>"),
)
_END: Final = "-- end of block --"
LIMIT_SECONDS: Final = 60


@dataclass(frozen=True)
class Example:
    """A block of commands and its recorded output, None where the document shows none."""

    commands: str
    output: str | None


def examples(document: Path) -> list[Example]:
    """The examples of a document in their order."""
    text = document.read_text(encoding="utf-8")
    found = [Example(match["commands"], match["output"]) for match in _TRIED.finditer(text)]
    assert len(found) == text.count("<!-- tried -->"), "a mark stands before something else"
    return found


def run(found: list[Example], folder: Path, environment: Mapping[str, str]) -> list[str]:
    """Type the commands into one shell, in `folder`; what each block prints."""
    script = "".join(f"{example.commands}\necho '{_END}'\n" for example in found)
    done = subprocess.run(
        ["/bin/sh", "-eu"],
        input=script,
        cwd=folder,
        env=os.environ | environment,
        capture_output=True,
        text=True,
        timeout=LIMIT_SECONDS,
        check=False,
    )
    outputs = done.stdout.split(f"{_END}\n")
    assert done.returncode == 0, f"{done.stderr}\nafter: {outputs[-1]}"
    return outputs[:-1]


def masked(output: str) -> str:
    """An output without what differs from run to run."""
    for pattern, mask in _MASKS:
        output = pattern.sub(mask, output)
    return output.strip()
