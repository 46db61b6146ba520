"""The REST API as the commands call it: documents in and out, refusals as one plain line."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Final
from urllib.parse import quote, urlencode
from uuid import uuid4

from ni.cli.support import api_address
from ni.errors import NiError, Unavailable
from ni.rest_client import NoAnswer, RestClient
from ni.settings import load_settings

PAGE_SIZE: Final = 500
_MARGIN_S: Final = 10
_REFUSED_FROM: Final = 400

Query = Mapping[str, str | None]


class Api:
    """NI's API with one client's key."""

    def __init__(self, client: RestClient) -> None:
        self._client = client

    def get(self, path: str, query: Query | None = None) -> dict[str, Any]:
        """The document at `path`. Raises NiError with the problem's detail, or Unavailable."""
        return self._sent("GET", path, query, None, None)

    def post(
        self, path: str, body: Mapping[str, object], query: Query | None = None
    ) -> dict[str, Any]:
        """The answer to a request under a key of its own; fields that are None are left out.

        Raises NiError with the problem's detail, or Unavailable.
        """
        given = {name: value for name, value in body.items() if value is not None}
        return self._sent("POST", path, query, given, f"cli-{uuid4()}")

    def items(self, path: str, query: Query, limit: int) -> Iterator[dict[str, Any]]:
        """The first `limit` items of a list, page by page. Raises as `get` does."""
        token: str | None = None
        while limit > 0:
            paging = {"page_size": str(min(limit, PAGE_SIZE)), "page_token": token}
            page = self.get(path, {**query, **paging})
            yield from page["items"]
            limit -= len(page["items"])
            token = page.get("next_page_token")
            if token is None:
                return

    def _sent(
        self,
        method: str,
        path: str,
        query: Query | None,
        body: Mapping[str, object] | None,
        key: str | None,
    ) -> dict[str, Any]:
        asked = {name: value for name, value in (query or {}).items() if value is not None}
        whole = f"{path}?{urlencode(asked)}" if asked else path
        try:
            reply = self._client.send(method, whole, body, key)
        except NoAnswer as error:
            raise Unavailable(f"NI gave no answer ({error})") from error
        try:
            document = json.loads(reply.content)
        except ValueError as error:
            raise NiError(f"HTTP {reply.status} without JSON: that is not NI") from error
        if not isinstance(document, dict):
            raise NiError(f"HTTP {reply.status} without a JSON object: that is not NI")
        if reply.status >= _REFUSED_FROM:
            raise NiError(_refusal(document, reply.status))
        return document


@contextmanager
def open_api(
    client: str, base_url: str = "", key: str = "", *, timeout_s: int | None = None
) -> Iterator[Api]:
    """The API as `client`: as given, else as `ni up` noted it in run.json.

    An answer must come within `timeout_s`, by default the time of an unload.
    Raises NiError when address or key are not known.
    """
    url, secret = api_address(client, base_url, key)
    patience_s = timeout_s or load_settings().unload_timeout_s
    rest = RestClient(url, secret, timeout_s=patience_s + _MARGIN_S)
    try:
        yield Api(rest)
    finally:
        rest.close()


def segment(text: str) -> str:
    """A name as a part of a path, whatever is in it."""
    return quote(text, safe="")


def _refusal(document: Mapping[str, Any], status: int) -> str:
    """The problem in one line: its detail, and which fields are wrong."""
    detail = str(document.get("detail") or document.get("title") or f"HTTP {status}")
    errors = [f"{one.get('field')} {one.get('message')}" for one in document.get("errors", ())]
    return " ".join("; ".join((detail, *errors)).split())
