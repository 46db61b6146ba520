"""The REST door: the only place that wires. `create_app` makes it, `python -m api` serves it."""

from __future__ import annotations

import gc
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any, Final

from fastapi import FastAPI
from fastapi.routing import APIRoute
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from api.answers import PROBLEM_SCHEMA, schema_of
from api.dispatch import Counted, Dispatcher
from api.replies import problem
from api.routes import ROUTES, Route
from api.services import Services
from ni.decisions import Decision
from ni.settings import Settings, load_settings

GC_THRESHOLD: Final = 20_000
"""New objects before a collection. What decisions make is freed without one, as soon as it is done
with; at the usual 700 a batch is walked through thirty times while it is made."""

_PROBLEM = {
    "description": "a problem document",
    "content": {"application/problem+json": {"schema": PROBLEM_SCHEMA}},
}


class RawRoute(APIRoute):
    """A route whose endpoint reads the request itself: no dependencies are solved for it."""

    def get_route_handler(self) -> Any:
        """The endpoint as it is."""
        return self.endpoint


def create_app(settings: Settings | None = None) -> Dispatcher:
    """The ASGI application; it connects when its lifespan begins."""
    chosen = settings or load_settings()

    @asynccontextmanager
    async def lifespan(_app: FastAPI) -> AsyncIterator[None]:
        services = await Services.open(chosen)
        dispatcher.services = services
        gc.collect()
        gc.freeze()  # what is there now stays: no collection need look at it again
        gc.set_threshold(GC_THRESHOLD)
        try:
            yield
        finally:
            dispatcher.services = None
            await services.close()

    docs = "/docs" if chosen.api_docs else None
    app = FastAPI(
        title="NI", version="1", docs_url=docs, redoc_url=None, lifespan=lifespan,
        redirect_slashes=False,
    )  # fmt: skip
    app.router.route_class = RawRoute
    dispatcher = Dispatcher(app)
    for route in ROUTES:
        _add_route(app, dispatcher, route)
    app.add_exception_handler(HTTPException, _framework_error)
    app.openapi = _with_key_scheme(app.openapi)  # type: ignore[method-assign]  # FastAPI's own way
    return dispatcher


def _with_key_scheme(describe: Callable[[], dict[str, Any]]) -> Callable[[], dict[str, Any]]:
    """The description of the API, with the keys that its operations name."""

    def described() -> dict[str, Any]:
        schema = describe()
        schemes = schema.setdefault("components", {}).setdefault("securitySchemes", {})
        schemes["key"] = {"type": "http", "scheme": "bearer"}
        return schema

    return described


def _add_route(app: FastAPI, dispatcher: Dispatcher, route: Route) -> None:
    counted = Counted(route)

    async def endpoint(request: Request) -> Response:
        assert dispatcher.services is not None, "requests come after the lifespan has begun"
        parameters = request.path_params
        reply = await counted.answer(
            dispatcher.services, request.scope, request.receive, parameters
        )
        return reply.response()

    app.add_api_route(
        route.path,
        endpoint,
        methods=[route.method],
        status_code=route.status,
        name=route.name,
        operation_id=route.name,
        summary=(route.endpoint.__doc__ or "").strip(),
        response_model=None,
        responses=_responses(route),
        openapi_extra=_documentation(route),
    )


def _responses(route: Route) -> dict[int | str, dict[str, Any]]:
    """What OpenAPI says of a route's answers."""
    found: dict[int | str, dict[str, Any]] = {"4XX": _PROBLEM, "503": _PROBLEM}
    if route.answer is not None:
        schema = schema_of(route.answer)
        content = {"application/json": {"schema": _inlined(schema, schema.get("$defs", {}))}}
        found[route.status] = {"description": "done", "content": content}
    return found


def _documentation(route: Route) -> dict[str, Any]:
    """What OpenAPI says of a route beyond its path."""
    parameters = [
        _parameter("path", name)
        for name in ("id", "account", "packet")
        if f"{{{name}}}" in route.path
    ]
    parameters += [_parameter("query", name) for name in route.query]
    if route.body is not None and route.keyed:
        parameters.append(_parameter("header", "Idempotency-Key"))
    found: dict[str, Any] = {"parameters": parameters} if parameters else {}
    if route.body is not None:
        schema = route.body.model_json_schema()
        found["requestBody"] = {
            "required": "required" in schema,
            "content": {"application/json": {"schema": _inlined(schema, schema.get("$defs", {}))}},
        }
    if route.path.startswith("/v1"):
        found["security"] = [{"key": []}]
    return found


def _parameter(where: str, name: str) -> dict[str, Any]:
    return {"in": where, "name": name, "required": where != "query", "schema": {"type": "string"}}


def _inlined(schema: Any, definitions: dict[str, Any]) -> Any:
    """`schema` with its local references replaced by what they name."""
    if isinstance(schema, list):
        return [_inlined(item, definitions) for item in schema]
    if not isinstance(schema, dict):
        return schema
    if "$ref" in schema:
        return _inlined(definitions[schema["$ref"].rsplit("/", 1)[-1]], definitions)
    return {
        key: _inlined(value, definitions)
        for key, value in schema.items()
        if key not in ("$defs", "discriminator")
    }


async def _framework_error(_request: Request, error: Exception) -> Response:
    """The framework's own refusals (no such path, no such method) as problems."""
    status = error.status_code if isinstance(error, HTTPException) else 500
    decision = {404: Decision.not_found, 405: Decision.method_not_allowed}.get(status)
    return problem(decision or Decision.internal_error).response()
