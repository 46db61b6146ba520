"""Bytes of requests, made by one formatting operation each so that the generator stays cheap."""

import itertools
import random
import secrets
from collections.abc import Callable, Iterator

from bench.load_spec import LoadSpec

ACCOUNT_PREFIX = "CZ"
ACCOUNT_DIGITS = 10

# An odd factor permutes the 64-bit numbers, so a counter becomes keys that fall anywhere in the
# index of keys, as the UUIDs of real clients do, and never repeat.
_KEY_FACTOR = 0x9E3779B97F4A7C15
_KEY_MASK = 0xFFFFFFFFFFFFFFFF

_HEAD = (
    b"POST %s HTTP/1.1\r\nHost: 127.0.0.1\r\nAuthorization: Bearer %s\r\n"
    b"Content-Type: application/json\r\nContent-Length: %d\r\n"
)
_FIELDS = b'"debit_account":"%s","credit_account":"INT-CASH","amount":"1.00","currency":"CZK",'
_KEY = b"%016x"

Next = Callable[[], bytes | None]
"""Makes the next request; None when there is nothing left to ask."""


def account_name(number: int) -> str:
    """Return the name of the customer account of this number."""
    return f"{ACCOUNT_PREFIX}{number:0{ACCOUNT_DIGITS}d}"


def request_head(path: str, bearer: str, length: int) -> bytes:
    """Return the head of a POST with a key that no other request has."""
    head = _HEAD % (path.encode(), bearer.encode(), length)
    return head + b"Idempotency-Key: %s\r\n\r\n" % secrets.token_hex(14).encode()


def request_maker(spec: LoadSpec) -> Next:
    """Return what makes the requests of this load."""
    if spec.kind == "balance":
        return _balances(spec)
    return _batches(spec) if spec.kind == "batch" else _postings(spec)


def _balances(spec: LoadSpec) -> Next:
    tail = f" HTTP/1.1\r\nHost: 127.0.0.1\r\nAuthorization: Bearer {spec.bearer}\r\n\r\n"
    template = b"GET /v1/accounts/%s/balance" + tail.encode()
    if spec.account is not None:
        fixed = template % spec.account.encode()
        return lambda: fixed
    numbers = _account_numbers(spec)
    template %= b"CZ%010d"
    return lambda: template % next(numbers)


def _postings(spec: LoadSpec) -> Next:
    account = b"CZ%010d" if spec.account is None else spec.account.encode()
    way = _way(spec)
    body = b"{" + _FIELDS % account + way
    length = len(b"{" + _FIELDS % (spec.account or account_name(0)).encode() + way)
    head = _HEAD % (b"/v1/postings", spec.bearer.encode(), length)
    template = head + b"Idempotency-Key: " + _KEY + _load_suffix() + b"\r\n\r\n" + body
    keys = _keys()
    if spec.account is not None:
        return lambda: template % next(keys)
    numbers = _account_numbers(spec)
    return lambda: template % (next(keys), next(numbers))


def _batches(spec: LoadSpec) -> Next:
    account = b"CZ%010d" if spec.account is None else spec.account.encode()
    key = b'{"operation":"posting","idempotency_key":"' + _KEY + _load_suffix() + b'",'
    keys, numbers, way = _keys(), _account_numbers(spec), _way(spec)

    def template(items: int) -> bytes:
        item = key + _FIELDS % account + way
        return b'{"mode":"independent","items":[' + b",".join([item] * items) + b"]}"

    def make() -> bytes | None:
        names = list(itertools.islice(numbers, spec.items))
        if not names:
            return None
        pairs = zip(keys, names, strict=False)
        values = keys_only(len(names)) if spec.account else tuple(itertools.chain(*pairs))
        body = template(len(names)) % values
        return _HEAD % (b"/v1/batches", spec.bearer.encode(), len(body)) + b"\r\n" + body

    def keys_only(count: int) -> tuple[int, ...]:
        return tuple(itertools.islice(keys, count))

    return make


def _way(spec: LoadSpec) -> bytes:
    """Return the last field of a posting: how it is to reach the core."""
    if spec.packet is None:
        return b'"straight_through":true}'
    return b'"packet":"%s"}' % spec.packet.encode()


def _load_suffix() -> bytes:
    """Return what keeps the keys of one load apart from those of every other."""
    return secrets.token_hex(6).encode()


def _keys() -> Iterator[int]:
    return (number * _KEY_FACTOR & _KEY_MASK for number in itertools.count(1))


def _account_numbers(spec: LoadSpec) -> Iterator[int]:
    if spec.count:
        return itertools.islice(_passes(spec.accounts), spec.count)
    uniform, accounts = random.Random().random, spec.accounts
    return (int(uniform() * accounts) for _ in itertools.repeat(None))


def _passes(accounts: int) -> Iterator[int]:
    """Go through all accounts again and again, each time in another order."""
    shuffled = list(range(accounts))
    while True:
        random.shuffle(shuffled)
        yield from shuffled
