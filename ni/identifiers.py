"""Identifiers: UUIDv7 made from the change's instant, with the bucket in the last 16 bits.

48 bits of milliseconds and 12 of the fraction come from the one instant per change, so that per
account the order of ids is the order of changes (RFC 9562, section 6.2, method 3). 46 bits are
random; the last 16 name the bucket in which the row lives.
"""

from __future__ import annotations

from typing import Final
from uuid import UUID
from zlib import crc32

from asyncpg.pgproto import pgproto

_VERSION_7: Final = 7 << 76
_VARIANT: Final = 0b10 << 62
_RANDOM_MASK: Final = (1 << 46) - 1
RANDOM_BITS: Final = 46


def bucket_of(account: str, buckets: int) -> int:
    """The bucket in which everything of an account lives: crc32 of its UTF-8 text."""
    return crc32(account.encode()) % buckets if buckets > 1 else 0


def make_id(instant_us: int, salt: int, bucket: int) -> UUID:
    """An id for the change at `instant_us` (microseconds since 1970, UTC).

    `salt` gives the random bits; ids of one instant must not share it.
    """
    milliseconds, fraction_us = divmod(instant_us, 1000)
    fraction = (fraction_us << 12) // 1000
    number = (
        milliseconds << 80
        | _VERSION_7
        | fraction << 64
        | _VARIANT
        | (salt & _RANDOM_MASK) << 16
        | bucket
    )
    return pgproto.UUID(number.to_bytes(16))


def bucket_of_id(identifier: UUID) -> int:
    """The bucket that an id names; of a foreign id it may be one that does not exist."""
    return identifier.int & 0xFFFF


def floor_before(identifier: UUID, seconds: int) -> UUID:
    """The least id of the instant `seconds` before that of `identifier`."""
    milliseconds = max(0, (identifier.int >> 80) - seconds * 1000)
    return pgproto.UUID((milliseconds << 80).to_bytes(16))


def parse_id(text: str) -> UUID | None:
    """The id written in `text` in canonical form, or None when it is malformed."""
    if len(text) != 36:
        return None
    try:
        identifier = UUID(text)
    except ValueError:
        return None
    return identifier if str(identifier) == text.lower() else None
