"""Which scope opens what: the one table that decides every call."""

from __future__ import annotations

from typing import Final

ADMIN: Final = "admin"

SCOPES: Final[dict[str, frozenset[str]]] = {
    "balance": frozenset({"balance:read"}),
    "account_holds": frozenset({"balance:read"}),
    "account_movements": frozenset({"balance:read"}),
    "hold": frozenset({"hold:write"}),
    "capture": frozenset({"hold:write", "posting:write"}),
    "release": frozenset({"hold:write"}),
    "adjust": frozenset({"hold:write"}),
    "posting": frozenset({"posting:write"}),
    "cancel": frozenset({"posting:write"}),
    "batch": frozenset(),
    "read_hold": frozenset(),
    "read_posting": frozenset(),
    "force": frozenset({"posting:force"}),
    "override": frozenset({"posting:override"}),
    "read_packet": frozenset({"packet:read"}),
    "unload": frozenset({"packet:unload"}),
    "accept": frozenset({"packet:accept"}),
    "problems": frozenset({"problem:resolve"}),
    "read_day": frozenset(),
    "day": frozenset({"day:operate"}),
    "day_of_all_clients": frozenset({"day:operate"}),
    "other_clients": frozenset({ADMIN}),
}
"""All the scopes that an operation needs; `admin` stands for every one of them.

`packet:read` comes with `posting:write` and with `packet:unload` (see `IMPLIED`). A batch needs
what its items need. By id every client sees its own holds and postings. Of the day any key sees
its own unfinished packets, and with `balance` the accounts below their limit; `day_of_all_clients`
shows all.
"""

IMPLIED: Final[dict[str, str]] = {
    "posting:write": "packet:read",
    "packet:unload": "packet:read",
}
"""A right that comes with a scope and is none of its own: reading one's own packets."""
