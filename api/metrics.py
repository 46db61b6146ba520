"""What an API process counts; docs/reference/metrics.md lists it, and a test holds the two."""

from __future__ import annotations

from typing import Final

from prometheus_client import Counter, Gauge, Histogram

REQUESTS: Final = Counter("ni_requests", "Requests answered", ["operation", "status"])
SECONDS: Final = Histogram(
    "ni_request_seconds",
    "Seconds from the request's head to its answer",
    ["operation"],
    buckets=(0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5),
)
WAITING: Final = Gauge("ni_engine_waiting_commands", "Commands that wait for a writer lane")
