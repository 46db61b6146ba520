"""`ni packet`: packets and their problems, as the REST API has them."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from ni.cli import packet_tables as tables
from ni.cli.api import Query, open_api, segment
from ni.cli.support import clients_of_run, output
from ni.errors import NiError

packet = typer.Typer(help="Packets and their problems.", no_args_is_help=True)

OPERATOR = "operator"
APPROVER = "approver"
ALL = "all"

Packet = Annotated[str, typer.Argument(help="The packet's name.")]
Owner = Annotated[
    str | None, typer.Option("--client", help="Whose packet it is; by default the caller's own.")
]
Caller = Annotated[
    str | None, typer.Option("--as", help="Whose key to use, of those `ni up` made.")
]
Number = Annotated[
    int | None, typer.Option(help="Which run; by default the newest that waits.", min=1)
]
Actor = Annotated[str | None, typer.Option(help="Who asked: a person.")]
Reason = Annotated[str, typer.Option(help="Why, for those who look at it later.")]
Limit = Annotated[int, typer.Option(min=1, help="How many to show.")]


def register(app: typer.Typer) -> None:
    """Adds the commands to `ni`."""
    app.add_typer(packet, name="packet")


@packet.callback()
def where(
    context: typer.Context,
    base_url: Annotated[str, typer.Option(help="NI's address, if `ni up` does not run here.")] = "",
    key: Annotated[str, typer.Option(envvar="NI_KEY", help="A client's key, likewise.")] = "",
) -> None:
    """Packets and their problems."""
    context.obj = (base_url, key)


@packet.command(name="list")
def list_(
    context: typer.Context,
    client: Owner = None,
    status: Annotated[
        str | None, typer.Option(help="open, awaiting_acceptance, problems or booked.")
    ] = None,
    limit: Limit = 100,
    as_: Caller = None,
) -> None:
    """Show packets by name: a client's, else those of every client that `ni up` made."""
    found: list[dict[str, Any]] = []
    with open_api(as_ or OPERATOR, *context.obj) as api:
        for owner in _owners(context, client, as_):
            query = {"client": owner, "status": status}
            found += api.items("/v1/packets", query, limit - len(found))
    output.print(tables.packets(found))


@packet.command()
def show(
    context: typer.Context,
    name: Packet,
    client: Owner = None,
    postings: Annotated[
        str | None,
        typer.Option(help="Show its postings too: of this status, such as problem, or all."),
    ] = None,
    limit: Limit = 100,
    as_: Caller = None,
) -> None:
    """Show a packet with its runs and, if asked, its postings, newest first."""
    query = _owner(context, client, as_)
    path = f"/v1/packets/{segment(name)}"
    with open_api(as_ or OPERATOR, *context.obj) as api:
        output.print(*tables.packet(api.get(path, query)))
        if postings is not None:
            asked = {**query, "status": None if postings == ALL else postings}
            output.print(tables.postings(api.items(f"{path}/postings", asked, limit)))


@packet.command()
def unload(
    context: typer.Context,
    name: Packet,
    client: Owner = None,
    as_: Caller = None,
    *,
    accepted: Annotated[
        bool,
        typer.Option(
            "--accepted/--not-accepted", help="Whether it counts at once or waits for a person."
        ),
    ] = True,
) -> None:
    """Write what is pending in a packet to the core. By default the packet's own client asks."""
    query = _owner(context, client, as_)
    with open_api(as_ or client or OPERATOR, *context.obj) as api:
        path = f"/v1/packets/{segment(name)}/unload"
        output.print(*tables.run(api.post(path, {"accepted": accepted}, query)))


@packet.command()
def accept(
    context: typer.Context,
    name: Packet,
    client: Owner = None,
    number: Number = None,
    actor: Actor = None,
    as_: Caller = None,
) -> None:
    """Let a packet that waits count in the core. By default the approver asks."""
    query = _owner(context, client, as_)
    with open_api(as_ or APPROVER, *context.obj) as api:
        path = f"/v1/packets/{segment(name)}/accept"
        output.print(*tables.run(api.post(path, {"number": number, "actor": actor}, query)))


@packet.command()
def reject(
    context: typer.Context,
    name: Packet,
    reason: Reason,
    client: Owner = None,
    number: Number = None,
    actor: Actor = None,
    as_: Caller = None,
) -> None:
    """Take a packet that waits out of the core; its postings are pending again."""
    query = _owner(context, client, as_)
    body = {"number": number, "reason": reason, "actor": actor}
    with open_api(as_ or APPROVER, *context.obj) as api:
        output.print(*tables.run(api.post(f"/v1/packets/{segment(name)}/reject", body, query)))


@packet.command()
def problems(
    context: typer.Context,
    client: Annotated[str | None, typer.Option(help="Only this client's.")] = None,
    status: Annotated[str, typer.Option(help="open, resolved or all.")] = "open",
    limit: Limit = 100,
    as_: Caller = None,
) -> None:
    """Show the postings that the core could not book, oldest first."""
    query = {"client": client, "status": None if status == ALL else status}
    with open_api(as_ or OPERATOR, *context.obj) as api:
        output.print(tables.problems(api.items("/v1/problems", query, limit)))


@packet.command()
def resolve(  # noqa: PLR0913  a parameter for each field of the request
    context: typer.Context,
    posting_id: Annotated[str, typer.Argument(help="The posting that is a problem.")],
    action: Annotated[str, typer.Argument(help="retry, cancel or redirect.")],
    *,
    reason: Reason,
    debit_account: Annotated[
        str | None, typer.Option(help="Of a redirect: the account that pays instead.")
    ] = None,
    credit_account: Annotated[
        str | None, typer.Option(help="Of a redirect: the account that receives instead.")
    ] = None,
    check: Annotated[
        str, typer.Option(help="none: whoever loses by it is not asked for the money.")
    ] = "available",
    actor: Actor = None,
    as_: Caller = None,
) -> None:
    """Settle a problem: try it again, cancel it, or book it on another account."""
    body = {
        "action": action,
        "reason": reason,
        "debit_account": debit_account,
        "credit_account": credit_account,
        "check": check,
        "actor": actor,
    }
    with open_api(as_ or OPERATOR, *context.obj) as api:
        path = f"/v1/problems/{segment(posting_id)}/resolve"
        output.print(*tables.resolution(api.post(path, body)))


def _owner(context: typer.Context, client: str | None, as_: str | None) -> Query:
    """The query that names a packet's client. Raises NiError when nobody is named at all."""
    _, key = context.obj
    if not (client or as_ or key):
        raise NiError("say whose packet it is: --client NAME")
    return {"client": client}


def _owners(context: typer.Context, client: str | None, as_: str | None) -> list[str | None]:
    """The clients whose packets are listed; None is the caller itself."""
    _, key = context.obj
    if client or as_ or key:
        return [client]
    return [*clients_of_run()]
