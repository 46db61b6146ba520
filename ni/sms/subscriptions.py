"""Who wants texts, and what has become of them: what operators ask and change, as ni_owner."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final
from uuid import UUID

import asyncpg

from ni.errors import NiError
from ni.sms.texts import LANGUAGES, TYPES
from ni.sql import query

STATUSES: Final = ("waiting", "sent", "kept", "dead")
ROWS_MAX: Final = 1_000

_ACCOUNT: Final = re.compile(r"[A-Z0-9-]{1,34}")
_PHONE: Final = re.compile(r"\+[1-9][0-9]{6,14}", re.ASCII)
_SUBSCRIBE: Final = "SELECT ni.sms_subscribe_v1($1, $2, $3, $4)"
_UNSUBSCRIBE: Final = "SELECT ni.sms_unsubscribe_v1($1)"
_REVIVE: Final = "SELECT ni.sms_revive_v1($1, $2, $3, $4)"


@dataclass(frozen=True, slots=True)
class Subscription:
    """Who wants which texts about an account."""

    account: str
    phone: str
    language: str
    types: tuple[str, ...]
    since: datetime


@dataclass(frozen=True, slots=True)
class ShownMessage:
    """A message as operators see it."""

    event_id: UUID
    account: str
    event_time: datetime
    phone: str
    text: str
    status: str
    reason: str | None
    tries: int


async def subscribe(
    connection: asyncpg.Connection,
    account: str,
    phone: str,
    language: str,
    types: Sequence[str] = TYPES,
) -> datetime:
    """Want texts about an account, in place of what was wanted before; since when it is wanted.

    Events from before that instant are not told. Texts that wait go to the new number, but for
    those that have been tried: they are dead. Raises NiError for a malformed account or phone
    number and for an unknown language or type.
    """
    _check_account(account)
    if _PHONE.fullmatch(phone) is None:
        raise NiError("a phone number is written like +420601234567: +, country, number")
    if language not in LANGUAGES:
        raise NiError(f"NI writes {', '.join(LANGUAGES)}, not {language!r}")
    unknown = sorted(set(types) - set(TYPES))
    if unknown or not types:
        wrong = f"not {', '.join(unknown)}" if unknown else "at least one of them"
        raise NiError(f"a customer can be told of {', '.join(TYPES)}; {wrong}")
    wanted = [name for name in TYPES if name in types]
    since: datetime = await connection.fetchval(_SUBSCRIBE, account, phone, language, wanted)
    return since


async def unsubscribe(connection: asyncpg.Connection, account: str) -> None:
    """Want no texts about an account; what waits is sent yet. Raises NiError when none was."""
    _check_account(account)
    if not await connection.fetchval(_UNSUBSCRIBE, account):
        raise NiError(f"nobody wants texts about {account}")


async def list_subscriptions(
    connection: asyncpg.Connection, after: str, limit: int
) -> list[Subscription]:
    """The subscriptions in the order of their accounts, after one, at most `limit`."""
    rows = await connection.fetch(query("sms_subscriptions"), after, limit)
    return [
        Subscription(
            row["account"], row["phone"], row["language"], tuple(row["types"]), row["since"]
        )
        for row in rows
    ]


async def list_messages(
    connection: asyncpg.Connection, account: str | None, status: str | None, limit: int
) -> list[ShownMessage]:
    """The newest messages first, of one account or all, with one status or any.

    Raises NiError for a malformed account or an unknown status.
    """
    if account is not None:
        _check_account(account)
    if status is not None and status not in STATUSES:
        raise NiError(f"a message is {', '.join(STATUSES)}, not {status!r}")
    rows = await connection.fetch(query("sms_messages"), account, status, limit)
    return [
        ShownMessage(
            row["event_id"], row["account"], row["event_time"], row["phone"], row["text"],
            row["status"], row["reason"], row["tries"],
        )
        for row in rows
    ]  # fmt: skip


async def revive(
    connection: asyncpg.Connection,
    event_id: UUID | None,
    age_max_s: int,
    limit: int,
    *,
    old: bool = False,
) -> int:
    """Let dead messages be tried again, one or (None) at most `limit`; how many that are.

    What is older than `age_max_s` seconds stays dead, unless `old` is set, and so does what was for
    another phone number than the one that is wanted now. Raises NiError when `old` is asked for
    without naming the event.
    """
    if old and event_id is None:
        raise NiError("old texts are tried again one by one: name the event")
    return int(await connection.fetchval(_REVIVE, event_id, age_max_s, limit, old))


def _check_account(account: str) -> None:
    if _ACCOUNT.fullmatch(account) is None:
        raise NiError(f"{account!r} is no account number: 1 to 34 of A-Z 0-9 -")
