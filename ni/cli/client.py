"""`ni client`: the systems that may call NI."""

from __future__ import annotations

from typing import Annotated

import typer
from rich.markup import escape
from rich.table import Table

from ni.cli.support import as_owner, output
from ni.clients import SCOPE_MEANING, add_client, disable_client, list_clients

client = typer.Typer(help="Client systems, their keys and scopes.", no_args_is_help=True)

Name = Annotated[str, typer.Argument(help="1 to 64 of A-Z a-z 0-9 . _ -")]


def register(app: typer.Typer) -> None:
    """Adds the commands to `ni`."""
    app.add_typer(client, name="client")


@client.command()
def add(
    name: Name,
    scopes: Annotated[
        str, typer.Option(help="Scopes, separated by spaces; see `ni client scopes`.")
    ],
) -> None:
    """Add a client and print its key, which is shown this once and kept nowhere."""
    key = as_owner(
        lambda connection: add_client(connection, name, scopes.replace(",", " ").split())
    )
    typer.echo(key)


@client.command(name="list")
def list_() -> None:
    """Show all clients with their scopes."""
    table = Table("client", "scopes", "added", "disabled")
    for known in as_owner(list_clients):
        disabled = "" if known.disabled_at is None else f"{known.disabled_at:%Y-%m-%d %H:%M}"
        table.add_row(
            escape(known.name),
            " ".join(known.scopes),
            f"{known.created_at:%Y-%m-%d %H:%M}",
            disabled,
        )
    output.print(table)


@client.command()
def disable(name: Name) -> None:
    """Take a client's key out of use. Its movements stay as they are."""
    since = as_owner(lambda connection: disable_client(connection, name))
    typer.echo(f"{name} is disabled since {since:%Y-%m-%d %H:%M:%S %Z}")


@client.command()
def scopes() -> None:
    """Show every scope and what it opens."""
    table = Table("scope", "opens")
    for scope, meaning in SCOPE_MEANING.items():
        table.add_row(scope, meaning)
    output.print(table)
