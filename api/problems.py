"""From decision to HTTP: one table, total by test, and the RFC 9457 documents made from it."""

from __future__ import annotations

import json
from typing import Any, Final

from ni.decisions import Decision

PROBLEMS: Final[dict[Decision, tuple[int, str]]] = {
    Decision.insufficient_funds: (409, "The available balance does not allow it"),
    Decision.account_not_found: (404, "The core does not know this account"),
    Decision.account_closed: (409, "The account is closed"),
    Decision.account_blocked: (409, "A block stands in the way"),
    Decision.account_kind_mismatch: (409, "This kind of account does not take this movement"),
    Decision.currency_mismatch: (409, "The account is kept in another currency"),
    Decision.amount_out_of_range: (409, "A sum would pass the limit of 10^17 minor units"),
    Decision.hold_not_found: (404, "No such hold"),
    Decision.hold_captured: (409, "The hold has been captured"),
    Decision.hold_released: (409, "The hold has been released"),
    Decision.hold_expired: (409, "The hold has expired"),
    Decision.exceeds_hold: (409, "More than the hold allows"),
    Decision.posting_not_found: (404, "No such posting"),
    Decision.posting_booked: (409, "The core has booked the posting"),
    Decision.posting_cancelled: (409, "The posting has been cancelled"),
    Decision.posting_awaiting_acceptance: (409, "The posting's packet waits for acceptance"),
    Decision.posting_being_unloaded: (409, "The posting is being unloaded; try again"),
    Decision.packet_not_found: (404, "No such packet"),
    Decision.packet_not_waiting: (409, "The packet does not wait for acceptance"),
    Decision.same_client: (409, "Another client must accept or reject it"),
    Decision.problem_resolved: (409, "The problem has been resolved"),
    Decision.core_closed: (409, "The core is closed"),
    Decision.night_copy_not_exact: (409, "The night copy is not exact"),
    Decision.packets_unfinished: (409, "Packets are unfinished"),
    Decision.core_still_closed: (409, "The core is still closed"),
    Decision.batch_refused: (409, "Another item of the atomic batch was refused"),
    Decision.validation_failed: (422, "The request is not valid"),
    Decision.same_account: (422, "Debit and credit account are the same"),
    Decision.idempotency_key_missing: (400, "The Idempotency-Key header is missing"),
    Decision.idempotency_key_invalid: (400, "The Idempotency-Key is malformed"),
    Decision.idempotency_key_reused: (422, "This key was used for another request"),
    Decision.unauthorized: (401, "The API key is missing or unknown"),
    Decision.scope_missing: (403, "The API key lacks the scope"),
    Decision.not_found: (404, "Nothing is here"),
    Decision.overloaded: (503, "No decision was made; try again"),
    Decision.body_too_large: (413, "The body is too large"),
    Decision.method_not_allowed: (405, "This method is not allowed here"),
    Decision.rate_limited: (429, "Too many requests"),
    Decision.internal_error: (500, "NI failed; the request can be sent again with its key"),
}

RETRY_AFTER_S: Final = 1


class ProblemError(Exception):
    """Ends a request with a problem; raised by doors before anything is decided."""

    def __init__(self, decision: Decision, detail: str | None = None, **extra: Any) -> None:
        super().__init__(decision.name)
        self.decision = decision
        self.extra = extra if detail is None else {"detail": detail, **extra}


def problem_body(decision: Decision, extra: dict[str, Any]) -> bytes:
    """The problem document; `extra` may bring its own detail. Plain ASCII, whatever came in."""
    status, title = PROBLEMS[decision]
    document = {
        "type": f"urn:ni:problem:{decision.name}",
        "title": title,
        "status": status,
        "detail": _detail(title, extra),
        "code": decision.name,
    }
    return json.dumps(document | extra, separators=(",", ":")).encode()


def _detail(title: str, extra: dict[str, Any]) -> str:
    account = extra.get("account")
    if "available" in extra:
        asked = f"{extra['requested']} {extra['currency']} was asked"
        return f"{title}: {asked} of {account}, {extra['available']} is available"
    return title if account is None else f"{title}: {account}"


def refusal_body(decision: Decision, document: str) -> bytes:
    """The problem document of a decision of the engine."""
    return problem_body(decision, json.loads(document))
