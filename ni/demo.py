"""The demo: five client systems and a small bank, so that a first start has something to show."""

from __future__ import annotations

from datetime import date
from pathlib import Path
from types import MappingProxyType
from typing import Final

from ni.clients import ClientExists, add_client, key_hash
from ni.core_ledger import business_dates, core_session, load_accounts, set_business_date
from ni.errors import BrokenPromise
from ni.private_file import Secrets
from ni.server_home import Tell
from ni.session import connected
from ni.sql import query

BANK: Final = Path(__file__).resolve().parent / "demo_bank.csv"
BUSINESS_DATE: Final = date(1993, 1, 4)
_MONEY: Final = ("balance:read", "hold:write", "posting:write", "posting:force", "packet:unload")
CLIENTS: Final = MappingProxyType(
    {
        "cash": _MONEY,
        "payments": _MONEY,
        "cards": _MONEY,
        "operator": ("admin",),
        "approver": ("balance:read", "packet:accept", "problem:resolve", "history:read"),
    }
)


async def add_demo_clients(owner_dsn: str, secrets: Secrets, tell: Tell) -> dict[str, str]:
    """The demo clients' keys by name; those of an earlier start are used again.

    A client whose key is known no more is told of and left out: keys cannot be shown again.
    """
    keys = {}
    known = secrets.section("keys")
    async with connected(owner_dsn) as connection:
        for name, scopes in CLIENTS.items():
            key = known.get(name, "")
            hashed = key_hash(key)
            if not await connection.fetchval(query("client_key_matches"), name, hashed):
                try:
                    key = await add_client(connection, name, scopes)
                except ClientExists as error:
                    tell(f"{error}: {secrets.path} does not have it")
                    continue
                secrets.put("keys", name, key)
            keys[name] = key
    return keys


async def load_demo_bank(core_dsn: str) -> bool:
    """Loads the demo bank into a core without accounts and sets its first business date.

    Returns whether accounts were loaded; a core that has any keeps what it has.
    """
    async with core_session(core_dsn) as connection:
        if await business_dates(connection) is None:
            await set_business_date(connection, BUSINESS_DATE)
        if not await connection.fetchval(query("core_is_empty")):
            return False
        report = await load_accounts(connection, BANK)
        if report.refused:
            raise BrokenPromise(f"{BANK} has a wrong line: {report.refused_lines[0]}")
        return True
