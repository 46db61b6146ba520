"""What an account shows: its balance, its holds, its movements."""

from __future__ import annotations

import re
from typing import Final
from uuid import UUID

from api.calls import Call
from api.paging import invalid, page_of, paged
from api.problems import ProblemError
from api.replies import Reply
from ni.decisions import Decision
from ni.reads import Page

_ACCOUNT: Final = re.compile(r"[A-Z0-9-]{1,34}", re.ASCII)
_HOLD_STATUSES: Final = ("active", "captured", "released", "expired")


def _account(call: Call) -> str:
    account = call.parameters["account"]
    if not _ACCOUNT.fullmatch(account):
        raise ProblemError(Decision.account_not_found)
    return account


def _reply(page: Page | None, account: str) -> Reply:
    if page is None:
        raise ProblemError(Decision.account_not_found, account=account)
    return paged(page.documents, None if page.next_id is None else page.next_id.bytes)


def _id_of(token: bytes) -> UUID:
    return UUID(bytes=token)


async def read_balance(call: Call) -> Reply:
    """GET /v1/accounts/{account}/balance."""
    await call.authenticate("balance")
    account = _account(call)
    document = await call.services.reads.balance(account)
    if document is None:
        raise ProblemError(Decision.account_not_found, account=account)
    return Reply(200, document.encode())


async def list_holds(call: Call) -> Reply:
    """GET /v1/accounts/{account}/holds?status=&reference=."""
    await call.authenticate("account_holds")
    account = _account(call)
    query = call.query("status", "reference", "page_size", "page_token")
    status = query.get("status")
    if status is not None and status not in _HOLD_STATUSES:
        raise invalid("status", f"must be one of {', '.join(_HOLD_STATUSES)}")
    size, before = page_of(call, query, _id_of)
    page = await call.services.reads.holds(account, status, query.get("reference"), before, size)
    return _reply(page, account)


async def list_movements(call: Call) -> Reply:
    """GET /v1/accounts/{account}/movements?reference=."""
    await call.authenticate("account_movements")
    account = _account(call)
    query = call.query("reference", "page_size", "page_token")
    size, before = page_of(call, query, _id_of)
    page = await call.services.reads.movements(account, query.get("reference"), before, size)
    return _reply(page, account)
