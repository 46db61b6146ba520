"""One request, sent until it is answered or patience ends, always with the same key."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from secrets import SystemRandom
from typing import Any, Final

from ni.clock import monotonic
from ni.errors import NiError, Unavailable
from ni.replay.rest import Door
from ni.rest_client import NoAnswer, Reply

PATIENCE_S: Final = 60
"""How long a request is tried again before the replay gives up."""

BACKOFF_FIRST_S: Final = 0.05
BACKOFF_MAX_S: Final = 5.0

SCOPES: Final = ("posting:write", "posting:force", "packet:unload", "balance:read")

_TRY_AGAIN: Final = frozenset({429, 502, 503, 504})
_NO_RIGHT: Final = frozenset({401, 403})
_random: Final = SystemRandom()


@dataclass(frozen=True, slots=True)
class Answer:
    """What NI answered at last; latency of that try alone, in microseconds."""

    status: int
    document: Mapping[str, Any]
    replayed: bool
    latency_us: int
    retries: int


class Sender:
    """Sends requests through `door`. `patience_s` limits the retries of each.

    `scopes` are those that the key needs, for whoever has to be told.
    """

    def __init__(
        self, door: Door, *, patience_s: float = PATIENCE_S, scopes: Sequence[str] = SCOPES
    ) -> None:
        self._door = door
        self._scopes = scopes
        self._patience_s = patience_s
        self._hurry = asyncio.Event()

    def hurry(self) -> None:
        """From now on nothing is tried again: what is not answered raises Unavailable."""
        self._hurry.set()

    async def post(self, path: str, body: Mapping[str, object], key: str) -> Answer:
        """The answer to one request, approved or refused. Raises as `get` does."""
        return await self._sent("POST", path, body, key)

    async def get(self, path: str) -> Answer:
        """The answer to one question.

        Overload, an unreachable server and a broken connection are tried again with growing
        pauses. Raises Unavailable when patience ends, NiError when the key has no right.
        """
        return await self._sent("GET", path, None, None)

    async def _sent(
        self, method: str, path: str, body: Mapping[str, object] | None, key: str | None
    ) -> Answer:
        deadline = monotonic() + self._patience_s
        retries = 0
        while True:
            try:
                reply = await self._door.send(method, path, body, key)
            except NoAnswer as error:
                trouble, pause_s = str(error), 0.0
            else:
                if reply.status not in _TRY_AGAIN:
                    return _answer(reply, retries, self._scopes)
                trouble, pause_s = f"HTTP {reply.status}", _retry_after_s(reply)
            pause_s = max(pause_s, _backoff_s(retries))
            if self._hurry.is_set() or monotonic() + pause_s > deadline:
                raise Unavailable(f"NI gave no answer ({trouble}); run the replay again later")
            retries += 1
            await self._pause(pause_s)

    async def _pause(self, seconds: float) -> None:
        try:
            async with asyncio.timeout(seconds):
                await self._hurry.wait()
        except TimeoutError:
            return


def _answer(reply: Reply, retries: int, scopes: Sequence[str]) -> Answer:
    try:
        document = json.loads(reply.content)
    except ValueError as error:
        raise NiError(f"HTTP {reply.status} without JSON: that is not NI") from error
    if not isinstance(document, dict):
        raise NiError(f"HTTP {reply.status} without a JSON object: that is not NI")
    if reply.status in _NO_RIGHT:
        raise NiError(
            f"NI refused the key: {document.get('detail')}. "
            f"Replaying needs the scopes {', '.join(scopes)}"
        )
    return Answer(reply.status, document, reply.replayed, reply.latency_us, retries)


def _retry_after_s(reply: Reply) -> float:
    text = reply.retry_after
    return min(float(text), BACKOFF_MAX_S) if text.isascii() and text.isdecimal() else 0.0


def _backoff_s(retries: int) -> float:
    longest = min(BACKOFF_MAX_S, BACKOFF_FIRST_S * (1 << min(retries, 16)))
    return longest * _random.uniform(0.5, 1.0)
