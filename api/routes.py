"""Every route: method, path, endpoint, and what its documentation shows."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Final

from pydantic import BaseModel

from api import accounts, answers, batches, business_day, holds, packets, postings, service
from api.calls import Call
from api.replies import Reply

Endpoint = Callable[[Call], Awaitable[Reply]]


@dataclass(slots=True, frozen=True)
class Route:
    """One operation of the REST contract. `name` labels its metrics."""

    name: str
    method: str
    path: str
    endpoint: Endpoint
    answer: type[BaseModel] | None = None
    body: type[BaseModel] | None = None
    status: int = 200
    query: tuple[str, ...] = ()
    keyed: bool = True


_PAGE: Final = ("page_size", "page_token")

ROUTES: Final = (
    Route(
        "create_posting", "POST", "/v1/postings", postings.create_posting,
        answers.PostingAnswer, postings.PostingBody, 201,
    ),
    Route(
        "create_hold", "POST", "/v1/holds", holds.create_hold,
        answers.HoldAnswer, holds.HoldBody, 201,
    ),
    Route(
        "create_batch", "POST", "/v1/batches", batches.create_batch,
        answers.BatchAnswer, batches.BatchBody, keyed=False,
    ),
    Route(
        "capture_hold", "POST", "/v1/holds/{id}/capture", holds.capture_hold,
        answers.CaptureAnswer, holds.CaptureBody, 201,
    ),
    Route(
        "release_hold", "POST", "/v1/holds/{id}/release", holds.release_hold,
        answers.HoldAnswer, holds.ReleaseBody,
    ),
    Route(
        "adjust_hold", "POST", "/v1/holds/{id}/adjust", holds.adjust_hold,
        answers.HoldAnswer, holds.AdjustBody,
    ),
    Route(
        "cancel_posting", "POST", "/v1/postings/{id}/cancel", postings.cancel_posting,
        answers.PostingAnswer, postings.CancelBody,
    ),
    Route(
        "read_posting", "GET", "/v1/postings/{id}", postings.read_posting, answers.PostingAnswer
    ),
    Route("read_hold", "GET", "/v1/holds/{id}", holds.read_hold, answers.HoldAnswer),
    Route(
        "read_balance", "GET", "/v1/accounts/{account}/balance", accounts.read_balance,
        answers.BalanceAnswer,
    ),
    Route(
        "list_holds", "GET", "/v1/accounts/{account}/holds", accounts.list_holds,
        answers.HoldsAnswer, query=("status", "reference", *_PAGE),
    ),
    Route(
        "list_movements", "GET", "/v1/accounts/{account}/movements", accounts.list_movements,
        answers.MovementsAnswer, query=("reference", *_PAGE),
    ),
    Route(
        "list_packets", "GET", "/v1/packets", packets.list_packets, answers.PacketsAnswer,
        query=("status", "client", *_PAGE),
    ),
    Route(
        "read_packet", "GET", "/v1/packets/{packet}", packets.read_packet, answers.PacketAnswer,
        query=("client",),
    ),
    Route(
        "list_packet_postings", "GET", "/v1/packets/{packet}/postings", packets.list_postings,
        answers.PostingsAnswer, query=("status", "client", *_PAGE),
    ),
    Route(
        "unload_packet", "POST", "/v1/packets/{packet}/unload", packets.unload_packet,
        answers.UnloadAnswer, packets.UnloadBody, query=("client",),
    ),
    Route(
        "accept_packet", "POST", "/v1/packets/{packet}/accept", packets.accept_packet,
        answers.UnloadAnswer, packets.AcceptBody, query=("client",),
    ),
    Route(
        "reject_packet", "POST", "/v1/packets/{packet}/reject", packets.reject_packet,
        answers.UnloadAnswer, packets.RejectBody, query=("client",),
    ),
    Route(
        "list_problems", "GET", "/v1/problems", packets.list_problems, answers.ProblemsAnswer,
        query=("status", "client", *_PAGE),
    ),
    Route(
        "resolve_problem", "POST", "/v1/problems/{id}/resolve", packets.resolve_problem,
        answers.ResolvedAnswer, packets.ResolveBody,
    ),
    Route(
        "read_day", "GET", "/v1/business-day", business_day.read_day, answers.BusinessDayAnswer
    ),
    Route(
        "close_day", "POST", "/v1/business-day/close", business_day.close_day,
        answers.BusinessDayAnswer, business_day.CloseBody,
    ),
    Route(
        "open_day", "POST", "/v1/business-day/open", business_day.open_day,
        answers.BusinessDayAnswer, business_day.OpenBody,
    ),
    Route("live", "GET", "/healthz", service.live),
    Route("ready", "GET", "/readyz", service.ready),
    Route("metrics", "GET", "/metrics", service.metrics),
)  # fmt: skip
