"""From an ASGI request to an endpoint and back, with every failure turned into a problem.

The web framework's routing, documentation and middleware stay for everything; the routes without
path parameters, which carry the load, are found by one dictionary look-up before it is asked.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import structlog
from prometheus_client import Counter, Histogram
from starlette.requests import ClientDisconnect

from api.calls import Call
from api.metrics import REQUESTS, SECONDS
from api.problems import ProblemError
from api.replies import Reply, problem
from api.routes import ROUTES, Route
from ni import clock
from ni.decisions import Decision
from ni.errors import Overloaded, Unavailable

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Receive, Scope, Send

    from api.services import Services

EXACT: Final = {(route.method, route.path): route for route in ROUTES if "{" not in route.path}

log = structlog.get_logger()


class Counted:
    """A route with its metrics, looked up once."""

    __slots__ = ("_requests", "_seconds", "route")

    def __init__(self, route: Route) -> None:
        self.route = route
        self._requests: dict[int, Counter] = {}
        self._seconds: Histogram = SECONDS.labels(route.name)

    def count(self, status: int, started: float) -> None:
        """Count one answer."""
        counter = self._requests.get(status)
        if counter is None:
            counter = self._requests[status] = REQUESTS.labels(self.route.name, status)
        counter.inc()
        self._seconds.observe(clock.monotonic() - started)

    async def answer(
        self, services: Services, scope: Scope, receive: Receive, parameters: dict[str, str]
    ) -> Reply:
        """Run the endpoint; whatever happens, there is a reply."""
        started = clock.monotonic()
        try:
            reply = await self.route.endpoint(Call(services, scope, receive, parameters))
        except ProblemError as error:
            reply = problem(error.decision, **error.extra)
        except (Overloaded, Unavailable) as error:
            reply = problem(Decision.overloaded, detail=str(error))
        except ClientDisconnect:
            reply = problem(Decision.validation_failed, detail="the client went away")
        except Exception:
            log.exception("endpoint_failed", operation=self.route.name)
            reply = problem(Decision.internal_error)
        self.count(reply.status, started)
        return reply


class Dispatcher:
    """Serves the exact routes itself and hands the rest to the web framework."""

    def __init__(self, framework: ASGIApp) -> None:
        self._framework = framework
        self._exact = {key: Counted(route) for key, route in EXACT.items()}
        self.services: Services | None = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one ASGI connection."""
        if scope["type"] == "http" and self.services is not None:
            counted = self._exact.get((scope["method"], scope["path"]))
            if counted is not None:
                reply = await counted.answer(self.services, scope, receive, {})
                await reply.send(send)
                return
        await self._framework(scope, receive, send)
