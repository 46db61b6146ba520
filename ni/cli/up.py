"""`ni up` and `ni down`: NI on one machine, with everything it needs."""

from __future__ import annotations

from typing import Annotated

import typer
from rich.console import Console
from rich.markup import escape

from ni.settings import Settings
from ni.up import Ready, StopAsked, Up, down

_console = Console(soft_wrap=True, highlight=False)

Demo = Annotated[
    bool | None,
    typer.Option(
        "--demo/--no-demo",
        help="Add the demo clients and bank. Default: to the embedded database only.",
    ),
]


def register(app: typer.Typer) -> None:
    """Adds the commands to `ni`."""
    app.command(name="up")(run_up)
    app.command(name="down")(run_down)


def run_up(demo: Demo = None) -> None:
    """Start NI here: servers, database, API, workers. Ctrl-C stops everything."""
    up = Up(Settings(), tell=_tell, demo=demo)
    try:
        with up.running() as ready:
            _show(ready)
            up.serve()
    except StopAsked:
        pass
    _console.print("NI has stopped.")


def run_down() -> None:
    """Stop the NI of this NI_HOME, also one that was killed and left its servers running."""
    home = Settings().home
    _console.print(
        "NI has stopped." if down(Settings(), _tell) else f"NI does not run with NI_HOME={home}.",
        markup=False,
    )


def _tell(line: str) -> None:
    _console.print(f"[dim]-[/dim] {escape(line)}")


def _show(ready: Ready) -> None:
    """Where everything is, and a first call. Keys are never on the screen."""
    run_file = escape(str(ready.run_file))
    _console.print(f"\n[bold green]NI is ready[/bold green] at [bold]{ready.base_url}[/bold]")
    _console.print(f"  API docs   {ready.base_url}/docs")
    if ready.clients:
        _console.print(f"  keys       {run_file} (clients {', '.join(ready.clients)})")
    else:
        _console.print(f"  addresses  {run_file}; a key: ni client add NAME --scopes ...")
    _console.print(f"  logs       {escape(str(ready.logs))}")
    if "cash" in ready.clients:
        _console.print("\nThe balance of a demo account:")
        _console.print(
            f'  KEY=$(sed -n \'s/.*"cash": "\\(.*\\)".*/\\1/p\' {run_file})', markup=False
        )
        url = f"{ready.base_url}/v1/accounts/CZ1100002378/balance"
        _console.print(f'  curl -H "Authorization: Bearer $KEY" {url}', markup=False)
    _console.print("\nCtrl-C stops NI; `ni down` does so from elsewhere.")
