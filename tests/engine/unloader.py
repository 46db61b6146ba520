"""A stand-in for the unloading of packets: the core books postings in one commit with `applied`."""

from __future__ import annotations

from collections import defaultdict

import asyncpg

_TAKE = (
    "select * from ni.posting where packet = $1 and status = 'pending'"
    " order by posting_id limit $2 for update"
)
_APPLY = (
    "insert into ni.applied as a select ni.bucket_of(n.account), n.account, n.net"
    " from unnest($1::text[], $2::bigint[]) as n (account, net) order by n.account"
    " on conflict (bucket, account) do update set applied = a.applied + excluded.applied"
)


async def unload(session: asyncpg.Connection, packet: str = "p", limit: int = 100_000) -> int:
    """Book what is pending in `packet`, in one transaction; how many postings that were."""
    async with session.transaction():
        rows = await session.fetch(_TAKE, packet, limit)
        await _book(session, rows)
    return len(rows)


async def _book(session: asyncpg.Connection, rows: list[asyncpg.Record]) -> None:
    customers: defaultdict[str, int] = defaultdict(int)
    others: defaultdict[str, int] = defaultdict(int)
    for row in rows:
        if row["home"]:
            debits = customers if row["debit_customer"] else others
            debits[row["debit_account"]] -= row["amount"]
            gains = customers if row["credit_customer"] else others
            gains[row["credit_account"]] += row["amount"]
    await _add_to_balances(session, customers)
    await session.execute(_APPLY, list(customers), list(customers.values()))
    await session.execute(
        "update ni.posting set status = 'booked'"
        " where posting_id = any ($1) and status = 'pending'",
        [row["posting_id"] for row in rows],
    )
    await session.execute(
        "delete from ni.unbooked where posting_id = any ($1)", [row["posting_id"] for row in rows]
    )
    await _add_to_balances(session, others)


async def _add_to_balances(session: asyncpg.Connection, nets: dict[str, int]) -> None:
    await session.execute(
        "select from core.account where account = any ($1) order by account for no key update",
        list(nets),
    )
    await session.execute(
        "update core.account as a set balance = balance + n.net"
        " from unnest($1::text[], $2::bigint[]) as n (account, net) where a.account = n.account",
        list(nets),
        list(nets.values()),
    )
