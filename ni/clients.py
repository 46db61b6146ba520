"""Client systems: who may call NI, with which key and which scopes.

A key is shown once, when the client is added. The database keeps its SHA-256 only: a key has 256
random bits, so that nothing slower is needed to keep it from being found.
"""

from __future__ import annotations

import hashlib
import re
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from types import MappingProxyType
from typing import Final

import asyncpg

from ni.errors import NiError
from ni.sql import query

SCOPE_MEANING: Final[Mapping[str, str]] = MappingProxyType(
    {
        "balance:read": "read balances, holds and movements of an account, of all clients",
        "hold:write": "create, adjust and release holds; capture, together with posting:write",
        "posting:write": "create and cancel postings; batches",
        "posting:force": "record without asking the balance: check none, over_capture none",
        "posting:override": "pass blocks with a legal reference",
        "packet:unload": "unload and read own packets",
        "packet:accept": "accept or reject waiting packets of other clients",
        "problem:resolve": "list and resolve problems of any client",
        "day:operate": "close and open the day",
        "history:read": "ask what held and what was believed at an instant",
        "contract:read": "read service contracts",
        "contract:refresh": "refresh service contracts",
        "admin": "everything, and other clients' objects",
    }
)
"""Every scope with what it opens, in the order in which they are shown."""

SCOPES: Final[tuple[str, ...]] = tuple(SCOPE_MEANING)

_NAME: Final = re.compile(r"[A-Za-z0-9._-]{1,64}")
_KEY_PREFIX: Final = "ni_"
_KEY_BYTES: Final = 32


class ClientExists(NiError):
    """A client of that name is there already; its key cannot be shown again."""


@dataclass(frozen=True, slots=True)
class Client:
    """A calling system as operators see it: never with its key."""

    name: str
    scopes: tuple[str, ...]
    created_at: datetime
    disabled_at: datetime | None


def key_hash(key: str) -> bytes:
    """What the database keeps of a key: 32 bytes."""
    return hashlib.sha256(key.encode()).digest()


def check_scopes(scopes: Sequence[str]) -> list[str]:
    """The scopes without repeats, in SCOPES' order. Raises NiError for none or an unknown one."""
    unknown = sorted(set(scopes) - set(SCOPES))
    if unknown:
        raise NiError(f"there is no scope {', '.join(unknown)}; there are {', '.join(SCOPES)}")
    if not scopes:
        raise NiError(f"a client needs at least one scope of {', '.join(SCOPES)}")
    return [scope for scope in SCOPES if scope in scopes]


async def add_client(connection: asyncpg.Connection, name: str, scopes: Sequence[str]) -> str:
    """Adds a client and returns its key, which nothing can show again.

    Raises ClientExists when the name is taken, NiError when the name or a scope is not allowed.
    """
    if _NAME.fullmatch(name) is None:
        raise NiError(f"{name!r} cannot be a client's name: 1 to 64 of A-Z a-z 0-9 . _ -")
    allowed = check_scopes(scopes)
    key = _KEY_PREFIX + secrets.token_urlsafe(_KEY_BYTES)
    added = await connection.fetchval(query("client_add"), name, key_hash(key), allowed)
    if added is None:
        raise ClientExists(f"the client {name} exists already; its key cannot be shown again")
    return key


async def list_clients(connection: asyncpg.Connection) -> list[Client]:
    """All clients by name."""
    rows = await connection.fetch(query("client_list"))
    return [
        Client(row["client"], tuple(row["scopes"]), row["created_at"], row["disabled_at"])
        for row in rows
    ]


async def disable_client(connection: asyncpg.Connection, name: str) -> datetime:
    """Takes a client's key out of use; returns since when. Repeating it changes nothing.

    Raises NiError when there is no such client. A disabled client's movements stay as they are.
    """
    disabled_at: datetime | None = await connection.fetchval(query("client_disable"), name)
    if disabled_at is None:
        raise NiError(f"there is no client {name}")
    return disabled_at
