"""The bare loop that the relay is compared with: pika, publisher confirms, a window, nothing else.

It reads a `LoopSpec`, publishes bodies that the relay has published before, in a ring, persistent
and mandatory like the relay's, and prints how many were confirmed. It renders nothing, reads no
database, keeps no account's order and removes nothing.
"""

import json
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pika

EXCHANGE = "ni.events"
MEDIA_TYPE = "application/cloudevents+json"


@dataclass(frozen=True, slots=True)
class LoopSpec:
    """How much is published where. `bodies` is a file with one event a line."""

    url: str
    bodies: str
    events: int
    window: int


class Loop:
    """One channel's window."""

    def __init__(self, spec: LoopSpec) -> None:
        """Read what is published."""
        self._spec = spec
        self._ring = [
            (json.loads(line)["type"], line) for line in Path(spec.bodies).read_bytes().splitlines()
        ]
        properties: Any = pika.BasicProperties
        self._properties = properties(content_type=MEDIA_TYPE, delivery_mode=2)
        self._channel: Any = None
        self.sent = self.confirmed = self.returned = 0
        self._connection = pika.SelectConnection(
            pika.URLParameters(spec.url), on_open_callback=self._opened
        )

    def run(self) -> None:
        """Publish everything and wait for the last confirm."""
        self._connection.ioloop.start()

    def _opened(self, connection: Any) -> None:
        connection.channel(on_open_callback=self._ready)

    def _ready(self, channel: Any) -> None:
        self._channel = channel
        channel.add_on_return_callback(self._came_back)
        channel.confirm_delivery(self._answered)
        self._publish()

    def _publish(self) -> None:
        publish, properties, ring = self._channel.basic_publish, self._properties, self._ring
        until = min(self._spec.events, self.confirmed + self._spec.window)
        while self.sent < until:
            key, body = ring[self.sent % len(ring)]
            publish(EXCHANGE, key, body, properties, mandatory=True)
            self.sent += 1

    def _came_back(self, *_: object) -> None:
        self.returned += 1

    def _answered(self, frame: Any) -> None:
        method = frame.method
        self.confirmed = method.delivery_tag if method.multiple else self.confirmed + 1
        if self.confirmed >= self._spec.events:
            self._connection.close()
            self._connection.ioloop.stop()
        else:
            self._publish()


def main() -> None:
    """Run one loop."""
    loop = Loop(LoopSpec(**json.loads(sys.stdin.readline())))
    loop.run()
    print(json.dumps({"confirmed": loop.confirmed, "returned": loop.returned}))


if __name__ == "__main__":
    main()
