"""Where messages are sent: an HTTP gateway, or, when there is none, the table of messages itself.

A message is accepted when the gateway answers 2xx with a JSON object that repeats its id. Nothing
else counts: a page of some proxy with status 200 is no acceptance. Everything that is not about
the message is tried again, and the gateway drops what it has had by the id.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC
from email.utils import parsedate_to_datetime
from http.cookiejar import CookieJar, DefaultCookiePolicy
from typing import Final, Literal, Protocol
from uuid import UUID

import httpx2

from ni import clock
from ni.errors import NiError
from ni.settings import Settings

MESSAGE_FAULTS: Final = frozenset({400, 413, 422})
"""Statuses by which a gateway says that it will never take this message."""

OVERLOADED: Final = frozenset({429, 503})
"""Statuses by which it asks everybody for a pause."""

PORT_MAX: Final = 65_535

MAYBE_TAKEN_MIN: Final = 500
MAYBE_TAKEN: Final = frozenset({408, 409})
"""By these, and from there on, the gateway has or had the message in its hands and has not taken it
yet: 409 says, where it keeps to the drafts of Idempotency-Key, that the last try is still at work.
"""


@dataclass(frozen=True, slots=True)
class Message:
    """A leased message. `lease` is the right to say what became of it.

    `tries` and `failures` count the one that is about to begin.
    """

    bucket: int
    event_id: UUID
    account: str
    phone: str
    text: str
    tries: int
    failures: int
    lease: UUID


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of one try.

    `counts`: a failure, for the message may be at fault. `pause_all_s`:
    seconds for which the gateway wants no message at all.
    """

    status: Literal["sent", "kept", "dead", "retry"]
    reason: str | None = None
    counts: bool = True
    pause_all_s: int = 0


class Gateway(Protocol):
    """Takes messages, one call a try."""

    async def send(self, message: Message) -> Outcome:
        """Try once, within the time that the settings give. Raises nothing."""


class TableGateway:
    """The gateway of a machine without one: the message's own row is where it can be read."""

    async def send(self, message: Message) -> Outcome:  # noqa: ARG002  as the other one is called
        """Leave the message where it is."""
        return Outcome("kept")


class HttpGateway:
    """A gateway behind `url`, with one client for all connections."""

    def __init__(self, client: httpx2.AsyncClient, settings: Settings) -> None:
        self._client = client
        self._url = settings.sms_gateway_url
        self._limit_s = settings.sms_timeout_ms / 1000
        self._answer_max_bytes = settings.sms_answer_max_bytes
        self._pause_max_s = settings.sms_pause_max_s

    async def send(self, message: Message) -> Outcome:
        """One POST. What the gateway does wrong is an outcome, never an error."""
        identifier = str(message.event_id)
        body = {"id": identifier, "to": message.phone, "text": message.text}
        try:
            async with (
                asyncio.timeout(self._limit_s),
                self._client.stream(
                    "POST", self._url, json=body, headers={"Idempotency-Key": identifier}
                ) as response,
            ):
                if response.is_success:
                    return await self._judge(response, identifier)
                return self._refused(response)
        except (httpx2.ConnectError, httpx2.ConnectTimeout, httpx2.PoolTimeout) as error:
            return Outcome("retry", f"not_connected {type(error).__name__}", counts=False)
        except (httpx2.HTTPError, TimeoutError) as error:
            return Outcome("retry", f"no_answer {type(error).__name__}")

    async def _judge(self, response: httpx2.Response, identifier: str) -> Outcome:
        if "content-encoding" in response.headers:
            return Outcome("retry", "nonsense encoded")
        content = bytearray()
        async for part in response.aiter_raw():
            content += part
            if len(content) > self._answer_max_bytes:
                return Outcome("retry", "nonsense too_long")
        try:
            document = json.loads(content)
        except (ValueError, RecursionError):
            return Outcome("retry", "nonsense no_json")
        if not isinstance(document, dict) or document.get("id") != identifier:
            return Outcome("retry", "nonsense other_id")
        return Outcome("sent")

    def _refused(self, response: httpx2.Response) -> Outcome:
        status = response.status_code
        reason = f"status_{status}"
        if status in MESSAGE_FAULTS:
            return Outcome("dead", reason)
        if status in OVERLOADED:
            pause_s = self._asked_pause_s(response.headers.get("Retry-After", ""))
            return Outcome("retry", reason, counts=False, pause_all_s=pause_s)
        return Outcome("retry", reason, counts=status >= MAYBE_TAKEN_MIN or status in MAYBE_TAKEN)

    def _asked_pause_s(self, value: str) -> int:
        """Seconds that Retry-After asks for, in either form, at most `NI_SMS_PAUSE_MAX_S`."""
        if value.isascii() and value.isdigit():
            return min(int(value[:9]), self._pause_max_s)
        try:
            at = parsedate_to_datetime(value)
            at = at if at.tzinfo is not None else at.replace(tzinfo=UTC)
            wanted_s = int((at - clock.utc_now()).total_seconds())
        except (ValueError, OverflowError):
            return 0
        return max(0, min(wanted_s, self._pause_max_s))


@asynccontextmanager
async def open_gateway(settings: Settings) -> AsyncIterator[Gateway]:
    """The gateway of the settings, as long as the block lasts.

    No proxy of the environment and no redirection gets to see customers' messages, and no cookie
    ties one to another. Raises NiError when the gateway's settings cannot be used.
    """
    if not settings.sms_gateway_url:
        yield TableGateway()
        return
    check_gateway(settings)
    token = settings.sms_gateway_token.get_secret_value()
    headers = {"User-Agent": "ni-sms", "Accept": "application/json", "Accept-Encoding": "identity"}
    if token:
        headers["Authorization"] = f"Bearer {token}"
    connections = settings.sms_connections
    async with httpx2.AsyncClient(
        headers=headers,
        timeout=settings.sms_timeout_ms / 1000,
        limits=httpx2.Limits(max_connections=connections, max_keepalive_connections=connections),
        cookies=CookieJar(policy=DefaultCookiePolicy(allowed_domains=[])),
        follow_redirects=False,
        trust_env=False,
    ) as client:
        yield HttpGateway(client, settings)


def check_gateway(settings: Settings) -> None:
    """Raises NiError, without an address or a token in it, when one of them cannot be used."""
    url, token = settings.sms_gateway_url, settings.sms_gateway_token.get_secret_value()
    if not url:
        return
    try:
        parts = httpx2.URL(url)
        usable = parts.scheme in ("http", "https") and bool(parts.host) and "%" not in parts.host
        usable = usable and (parts.port is None or 0 < parts.port <= PORT_MAX)
        has_password = bool(parts.userinfo)
    except (httpx2.InvalidURL, ValueError):
        usable = has_password = False
    if not usable:
        raise NiError("NI_SMS_GATEWAY_URL must be an address such as https://sms.example.com/send")
    if has_password:
        raise NiError("NI_SMS_GATEWAY_URL must hold no password: set NI_SMS_GATEWAY_TOKEN")
    if not (token.isascii() and token.isprintable()) or " " in token:
        raise NiError("NI_SMS_GATEWAY_TOKEN must be of visible ASCII characters")
