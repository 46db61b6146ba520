"""Reads of packets and problems. None names the core: by night they answer like by day."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any, Final
from uuid import UUID

from ni.documents import packet_document, posting_document, problem_document
from ni.movements import Posting
from ni.reads import Page, Reads
from ni.sql import query

UNLOADS_SHOWN_MAX: Final = 100
NAMES_LOOKED_AT_MAX: Final = 1_000
_BEGINNING: Final = (datetime(1, 1, 1, tzinfo=UTC), UUID(int=0))


class PacketReads:
    """Reads packets and problems through the pools of `Reads`."""

    def __init__(self, reads: Reads) -> None:
        self._reads = reads

    async def packet(self, client: str, packet: str) -> str | None:
        """The document of a packet; None: no posting has ever named it."""
        rows = await self._reads.fetch(query("packet_read"), client, packet)
        if not rows:
            return None
        runs = await self._reads.fetch(query("packet_unloads"), client, packet, UNLOADS_SHOWN_MAX)
        row = rows[0]
        counts = json.loads(row["counts"] or "{}") | {
            "booked": int(row["booked"]),
            "cancelled": row["cancelled"],
        }
        totals = _totals(row["totals"])
        for currency, booked in _totals(row["booked_totals"]).items():
            totals[currency] = totals.get(currency, 0) + booked
        return packet_document(
            client, packet, counts, totals, [dict(run) for run in runs], row["created_at"]
        )

    async def packets(
        self, client: str, status: str | None, after: str, size: int
    ) -> tuple[list[str], str | None]:
        """Documents of a client's packets by name, and the name after which more follow.

        With a status a page may be short: it looks at NAMES_LOOKED_AT_MAX packets at most.
        """
        looking = size + 1 if status is None else max(size + 1, NAMES_LOOKED_AT_MAX)
        named = "packet_names" if status in (None, "booked") else "packet_names_unbooked"
        [row] = await self._reads.fetch(query(named), client, after, status, looking)
        names = row["packets"][:size]
        documents = [await self.packet(client, name) for name in names]
        last: str | None = row["last"] if row["looked_at"] == looking else None
        if len(row["packets"]) > size:
            last = names[-1]
        return [document for document in documents if document is not None], last

    async def postings(
        self, client: str, packet: str, status: str | None, before: UUID | None, size: int
    ) -> Page | None:
        """The postings of a packet, newest first; None: no posting has ever named it."""
        if not await self._reads.fetch(query("packet_exists"), client, packet):
            return None
        rows = await self._reads.fetch(
            query("packet_postings"), client, packet, status, before, size + 1
        )
        postings = [Posting(*row[1:]) for row in rows]
        documents = [posting_document(posting) for posting in postings[:size]]
        next_id = postings[size - 1].posting_id if len(postings) > size else None
        return Page(documents, next_id)

    async def problems(
        self,
        client: str | None,
        status: str | None,
        after: tuple[datetime, UUID] | None,
        size: int,
    ) -> tuple[list[str], tuple[datetime, UUID] | None]:
        """Documents of problems, oldest first, and the place after which more follow."""
        start = after or _BEGINNING
        rows = await self._reads.fetch(query("problems_read"), client, status, *start, size + 1)
        documents = [problem_document(dict(row)) for row in rows[:size]]
        if len(rows) <= size:
            return documents, None
        last = rows[size - 1]
        return documents, (last["raised_at"], last["posting_id"])


def _totals(text: Any) -> dict[str, int]:
    return {currency: int(total) for currency, total in json.loads(text or "{}").items()}
