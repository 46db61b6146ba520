"""The generator of nights, a process of its own like `bench.open_load`, which it is with a mix.

Debits, holds, captures and reads in turn. Every answer is tested, see `bench.night_answers`. It
reads a `NightSpec`, prints `begun` and a `NightResult`, and writes the trace.
"""

import asyncio
import json
import random
import sys
import time
from array import array
from collections import Counter, deque
from collections.abc import Callable
from functools import partial
from itertools import cycle
from pathlib import Path

from bench.load import FAILURES_LIMIT, SAMPLE_BYTES, SAMPLES_LIMIT
from bench.load_requests import account_name, request_head
from bench.night_answers import kind_of, mixed_state
from bench.night_spec import KINDS, NightResult, NightSpec
from bench.open_load import OpenLoad, by_pipe, offer

POSTED = ("201", "200")
AMOUNT = '"amount":"0.01","currency":"CZK"'


class NightLoad(OpenLoad):
    """The mix: which request is next, and what each answer was."""

    def __init__(self, spec: NightSpec, begun: Callable[[], None]) -> None:
        """Prepare; `begun` is called when the measured part begins."""
        super().__init__(spec.load, begun)
        self.night = spec
        self.next_request = self._request
        self.holds: deque[str] = deque()
        """Those that nobody has captured yet."""
        self.mixed = self.checked = 0
        self.mixed_samples: list[str] = []
        self.trace = array("d")
        self.of_kind: Counter[str] = Counter()
        self._kinds = cycle(KINDS)
        way = f'"packet":"{spec.load.packet}"' if spec.load.packet else '"straight_through":true'
        self._way = f'"credit_account":"INT-CASH",{way}}}'

    def answered(self, answer: bytearray, asked_at: float) -> None:
        """Test one answer, count it, and keep how long it took."""
        now = time.perf_counter()
        document = self._document(answer)
        if document is None:
            self.failed(bytes(answer[:SAMPLE_BYTES]).decode("utf-8", "replace"))
        if self.begin <= asked_at <= self.end:
            self.trace.extend((asked_at, now - asked_at))

    def _document(self, answer: bytearray) -> dict[str, object] | None:
        """The document of an approval that has been tested; None: the call has failed."""
        status, body = bytes(answer[9:12]).decode(), bytes(answer).partition(b"\r\n\r\n")[2]
        if status not in POSTED:
            return None
        document: dict[str, object] = json.loads(body)
        kind = kind_of(document)
        if (status == "200") is not (kind == "read"):
            return None
        self.of_kind[kind] += 1
        self.checked += 1
        if kind == "hold":
            self.holds.append(str(document["hold_id"]))
        self.approved += kind in ("debit", "capture")
        fault = mixed_state(self.night, document)
        if fault is not None:
            self.mixed += 1
            if len(self.mixed_samples) < SAMPLES_LIMIT:
                self.mixed_samples.append(f"{fault}: {json.dumps(document)[:SAMPLE_BYTES]}")
        return document

    def _request(self) -> bytes:
        kind = next(self._kinds)
        if kind == "capture" and not self.holds:
            kind = "hold"
        if kind == "read":
            return self._get(self._account())
        if kind == "capture":
            return self._post(f"/v1/holds/{self.holds.popleft()}/capture", "{" + self._way)
        side = "account" if kind == "hold" else "debit_account"
        rest = "}" if kind == "hold" else f",{self._way}"
        path = "/v1/holds" if kind == "hold" else "/v1/postings"
        return self._post(path, f'{{"{side}":"{self._account()}",{AMOUNT}{rest}')

    def _account(self) -> str:
        load = self.spec
        if load.account is not None and random.randrange(10) < self.night.hot_share:
            return load.account
        return account_name(random.randrange(load.accounts))

    def _get(self, account: str) -> bytes:
        bearer = f"Host: 127.0.0.1\r\nAuthorization: Bearer {self.spec.bearer}\r\n\r\n"
        return f"GET /v1/accounts/{account}/balance HTTP/1.1\r\n{bearer}".encode()

    def _post(self, path: str, body: str) -> bytes:
        return request_head(path, self.spec.bearer, len(body)) + body.encode()

    def write_trace(self) -> None:
        """Write down when each call was due and how long it took."""
        Path(self.night.trace).write_bytes(self.trace.tobytes())

    def found(self) -> NightResult:
        """Return what happened, once all has been answered."""
        return NightResult(
            seconds=self.measured_s(), calls=len(self.trace) // 2, late=self.late,
            approved=self.approved, failures=self.failures, mixed=self.mixed,
            checked=self.checked, samples=self.samples + self.mixed_samples,
            of_kind=dict(self.of_kind),
        )  # fmt: skip


async def run(spec: NightSpec, stop: asyncio.Event, begun: Callable[[], None]) -> NightResult:
    """Offer the mix until its time is up or `stop` is set; write the trace."""
    load = NightLoad(spec, begun)
    await offer(load, stop)
    load.write_trace()
    if load.failures >= FAILURES_LIMIT:
        load.failed("the load gave up; what was due after that was not sent")
    return load.found()


def main() -> None:
    """Run one load."""
    by_pipe(partial(run, NightSpec.from_json(sys.stdin.readline())))


if __name__ == "__main__":
    main()
