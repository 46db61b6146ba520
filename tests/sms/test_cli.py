"""`ni sms`: who wants texts, what became of them, and dead ones tried again."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from uuid import UUID

import pytest
from typer.testing import CliRunner, Result

from ni.cli import app
from ni.errors import NiError
from ni.sms.gateway import Outcome
from tests.sms.scene import PHONE, Scene, make_event
from tests.support.databases import Database

A, B = "CZ0000002378", "CZ0000003006"


@pytest.fixture
def ni(database: Database, monkeypatch: pytest.MonkeyPatch) -> CliRunner:
    """The command line on the test's database."""
    monkeypatch.setenv("NI_OWNER_DATABASE_URL", database.owner_dsn)
    return CliRunner(env={"COLUMNS": "200"})


def said(ni: CliRunner, *words: str) -> str:
    """What a command that succeeds prints."""
    result = asked(ni, *words)
    assert result.exit_code == 0, result.output
    return result.output


def asked(ni: CliRunner, *words: str) -> Result:
    """A command's result; it runs in a thread of its own, as the test has a loop already."""
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(ni.invoke, app, ["sms", *words]).result()


async def test_subscriptions_come_and_go(ni: CliRunner, scene: Scene) -> None:
    assert said(ni, "subscribe", A, "--phone", PHONE) == f"{A}: texts in en to *67\n"
    said(ni, "subscribe", B, "--phone", PHONE, "--language", "ja", "--types", "ni.posting.created")
    said(ni, "subscribe", B, "--phone", PHONE, "--language", "ru", "--types", "ni.hold.placed")
    shown = said(ni, "subscriptions")
    assert A in shown
    assert "all" in shown
    assert "ni.hold.placed" in shown
    assert "ja" not in shown
    assert PHONE not in shown
    assert A not in said(ni, "subscriptions", "--after", A)
    assert said(ni, "unsubscribe", A) == f"{A}: no texts any more\n"
    assert A not in said(ni, "subscriptions")


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        (("subscribe", "cz 1", "--phone", PHONE), "no account number"),
        (("subscribe", A, "--phone", "0601234567"), "phone number"),
        (("subscribe", A, "--phone", PHONE, "--language", "de"), "en, ja, ru"),
        (("subscribe", A, "--phone", PHONE, "--types", "ni.day.closed"), "not ni.day.closed"),
        (("unsubscribe", A), "nobody wants texts"),
        (("list", "--status", "lost"), "waiting, sent, kept, dead"),
        (("list", "--account", "x"), "no account number"),
        (("retry", "--event", "x"), "no id of an event"),
        (("retry", "--event", "01a20047-3ddb-751a-9f86-9ddd43be0000"), "is not tried again"),
        (("retry", "--old"), "name the event"),
    ],
    ids=[
        "account",
        "phone",
        "language",
        "types",
        "nobody",
        "status",
        "listed",
        "event",
        "unknown",
        "old",
    ],
)
async def test_what_is_wrong_is_said(
    ni: CliRunner, scene: Scene, words: tuple[str, ...], complaint: str
) -> None:
    result = asked(ni, *words)
    assert isinstance(result.exception, NiError)
    assert complaint in str(result.exception)


async def test_messages_are_shown_with_what_became_of_them(ni: CliRunner, scene: Scene) -> None:
    await scene.subscribe(A, B)
    events = [make_event(A, 1), make_event(B, 1), make_event(A, 2)]
    await scene.take(*events)
    for message in await scene.store.lease(0, 5):
        outcome = Outcome("dead", "status_422") if message.account == B else Outcome("kept")
        await scene.settle(message, outcome, 0)
    shown = said(ni, "list")
    assert shown.index(events[2].id) < shown.index(events[1].id) < shown.index(events[0].id)
    assert "*2378 to *67" in shown
    assert A not in shown
    assert PHONE not in shown
    assert "Account *2378: CZK 50.00 debited. Available: CZK 100.00." in shown
    assert "status_422" in shown
    dead = said(ni, "list", "--status", "dead")
    assert events[1].id in dead
    assert events[0].id not in dead
    assert events[1].id not in said(ni, "list", "--account", A)
    assert events[0].id not in said(ni, "list", "--limit", "1")
    narrow = CliRunner(env={"COLUMNS": "60"})
    assert events[2].id in said(narrow, "list")


async def test_dead_texts_are_tried_again_as_they_were(ni: CliRunner, scene: Scene) -> None:
    await scene.subscribe(A, B)
    events = [make_event(A, 1), make_event(B, 1)]
    await scene.take(*events)
    texts = {row["event_id"]: row["text"] for row in await scene.rows()}
    for message in await scene.store.lease(0, 5):
        await scene.settle(message, Outcome("dead", "status_400"), 0)
    assert await scene.store.lease(0, 5) == []
    assert said(ni, "retry", "--event", events[0].id) == "1 texts are tried again\n"
    [again] = await scene.store.lease(0, 5)
    # The pauses begin anew; that it has been tried is not forgotten.
    assert (again.event_id, again.tries, again.failures) == (UUID(events[0].id), 2, 1)
    assert again.text == texts[again.event_id]
    assert said(ni, "retry") == "1 texts are tried again\n"
    assert said(ni, "retry") == "0 texts are tried again\n"
    assert len(await scene.store.lease(0, 5)) == 1
