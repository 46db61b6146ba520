"""The RabbitMQ that a test run shares, and the virtual hosts that keep its tests apart."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Self
from urllib.parse import unquote, urlsplit
from uuid import uuid4

from tests.support.rabbitmq import RabbitMQ
from tests.support.rabbitmq_http import Admin, NotAnswering
from tests.support.rabbitmq_program import URL_VARIABLE, NoRabbitMQ

HTTP_VARIABLE: Final = "NI_TEST_AMQP_HTTP_PORT"
"""The port of a foreign broker's management plugin, where it is not the usual one."""
HTTP_PORT: Final = 15672


@dataclass(frozen=True)
class VirtualHost:
    """A world of its own on a broker; `url` is what NI_AMQP_URL takes."""

    name: str
    url: str
    admin: Admin

    def delete_queue(self, queue: str) -> None:
        """The queue, its bindings and its messages."""
        self.admin.delete_queue(self.name, queue)

    def delete_bindings(self, exchange: str, queue: str) -> int:
        """All that lead from the exchange to the queue; how many these were."""
        return self.admin.delete_bindings(self.name, exchange, queue)

    def bind(self, exchange: str, queue: str, key: str) -> None:
        """Lead messages with this routing key from the exchange to the queue."""
        self.admin.bind(self.name, exchange, queue, key)

    def bindings(self, exchange: str, queue: str) -> list[str]:
        """The keys by which the exchange leads to the queue."""
        return self.admin.bindings(self.name, exchange, queue)


@dataclass(frozen=True)
class Broker:
    """A broker and the door to its management."""

    admin: Admin
    address: str
    """`amqp://user:password@host:port`, without a virtual host."""

    @classmethod
    def of_run(cls, home: Path) -> Self:
        """The broker that the environment names, else the one of the run's folder.

        Raises NoRabbitMQ with what to do when there is none.
        """
        named = os.environ.get(URL_VARIABLE, "")
        return cls._foreign(named) if named else cls.of(RabbitMQ(home).start())

    @classmethod
    def of(cls, server: RabbitMQ) -> Self:
        """The broker of a server that runs."""
        return cls(server.admin, server.url("").rstrip("/"))

    @classmethod
    def _foreign(cls, url: str) -> Self:
        parts = urlsplit(url)
        port = int(os.environ.get(HTTP_VARIABLE, HTTP_PORT))
        admin = Admin(
            parts.hostname or "localhost",
            port,
            unquote(parts.username or "guest"),
            unquote(parts.password or "guest"),
        )
        try:
            admin.check()
        except NotAnswering as error:
            raise NoRabbitMQ(
                f"the broker of {URL_VARIABLE} must have its management plugin on port {port} of"
                f" {admin.host} ({HTTP_VARIABLE} names another port): {error}"
            ) from None
        return cls(admin, f"{parts.scheme}://{parts.netloc}")

    @contextmanager
    def virtual_host(self) -> Iterator[VirtualHost]:
        """A fresh one for the time of the block."""
        name = f"ni-test-{os.getpid()}-{uuid4().hex[:8]}"
        with self.admin.vhost(name):
            yield VirtualHost(name, f"{self.address}/{name}", self.admin)
