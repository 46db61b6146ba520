"""A limit on each client's requests, shared by all API processes through Valkey.

A process takes allowances of a second in pieces, so that the hot path asks Valkey once in many
requests. Without Valkey each process keeps the limit by itself: it slows callers down, it never
decides about money.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

import structlog
from redis.asyncio import Redis
from redis.exceptions import RedisError

from ni import clock

if TYPE_CHECKING:
    from ni.settings import Settings

PIECES: Final = 20
"""A second's allowance is taken in this many pieces."""
PAUSE_AFTER_ERROR_S: Final = 5
KEY_LIFETIME_S: Final = 3

log = structlog.get_logger()


@dataclass(slots=True)
class _Allowance:
    second: int = -1
    left: int = 0
    spent: bool = False
    taking: asyncio.Lock = field(default_factory=asyncio.Lock)


class RateLimit:
    """Admits requests of a client up to the setting's number in each second."""

    def __init__(self, settings: Settings) -> None:
        self._limit = settings.rate_limit_per_s
        self._piece = max(1, self._limit // PIECES)
        self._timeout_s = settings.redis_timeout_ms / 1000
        self._allowances: dict[str, _Allowance] = {}
        self._quiet_until = float("-inf")
        self._redis: Redis | None = None
        if settings.redis_url and self._limit:
            self._redis = Redis.from_url(
                settings.redis_url,
                socket_timeout=self._timeout_s,
                socket_connect_timeout=self._timeout_s,
            )

    async def admits(self, client: str) -> bool:
        """Whether this client may make one more request in this second."""
        if not self._limit:
            return True
        allowance = self._allowances.setdefault(client, _Allowance())
        while True:
            self._turn(allowance)
            if allowance.left:
                allowance.left -= 1
                return True
            if allowance.spent:
                return False
            async with allowance.taking:
                await self._take_piece(client, allowance)

    @staticmethod
    def _turn(allowance: _Allowance) -> None:
        """A new second is a new allowance."""
        second = clock.unix_second()
        if allowance.second != second:
            allowance.second, allowance.left, allowance.spent = second, 0, False

    async def _take_piece(self, client: str, allowance: _Allowance) -> None:
        """Take a piece of the second, unless whoever was here before has taken enough."""
        self._turn(allowance)
        if allowance.left or allowance.spent:
            return
        second = allowance.second
        taken = await self._count(f"ni:rate:{client}:{second}")
        if allowance.second != second:
            return
        if taken is None:
            allowance.left, allowance.spent = self._limit, True
        elif taken <= self._limit:
            allowance.left = self._piece
        else:
            allowance.spent = True

    async def _count(self, key: str) -> int | None:
        """What all processes have taken of this second, or None when Valkey is away."""
        if self._redis is None or clock.monotonic() < self._quiet_until:
            return None
        try:
            async with asyncio.timeout(self._timeout_s):
                taken = int(await self._redis.incrby(key, self._piece))
                if taken == self._piece:
                    await self._redis.expire(key, KEY_LIFETIME_S)
                return taken
        except (RedisError, OSError, TimeoutError, ValueError) as error:
            self._quiet_until = clock.monotonic() + PAUSE_AFTER_ERROR_S
            log.warning("rate_limit_without_valkey", error=type(error).__name__)
            return None

    async def close(self) -> None:
        """Close the connection to Valkey."""
        if self._redis is not None:
            await self._redis.aclose()
