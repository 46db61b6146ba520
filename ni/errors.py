"""The errors that NI raises. Business refusals are values (`ni.decisions`), never exceptions.

NiError                       an expected failure; its text tells the operator what to do
├── Overloaded                the queue is full, or a deadline passed before the decision
├── Unavailable               the database cannot be reached now
└── BrokenPromise             something that must hold did not: a bug, or a table changed by hand
"""


class NiError(Exception):
    """An expected failure; its text tells the operator what to do."""


class Overloaded(NiError):
    """No decision was begun for want of room or time; the same request may be sent again."""


class Unavailable(NiError):
    """The database did not answer within the deadline; the outcome is told by the same key."""


class BrokenPromise(NiError):
    """An invariant does not hold. Nothing of the batch was committed."""
