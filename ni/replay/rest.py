"""Requests to NI's REST door over kept connections, one a thread."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Final, Protocol

from ni.rest_client import Reply, RestClient

ANSWER_TIMEOUT_S: Final = 30


class Door(Protocol):
    """What takes a request and answers, or raises NoAnswer."""

    async def send(
        self, method: str, path: str, body: Mapping[str, object] | None, key: str | None
    ) -> Reply:
        """One request, tried once."""


class RestDoor:
    """NI at `base_url` with a client's key, at most `connections` requests at once."""

    def __init__(self, base_url: str, api_key: str, *, connections: int) -> None:
        RestClient(base_url, api_key, timeout_s=ANSWER_TIMEOUT_S)  # refuses what is no address
        self._address = (base_url, api_key)
        self._threads = ThreadPoolExecutor(connections, "replay")
        self._own = threading.local()
        self._clients: list[RestClient] = []

    async def send(
        self, method: str, path: str, body: Mapping[str, object] | None, key: str | None
    ) -> Reply:
        """One request, tried once. Raises NoAnswer when nothing or no HTTP came back."""
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._threads, self._send, method, path, body, key)

    def close(self) -> None:
        """Closes the connections; a request that still waits ends without an answer."""
        for client in self._clients:
            client.hang_up()
        self._threads.shutdown(cancel_futures=True)
        for client in self._clients:
            client.close()

    def _send(
        self, method: str, path: str, body: Mapping[str, object] | None, key: str | None
    ) -> Reply:
        client: RestClient | None = getattr(self._own, "client", None)
        if client is None:
            client = RestClient(*self._address, timeout_s=ANSWER_TIMEOUT_S)
            self._own.client = client
            self._clients.append(client)
        return client.send(method, path, body, key)
