"""The port to a bank's core: what its views must be, checked at every start."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ni.errors import NiError
from ni.sql import query

if TYPE_CHECKING:
    from ni.database import Session


async def check_base(session: Session) -> None:
    """Raises NiError unless the base can be read in one snapshot with NI's own figures.

    A view that calls a VOLATILE function or reads a foreign table sees a later snapshot: a packet
    would count twice or not at all.
    """
    faults = [row["fault"] for row in await session.fetch(query("base_faults"))]
    if faults:
        raise NiError(
            f"the views of the core cannot serve as a base: {'; '.join(faults)}. "
            "See docs/explanation/core-port.md"
        )
