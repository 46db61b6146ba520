"""What an account shows: its balance, its holds, its movements."""

from __future__ import annotations

import re
from base64 import urlsafe_b64decode, urlsafe_b64encode
from typing import Final
from uuid import UUID

from api.calls import Call
from api.problems import ProblemError
from api.replies import Reply
from ni.decisions import Decision
from ni.reads import Page

_ACCOUNT: Final = re.compile(r"[A-Z0-9-]{1,34}", re.ASCII)
_HOLD_STATUSES: Final = ("active", "captured", "released", "expired")
_TOKEN: Final = re.compile(r"[A-Za-z0-9_-]{22}", re.ASCII)


def _account(call: Call) -> str:
    account = call.parameters["account"]
    if not _ACCOUNT.fullmatch(account):
        raise ProblemError(Decision.account_not_found)
    return account


def _invalid(field: str, message: str) -> ProblemError:
    return ProblemError(Decision.validation_failed, errors=[{"field": field, "message": message}])


def _page_of(call: Call, query: dict[str, str]) -> tuple[int, UUID | None]:
    """The page's size and the id before which it begins. Raises ProblemError."""
    settings = call.services.settings
    size = query.get("page_size", str(settings.page_size_default))
    if not (size.isascii() and size.isdigit() and 1 <= int(size[:9]) <= settings.page_size_max):
        raise _invalid("page_size", f"must be a number from 1 to {settings.page_size_max}")
    token = query.get("page_token")
    if token is None:
        return int(size), None
    if not _TOKEN.fullmatch(token):
        raise _invalid("page_token", "is not one that NI gave")
    return int(size), UUID(bytes=urlsafe_b64decode(token + "=="))


def _reply(page: Page | None, account: str) -> Reply:
    if page is None:
        raise ProblemError(Decision.account_not_found, account=account)
    token = ""
    if page.next_id is not None:
        text = urlsafe_b64encode(page.next_id.bytes).decode().rstrip("=")
        token = f',"next_page_token":"{text}"'
    return Reply(200, f'{{"items":[{",".join(page.documents)}]{token}}}'.encode())


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
        raise _invalid("status", f"must be one of {', '.join(_HOLD_STATUSES)}")
    size, before = _page_of(call, query)
    page = await call.services.reads.holds(account, status, query.get("reference"), before, size)
    return _reply(page, account)


async def list_movements(call: Call) -> Reply:
    """GET /v1/accounts/{account}/movements?reference=."""
    await call.authenticate("account_movements")
    account = _account(call)
    query = call.query("reference", "page_size", "page_token")
    size, before = _page_of(call, query)
    page = await call.services.reads.movements(account, query.get("reference"), before, size)
    return _reply(page, account)
