"""The notifier's calls of the database, as role ni_sms: each is one short transaction."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Final
from uuid import UUID

import asyncpg

from ni.database import LOST_CONNECTION, EngineConnection
from ni.errors import NiError, Unavailable
from ni.sms.gateway import Message, Outcome
from ni.sql import query

if TYPE_CHECKING:
    from ni.database import Pool
    from ni.settings import Settings

COMMAND_MARGIN_S: Final = 1

SUBSCRIBERS: Final = "SELECT * FROM ni.sms_subscribers_v1($1)"
TAKE: Final = "SELECT * FROM ni.sms_take_v1($1, $2)"
LEASE: Final = "SELECT * FROM ni.sms_lease_v1($1, $2, $3, $4)"
SETTLE: Final = "SELECT ni.sms_settle_v1($1, $2, $3, $4, $5, $6, $7, $8)"
WAITING: Final = "SELECT ni.sms_waiting_v1($1)"
PRUNE: Final = "SELECT * FROM ni.sms_prune_v1($1, $2, $3, $4)"


@dataclass(frozen=True, slots=True)
class Subscriber:
    """Who wants which texts about an account, and since when."""

    account: str
    phone: str
    language: str
    types: frozenset[str]
    since: datetime


@dataclass(frozen=True, slots=True)
class NewMessage:
    """An event of a subscribed account, and its text in both forms; None: it is not told."""

    event_id: UUID
    account: str
    sequence: int | None
    type: str
    event_time: datetime
    phone: str
    language: str
    text: str | None
    late_text: str | None


async def open_sms_pool(settings: Settings) -> Pool:
    """The notifier's connections. Raises Unavailable, or NiError when no address is set."""
    if not settings.sms_database_url:
        raise NiError("the notifier has a role of its own: set NI_SMS_DATABASE_URL")
    limit_ms = settings.transaction_timeout_ms
    try:
        return await asyncpg.create_pool(
            settings.sms_database_url,
            min_size=1,
            max_size=settings.sms_sessions,
            max_inactive_connection_lifetime=0,
            connection_class=EngineConnection,
            timeout=settings.connect_timeout_ms / 1000,
            command_timeout=limit_ms / 1000 + COMMAND_MARGIN_S,
            server_settings={
                "application_name": "ni sms",
                "search_path": "pg_catalog",
                "default_transaction_isolation": "read committed",
                "lock_timeout": str(limit_ms // 2),
                "idle_in_transaction_session_timeout": str(settings.idle_in_transaction_timeout_ms),
                "transaction_timeout": str(limit_ms),
                "plan_cache_mode": "force_generic_plan",
                "enable_seqscan": "off",
                "enable_hashjoin": "off",
                "enable_mergejoin": "off",
                "jit": "off",
                "timezone": "UTC",
            },
        )
    except LOST_CONNECTION as error:
        raise Unavailable(f"PostgreSQL cannot be reached: {error}") from error


class Store:
    """The tables of texts. Every method raises what asyncpg raises."""

    def __init__(self, pool: Pool, settings: Settings) -> None:
        self._pool = pool
        self._settings = settings
        # A lease outlives the try that it is for: only a sender that has stopped loses one.
        self._lease_s = settings.sms_timeout_ms // 1000 + 1 + settings.sms_lease_s

    async def buckets(self) -> int:
        """The number of buckets of the database."""
        return int(await self._pool.fetchval(query("installation_read")))

    async def subscribers(self, accounts: Sequence[str]) -> dict[str, Subscriber]:
        """Who wants texts about these accounts, by account."""
        rows = await self._pool.fetch(SUBSCRIBERS, list(accounts))
        return {
            row["account"]: Subscriber(
                row["account"], row["phone"], row["language"], frozenset(row["types"]), row["since"]
            )
            for row in rows
        }

    async def take(self, messages: Sequence[NewMessage]) -> tuple[int, int]:
        """Keep what the inbox has not seen: how many that were, and how many were too old."""
        rows = [
            (m.event_id, m.account, m.sequence, m.type, m.event_time, m.phone, m.language, m.text,
             m.late_text)
            for m in messages
        ]  # fmt: skip
        row = await self._pool.fetchrow(TAKE, rows, self._settings.sms_age_max_s)
        assert row is not None
        return row["o_seen"], row["o_too_old"]

    async def lease(self, bucket: int, limit: int) -> list[Message]:
        """The next message of at most `limit` accounts whose turn it is."""
        gap_s = self._settings.sms_gap_max_s
        rows = await self._pool.fetch(LEASE, bucket, limit, self._lease_s, gap_s)
        return [
            Message(
                bucket, row["event_id"], row["account"], row["phone"], row["text"], row["tries"],
                row["failures"], row["lease"],
            )
            for row in rows
        ]  # fmt: skip

    async def settle(self, message: Message, outcome: Outcome, pause_ms: int) -> bool:
        """Note what became of a try. False: the lease had ended before."""
        return bool(
            await self._pool.fetchval(
                SETTLE, message.bucket, message.event_id, message.account, message.lease,
                outcome.status, outcome.reason, pause_ms, outcome.counts,
            )
        )  # fmt: skip

    async def waiting(self, most: int) -> int:
        """How many messages wait, counted up to `most`."""
        return int(await self._pool.fetchval(WAITING, most))

    async def prune(self) -> tuple[int, int, int]:
        """One step of forgetting: ids, messages and accounts that went."""
        settings = self._settings
        row = await self._pool.fetchrow(
            PRUNE, settings.sms_age_max_s, settings.sms_inbox_max, settings.sms_keep_days,
            settings.sms_prune_step,
        )  # fmt: skip
        assert row is not None
        return row["o_ids"], row["o_messages"], row["o_accounts"]
