"""`ni worker`: one worker in the foreground, as `ni up` starts each of them."""

from __future__ import annotations

import os
import sys
from typing import Annotated

import typer

from ni.worker_names import WORKERS


def register(app: typer.Typer) -> None:
    """Adds the command to `ni`."""
    app.command(name="worker")(worker)


def worker(
    name: Annotated[str, typer.Argument(help=f"One of {', '.join(WORKERS)}.")],
) -> None:
    """Run a worker here until Ctrl-C. Two of a kind at once do no harm."""
    # The engine knows no worker: it hands this process over to the one that is named.
    os.execv(sys.executable, [sys.executable, "-m", "workers", name])  # noqa: S606  no shell wanted
