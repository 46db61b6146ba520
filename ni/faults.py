"""What a worker's log says of a fault: enough to act on, and nothing of anybody's money or text."""

from __future__ import annotations

from ni.errors import NiError


def told_faults(error: BaseException) -> list[str]:
    """The kinds of all faults in `error`, and what NI itself says of one.

    What PostgreSQL says may have the row in it, so only its code is told.
    """
    if isinstance(error, BaseExceptionGroup):
        return sorted({told for part in error.exceptions for told in told_faults(part)})
    return [told_fault(error)]


def told_fault(error: BaseException) -> str:
    """The same of one fault."""
    name = type(error).__name__
    if isinstance(error, NiError) and str(error):
        return f"{name}: {error}"
    code = getattr(error, "sqlstate", None)
    return f"{name} {code}" if code else name
