"""Every route: method, path, endpoint, and what its documentation shows."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Final

from pydantic import BaseModel

from api import accounts, batches, holds, packets, postings, service
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
    body: type[BaseModel] | None = None
    status: int = 200
    query: tuple[str, ...] = ()
    keyed: bool = True


ROUTES: Final = (
    Route(
        "create_posting", "POST", "/v1/postings", postings.create_posting, postings.PostingBody, 201
    ),
    Route("create_hold", "POST", "/v1/holds", holds.create_hold, holds.HoldBody, 201),
    Route(
        "create_batch",
        "POST",
        "/v1/batches",
        batches.create_batch,
        batches.BatchBody,
        keyed=False,
    ),
    Route(
        "capture_hold", "POST", "/v1/holds/{id}/capture", holds.capture_hold, holds.CaptureBody, 201
    ),
    Route("release_hold", "POST", "/v1/holds/{id}/release", holds.release_hold, holds.ReleaseBody),
    Route("adjust_hold", "POST", "/v1/holds/{id}/adjust", holds.adjust_hold, holds.AdjustBody),
    Route(
        "cancel_posting",
        "POST",
        "/v1/postings/{id}/cancel",
        postings.cancel_posting,
        postings.CancelBody,
    ),
    Route("read_posting", "GET", "/v1/postings/{id}", postings.read_posting),
    Route("read_hold", "GET", "/v1/holds/{id}", holds.read_hold),
    Route("read_balance", "GET", "/v1/accounts/{account}/balance", accounts.read_balance),
    Route(
        "list_holds",
        "GET",
        "/v1/accounts/{account}/holds",
        accounts.list_holds,
        query=("status", "reference", "page_size", "page_token"),
    ),
    Route(
        "list_movements",
        "GET",
        "/v1/accounts/{account}/movements",
        accounts.list_movements,
        query=("reference", "page_size", "page_token"),
    ),
    Route(
        "list_packets",
        "GET",
        "/v1/packets",
        packets.list_packets,
        query=("status", "client", "page_size", "page_token"),
    ),
    Route("read_packet", "GET", "/v1/packets/{packet}", packets.read_packet, query=("client",)),
    Route(
        "list_packet_postings",
        "GET",
        "/v1/packets/{packet}/postings",
        packets.list_postings,
        query=("status", "client", "page_size", "page_token"),
    ),
    Route(
        "unload_packet",
        "POST",
        "/v1/packets/{packet}/unload",
        packets.unload_packet,
        packets.UnloadBody,
        query=("client",),
    ),
    Route(
        "accept_packet",
        "POST",
        "/v1/packets/{packet}/accept",
        packets.accept_packet,
        packets.AcceptBody,
        query=("client",),
    ),
    Route(
        "reject_packet",
        "POST",
        "/v1/packets/{packet}/reject",
        packets.reject_packet,
        packets.RejectBody,
        query=("client",),
    ),
    Route(
        "list_problems",
        "GET",
        "/v1/problems",
        packets.list_problems,
        query=("status", "client", "page_size", "page_token"),
    ),
    Route(
        "resolve_problem",
        "POST",
        "/v1/problems/{id}/resolve",
        packets.resolve_problem,
        packets.ResolveBody,
    ),
    Route("live", "GET", "/healthz", service.live),
    Route("ready", "GET", "/readyz", service.ready),
    Route("metrics", "GET", "/metrics", service.metrics),
)
