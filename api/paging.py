"""Pages of lists: their size, and tokens that say where the next begins."""

from __future__ import annotations

import re
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Callable, Sequence
from typing import Final, TypeVar

from api.calls import Call
from api.problems import ProblemError
from api.replies import Reply
from ni.decisions import Decision

_TOKEN: Final = re.compile(r"[A-Za-z0-9_-]{1,200}", re.ASCII)
_Place = TypeVar("_Place")


def invalid(field: str, message: str) -> ProblemError:
    """A parameter that is not valid."""
    return ProblemError(Decision.validation_failed, errors=[{"field": field, "message": message}])


def page_of(
    call: Call, query: dict[str, str], place_of: Callable[[bytes], _Place]
) -> tuple[int, _Place | None]:
    """The page's size and the place that its token names. Raises ProblemError."""
    settings = call.services.settings
    size = query.get("page_size", str(settings.page_size_default))
    if not (size.isascii() and size.isdigit() and 1 <= int(size[:9]) <= settings.page_size_max):
        raise invalid("page_size", f"must be a number from 1 to {settings.page_size_max}")
    token = query.get("page_token")
    if token is None:
        return int(size), None
    if not _TOKEN.fullmatch(token):
        raise invalid("page_token", "is not one that NI gave")
    try:
        padded = token + "=" * (-len(token) % 4)
        return int(size), place_of(urlsafe_b64decode(padded))
    except ValueError as error:
        raise invalid("page_token", "is not one that NI gave") from error


def paged(documents: Sequence[str], next_place: bytes | None) -> Reply:
    """A page of documents; `next_place` is where the next begins, if there is one."""
    token = ""
    if next_place is not None:
        text = urlsafe_b64encode(next_place).decode().rstrip("=")
        token = f',"next_page_token":"{text}"'
    return Reply(200, f'{{"items":[{",".join(documents)}]{token}}}'.encode())
