"""One try at a gateway: what it may answer, and what is made of it."""

from __future__ import annotations

import asyncio
import json
import time
from datetime import timedelta
from email.utils import format_datetime
from typing import Any
from uuid import UUID, uuid4

import pytest
from pydantic import SecretStr

from ni.clock import utc_now
from ni.errors import NiError
from ni.settings import Settings
from ni.sms.gateway import Message, Outcome, check_gateway, open_gateway
from tests.sms.gateway_server import GatewayServer, Reply
from tests.sms.scene import PHONE

LONG = b" " * 20_000


def message() -> Message:
    return Message(0, uuid4(), "CZ0000002378", PHONE, "Zůstatek 口座 счет", 1, 1, uuid4())


async def tried(server: GatewayServer, one: Message | None = None, **settings: Any) -> Outcome:
    """One try with a second's patience."""
    known: dict[str, Any] = {"sms_gateway_url": server.url, "sms_timeout_ms": 400}
    async with open_gateway(Settings(**(known | settings))) as gateway:
        return await gateway.send(one or message())


async def test_a_cookie_ties_no_message_to_another(gateway: GatewayServer) -> None:
    gateway.behaviour = lambda _: Reply(headers={"Set-Cookie": "who=somebody; Path=/"})
    settings = Settings(sms_gateway_url=gateway.url)
    async with open_gateway(settings) as http:
        outcomes = [await http.send(message()) for _ in range(2)]
    assert {outcome.status for outcome in outcomes} == {"sent"}
    assert not [one for one in gateway.received if "cookie" in one.headers]


async def test_what_a_gateway_gets(gateway: GatewayServer) -> None:
    one = message()
    assert await tried(gateway, one, sms_gateway_token=SecretStr("s3cret")) == Outcome("sent")
    [got] = gateway.received
    assert (got.id, got.to, got.text) == (str(one.event_id), PHONE, one.text)
    assert got.headers["authorization"] == "Bearer s3cret"
    assert got.headers["content-type"] == "application/json"
    assert got.headers["accept-encoding"] == "identity"


async def test_without_a_token_none_is_sent(gateway: GatewayServer) -> None:
    await tried(gateway)
    assert "authorization" not in gateway.received[0].headers


@pytest.mark.parametrize("status", [200, 201, 202])
async def test_accepted(gateway: GatewayServer, status: int) -> None:
    gateway.behaviour = lambda _: Reply(status)
    assert await tried(gateway) == Outcome("sent")


def _id_and_more(got: str) -> bytes:
    return json.dumps({"id": got, "state": "queued", "parts": 2}).encode()


async def test_an_answer_may_say_more(gateway: GatewayServer) -> None:
    gateway.behaviour = lambda got: Reply(body=_id_and_more(got.id))
    assert await tried(gateway) == Outcome("sent")


@pytest.mark.parametrize("status", [400, 413, 422])
async def test_refused_for_good(gateway: GatewayServer, status: int) -> None:
    gateway.behaviour = lambda _: Reply(status)
    assert await tried(gateway) == Outcome("dead", f"status_{status}")


@pytest.mark.parametrize("status", [408, 409, 500, 502, 504, 599])
async def test_failed_with_the_message_in_hand(gateway: GatewayServer, status: int) -> None:
    gateway.behaviour = lambda _: Reply(status)
    assert await tried(gateway) == Outcome("retry", f"status_{status}")


@pytest.mark.parametrize("status", [301, 302, 307, 308, 401, 403, 404, 405, 410, 425, 451])
async def test_what_is_wrong_with_the_gateway_is_not_the_messages_fault(
    gateway: GatewayServer, status: int
) -> None:
    gateway.behaviour = lambda _: Reply(status, headers={"Location": gateway.url + "/elsewhere"})
    assert await tried(gateway) == Outcome("retry", f"status_{status}", counts=False)
    assert len(gateway.received) == 1, "a redirection was followed"


@pytest.mark.parametrize("status", [429, 503])
@pytest.mark.parametrize(
    ("wish", "seconds"),
    [("7", 7), ("0", 0), ("99999999999999", 60), ("", 0), ("soon", 0), ("-5", 0), ("1.5", 0),
     ("\u0663", 0), ("Wed, 21 Oct 2015 07:28:00 GMT", 0), ("Wed, 99 Foo 2015", 0),
     ("Wed, 21 Oct 99999999999999999999 07:28:00 GMT", 0),
     ("Wed, 21 Oct 2015 07:28:00 +99999999999999999999", 0)],
    ids=["s", "zero", "long", "none", "word", "negative", "decimal", "digits", "past", "no-date",
         "no-year", "no-zone"],
)  # fmt: skip
async def test_a_pause_that_is_asked_for(
    gateway: GatewayServer, status: int, wish: str, seconds: int
) -> None:
    headers = {"Retry-After": wish} if wish else {}
    gateway.behaviour = lambda _: Reply(status, headers=headers)
    outcome = await tried(gateway)
    assert outcome == Outcome("retry", f"status_{status}", counts=False, pause_all_s=seconds)


async def test_a_pause_until_an_instant(gateway: GatewayServer) -> None:
    at = format_datetime(utc_now() + timedelta(seconds=30), usegmt=False)
    gateway.behaviour = lambda _: Reply(429, headers={"Retry-After": at})
    assert 25 <= (await tried(gateway)).pause_all_s <= 30


@pytest.mark.parametrize(
    "body",
    [b"", b"OK", b"<html>please log in</html>", b"[]", b'"ok"', b"null", b"{}", b'{"id":null}',
     b'{"id":"another"}', b"\xff\xfe\x00", b"[" * 15_000, LONG],
    ids=["empty", "word", "page", "list", "text", "null", "no-id", "null-id", "other-id", "bytes",
         "deep", "long"],
)  # fmt: skip
async def test_nonsense_is_no_acceptance(gateway: GatewayServer, body: bytes) -> None:
    gateway.behaviour = lambda _: Reply(body=body)
    outcome = await tried(gateway)
    assert (outcome.status, outcome.counts) == ("retry", True)
    assert str(outcome.reason).startswith("nonsense")


async def test_an_encoded_answer_is_not_unpacked(gateway: GatewayServer) -> None:
    gateway.behaviour = lambda _: Reply(headers={"Content-Encoding": "gzip"})
    assert await tried(gateway) == Outcome("retry", "nonsense encoded")


@pytest.mark.parametrize("cut", [0, 9, 30, 60, 70])
async def test_a_connection_that_ends_half_way(gateway: GatewayServer, cut: int) -> None:
    gateway.behaviour = lambda _: Reply(cut=cut)
    outcome = await tried(gateway)
    assert (outcome.status, outcome.counts) == ("retry", True)


async def test_a_body_that_is_shorter_than_it_says(gateway: GatewayServer) -> None:
    gateway.behaviour = lambda got: Reply(
        body=_id_and_more(got.id), headers={"Content-Length": "5000"}, cut=10_000
    )
    assert (await tried(gateway)).status == "retry"


@pytest.mark.parametrize(
    "reply", [Reply(delay_s=30), Reply(drip_s=0.05)], ids=["silent", "a-byte-at-a-time"]
)
async def test_a_try_ends_in_its_time(gateway: GatewayServer, reply: Reply) -> None:
    """Also when the gateway says something all the time."""
    gateway.behaviour = lambda _: reply
    began = time.monotonic()
    outcome = await tried(gateway)
    assert (outcome.status, outcome.counts) == ("retry", True)
    assert time.monotonic() - began < 2


async def test_a_gateway_that_is_not_there(gateway: GatewayServer) -> None:
    await gateway.stop()
    outcome = await tried(gateway)
    assert (outcome.status, outcome.counts) == ("retry", False)


async def test_connections_are_limited(gateway: GatewayServer) -> None:
    gateway.behaviour = lambda _: Reply(delay_s=0.1)
    settings = Settings(sms_gateway_url=gateway.url, sms_connections=2, sms_timeout_ms=5_000)
    async with open_gateway(settings) as http:
        outcomes = await asyncio.gather(*(http.send(message()) for _ in range(8)))
    assert {outcome.status for outcome in outcomes} == {"sent"}
    assert gateway.most_at_once == 2


async def test_no_proxy_sees_a_message(
    gateway: GatewayServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:1")
    assert (await tried(gateway)).status == "sent"


async def test_without_a_gateway_a_message_stays_where_it_is() -> None:
    async with open_gateway(Settings()) as table:
        assert await table.send(message()) == Outcome("kept")


@pytest.mark.parametrize(
    "url",
    ["sms.example.com", "ftp://a", "http://", "http://a:0", "http://a:x/", "http://u@a/",
     "http://u:p@a/", "http://[", "file:///etc/passwd", "http://a b/", "http://a\x00/",
     "http://a:99999/", "http://\u00ad/"],
)  # fmt: skip
def test_addresses_that_are_none(url: str) -> None:
    with pytest.raises(NiError) as caught:
        check_gateway(Settings(sms_gateway_url=url))
    assert "NI_SMS_GATEWAY_URL" in str(caught.value)
    assert "u:p" not in str(caught.value)


@pytest.mark.parametrize("token", ["a b", "a\nb", "\u017elu\u0165", "a\x7f"])
def test_tokens_that_are_none(token: str) -> None:
    settings = Settings(sms_gateway_url="http://a/", sms_gateway_token=SecretStr(token))
    with pytest.raises(NiError) as caught:
        check_gateway(settings)
    assert token not in str(caught.value)


@pytest.mark.parametrize("url", ["", "http://a", "https://a.example:8443/x?y=1", "http://[::1]/"])
def test_addresses_that_are_some(url: str) -> None:
    check_gateway(Settings(sms_gateway_url=url, sms_gateway_token=SecretStr("a-b.c_d/e+f=")))


def test_a_token_is_not_printed() -> None:
    settings = Settings(sms_gateway_token=SecretStr("s3cret"))
    assert "s3cret" not in f"{settings!r} {settings}"
    assert UUID(int=0) != message().event_id
