"""Files that only their owner may read: secrets and what holds them."""

from __future__ import annotations

import contextlib
import json
import os
import secrets
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final

from ni.errors import NiError
from ni.processes import file_lock

SECRETS: Final = "secrets.json"
LOCK_WAIT_S: Final = 30.0
PASSWORD_BYTES: Final = 32


def write_private(path: Path, document: Mapping[str, Any]) -> None:
    """Replaces `path` in one step by `document` as JSON, readable by its owner only."""
    new = path.with_name(f".{path.name}.{os.getpid()}")
    descriptor = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW, 0o600)
    try:
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            os.fchmod(file.fileno(), 0o600)
            json.dump(document, file, indent=2)
            file.write("\n")
            file.flush()
            os.fsync(file.fileno())
        new.replace(path)
    except BaseException:
        with contextlib.suppress(FileNotFoundError):
            new.unlink()
        raise


def read_private(path: Path) -> dict[str, Any] | None:
    """The JSON object in `path`; None when there is no such file.

    Raises NiError when it cannot be read or holds something else.
    """
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    except PermissionError as error:
        raise NiError(f"{path} is another user's: run ni as the user who started it") from error
    except ValueError as error:
        raise NiError(f"{path} is damaged ({error}); restore it from a copy") from error
    if not isinstance(document, dict):
        raise NiError(f"{path} is damaged (no JSON object); restore it from a copy")
    return document


def new_password() -> str:
    """256 random bits in characters that are safe in a URL."""
    return secrets.token_urlsafe(PASSWORD_BYTES)


class Secrets:
    """The secrets of one NI_HOME: `secrets.json`, sections of names and values."""

    def __init__(self, home: Path) -> None:
        self.path: Final = home / SECRETS
        self._lock = home / ".secrets.lock"

    def section(self, name: str) -> dict[str, str]:
        """A copy of a section; empty when there is none."""
        return dict((read_private(self.path) or {}).get(name, {}))

    def get_or_make(self, section: str, name: str, make: Callable[[], str] = new_password) -> str:
        """The value of `name`, made by `make` and kept when there is none yet."""
        with file_lock(self._lock, LOCK_WAIT_S):
            document = read_private(self.path) or {}
            values = document.setdefault(section, {})
            if name not in values:
                values[name] = make()
                write_private(self.path, document)
            value: str = values[name]
        return value

    def put(self, section: str, name: str, value: str) -> None:
        """Keeps `value` in place of what `name` was before."""
        with file_lock(self._lock, LOCK_WAIT_S):
            document = read_private(self.path) or {}
            document.setdefault(section, {})[name] = value
            write_private(self.path, document)
