"""RabbitMQ's management door over HTTP: vhosts for tests, and what faults take away."""

from __future__ import annotations

import base64
import http.client
import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import quote

REQUEST_SECONDS: Final = 30.0


class NotAnswering(Exception):
    """The broker does not answer, or not yet."""


@dataclass(frozen=True)
class Admin:
    """One user's door to one broker. Every method raises NotAnswering or AssertionError."""

    host: str
    port: int
    user: str
    password: str

    def check(self) -> None:
        """Return when the broker takes connections; raises NotAnswering when it does not yet."""
        status, answer = self._ask("GET", "/api/overview")
        listeners = json.loads(answer)["listeners"] if status == 200 else []
        if not any(one["protocol"] == "amqp" for one in listeners):
            raise NotAnswering(f"not listening yet: {status}")

    def overview(self) -> dict[str, Any]:
        """The broker's own words about itself."""
        found = self._done("GET", "/api/overview")
        assert isinstance(found, dict)
        return found

    def make_vhost(self, name: str) -> None:
        """A world of its own, which this user may use."""
        self._done("PUT", f"/api/vhosts/{_part(name)}", {})
        everything = {"configure": ".*", "write": ".*", "read": ".*"}
        self._done("PUT", f"/api/permissions/{_part(name)}/{_part(self.user)}", everything)

    def drop_vhost(self, name: str) -> None:
        """It and all that is in it; whoever is connected is turned out."""
        self._done("DELETE", f"/api/vhosts/{_part(name)}")

    @contextmanager
    def vhost(self, name: str) -> Iterator[str]:
        """One for the time of the block."""
        self.make_vhost(name)
        try:
            yield name
        finally:
            self.drop_vhost(name)

    def delete_queue(self, vhost: str, queue: str) -> None:
        """The queue, its bindings and its messages."""
        self._done("DELETE", f"/api/queues/{_part(vhost)}/{_part(queue)}")

    def bindings(self, vhost: str, exchange: str, queue: str) -> list[str]:
        """The routing keys by which the exchange leads to the queue."""
        found = self._done("GET", _binding(vhost, exchange, queue))
        return sorted(binding["routing_key"] for binding in found)

    def delete_bindings(self, vhost: str, exchange: str, queue: str) -> int:
        """All of them; how many these were."""
        path = _binding(vhost, exchange, queue)
        names = [binding["properties_key"] for binding in self._done("GET", path)]
        for name in names:
            self._done("DELETE", f"{path}/{_part(name)}")
        return len(names)

    def bind(self, vhost: str, exchange: str, queue: str, key: str) -> None:
        """Lead messages with this routing key from the exchange to the queue."""
        self._done("POST", _binding(vhost, exchange, queue), {"routing_key": key})

    def queues(self, vhost: str) -> dict[str, dict[str, Any]]:
        """The queues by name; their counts are some seconds old."""
        found = self._done("GET", f"/api/queues/{_part(vhost)}")
        return {queue["name"]: queue for queue in found}

    def close_connections(self) -> int:
        """Turn everybody out; how many these were."""
        names = [connection["name"] for connection in self._done("GET", "/api/connections")]
        for name in names:
            self._ask("DELETE", f"/api/connections/{_part(name)}")
        return len(names)

    def alarms(self) -> bool:
        """Whether an alarm keeps publishers out."""
        status, _ = self._ask("GET", "/api/health/checks/alarms")
        return status != 200

    def wait_alarm(self, *, raised: bool, seconds: float = REQUEST_SECONDS) -> None:
        """Wait until there is one, or none."""
        deadline = time.monotonic() + seconds
        while self.alarms() is not raised:
            assert time.monotonic() < deadline, f"alarm is not {raised} after {seconds} s"
            time.sleep(0.1)

    def _done(self, method: str, path: str, body: object = None) -> Any:
        status, answer = self._ask(method, path, body)
        assert 200 <= status < 300, f"{method} {path}: {status} {answer!r}"
        return json.loads(answer) if answer else None

    def _ask(self, method: str, path: str, body: object = None) -> tuple[int, bytes]:
        word = base64.b64encode(f"{self.user}:{self.password}".encode()).decode()
        headers = {"Authorization": f"Basic {word}", "Content-Type": "application/json"}
        connection = http.client.HTTPConnection(self.host, self.port, timeout=REQUEST_SECONDS)
        try:
            content = None if body is None else json.dumps(body).encode()
            connection.request(method, path, content, headers)
            answer = connection.getresponse()
            return answer.status, answer.read()
        except (OSError, http.client.HTTPException) as error:
            raise NotAnswering(f"{method} {path}: {error}") from error
        finally:
            connection.close()


def _part(name: str) -> str:
    return quote(name, safe="")


def _binding(vhost: str, exchange: str, queue: str) -> str:
    return f"/api/bindings/{_part(vhost)}/e/{_part(exchange)}/q/{_part(queue)}"
