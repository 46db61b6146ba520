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
NIGHT: Final = Gauge("ni_day_night", "1 by night, 0 by day")
EPOCH: Final = Gauge("ni_day_epoch", "Changes between day and night, and one")
CHANGED_KEYS: Final = Gauge("ni_night_copy_changed_keys", "Keys that the night copy lacks")
SWITCH_SECONDS: Final = Gauge(
    "ni_day_switch_seconds", "Seconds that the last switch took, runs that it waited for left out"
)
WAITING: Final = Gauge("ni_engine_waiting_commands", "Commands that wait for a writer lane")
