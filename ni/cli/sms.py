"""`ni sms`: texts to customers: who wants them, and what has become of them."""

from __future__ import annotations

from typing import Annotated
from uuid import UUID

import typer
from rich.markup import escape
from rich.table import Column, Table

from ni.cli.support import as_owner, output
from ni.errors import NiError
from ni.identifiers import parse_id
from ni.settings import load_settings
from ni.sms.masks import mask_account, mask_phone
from ni.sms.subscriptions import (
    ROWS_MAX,
    ShownMessage,
    list_messages,
    list_subscriptions,
    revive,
    subscribe,
    unsubscribe,
)
from ni.sms.texts import TYPES

sms = typer.Typer(help="Texts to customers.", no_args_is_help=True)

Account = Annotated[str, typer.Argument(help="The account's number in the core.")]
Limit = Annotated[int, typer.Option(min=1, max=ROWS_MAX, help="Rows at most.")]


def register(app: typer.Typer) -> None:
    """Adds the commands to `ni`."""
    app.add_typer(sms, name="sms")


@sms.command(name="list")
def list_(
    account: Annotated[str, typer.Option(help="Only of this account.")] = "",
    status: Annotated[str, typer.Option(help="Only waiting, sent, kept or dead.")] = "",
    limit: Limit = 20,
) -> None:
    """Show the newest texts and what has become of them."""
    found = as_owner(
        lambda connection: list_messages(connection, account or None, status or None, limit)
    )
    output.print(message_table(found))


@sms.command(name="subscribe")
def subscribe_(
    account: Account,
    phone: Annotated[str, typer.Option(help="Such as +420601234567.")],
    language: Annotated[str, typer.Option(help="en, ja or ru.")] = "en",
    types: Annotated[str, typer.Option(help="Types of events, by comma; empty: all.")] = "",
) -> None:
    """Send texts about an account from now on; again: with another phone, language or types."""
    wanted = [name.strip() for name in types.split(",")] if types else TYPES
    as_owner(lambda connection: subscribe(connection, account, phone, language, wanted))
    typer.echo(f"{account}: texts in {language} to {mask_phone(phone)}")


@sms.command(name="unsubscribe")
def unsubscribe_(account: Account) -> None:
    """Send no more texts about an account; those that wait are sent yet."""
    as_owner(lambda connection: unsubscribe(connection, account))
    typer.echo(f"{account}: no texts any more")


@sms.command()
def subscriptions(
    after: Annotated[str, typer.Option(help="Begin after this account.")] = "",
    limit: Limit = 100,
) -> None:
    """Show who wants texts about which account."""
    found = as_owner(lambda connection: list_subscriptions(connection, after, limit))
    table = Table("account", "phone", "language", Column("types", overflow="fold"), "since")
    for one in found:
        types = "all" if one.types == TYPES else " ".join(one.types)
        since = f"{one.since:%Y-%m-%d %H:%M}"
        table.add_row(escape(one.account), mask_phone(one.phone), one.language, types, since)
    output.print(table)


@sms.command()
def retry(
    event: Annotated[str, typer.Option(help="Only this event's text.")] = "",
    *,
    old: Annotated[bool, typer.Option("--old", help="With --event: even if too old.")] = False,
    limit: Limit = ROWS_MAX,
) -> None:
    """Let dead texts be tried again, with the ids and the words that they had."""
    identifier = _identifier(event)
    age_s = load_settings().sms_age_max_s
    many = as_owner(lambda connection: revive(connection, identifier, age_s, limit, old=old))
    if identifier is not None and many == 0:
        raise NiError(
            f"{event} is not tried again: it is not dead, or its customer wants texts no more or at"
            " another number, or it is too old (--old sends it all the same, with the balance of"
            " then)"
        )
    typer.echo(f"{many} texts are tried again")


def _identifier(text: str) -> UUID | None:
    identifier = parse_id(text) if text else None
    if text and identifier is None:
        raise NiError(f"{text!r} is no id of an event")
    return identifier


def message_table(messages: list[ShownMessage]) -> Table:
    """Messages, newest first: when, which account, to whom; the text; the event's id; trouble."""
    table = Table(Column("text", overflow="fold"), Column("status", no_wrap=True))
    for one in messages:
        head = f"{one.event_time:%Y-%m-%d %H:%M:%S} {mask_account(one.account)}"
        head = f"{head} to {mask_phone(one.phone)}"
        tries = f"{one.tries} tries" if one.tries > 1 else ""
        trouble = ", ".join(filter(None, (tries, one.reason)))
        lines = (head, one.text, str(one.event_id), trouble)
        table.add_row(escape("\n".join(filter(None, lines))), one.status)
    return table
