"""OpenAPI shows every route with its body, parameters and status.

Also the routes that are found before the framework is asked.
"""

from __future__ import annotations

from typing import Any

import httpx
import pytest

from api.app import create_app
from api.routes import ROUTES, Route
from ni.settings import Settings


async def asked(path: str, settings: Settings) -> httpx.Response:
    """What an API that has not connected to anything answers."""
    transport = httpx.ASGITransport(create_app(settings))
    async with httpx.AsyncClient(transport=transport, base_url="http://ni") as client:
        return await client.get(path)


@pytest.fixture
async def document() -> Any:
    """The document that `/openapi.json` serves."""
    return (await asked("/openapi.json", Settings())).json()


def operation_of(document: Any, route: Route) -> Any:
    """What the document says of a route."""
    return document["paths"][route.path][route.method.lower()]


def test_every_route_is_shown(document: Any) -> None:
    shown = {(m.upper(), path) for path, methods in document["paths"].items() for m in methods}
    assert shown == {(route.method, route.path) for route in ROUTES}
    for route in ROUTES:
        operation = operation_of(document, route)
        assert operation["operationId"] == route.name
        assert str(route.status) in operation["responses"]
        assert ("security" in operation) is route.path.startswith("/v1")


def test_bodies_are_those_of_the_models(document: Any) -> None:
    for route in ROUTES:
        operation = operation_of(document, route)
        if route.body is None:
            assert "requestBody" not in operation
            continue
        schema = operation["requestBody"]["content"]["application/json"]["schema"]
        assert "$ref" not in str(schema), route.name
        assert schema["properties"].keys() == route.body.model_fields.keys()
        required = {n for n, field in route.body.model_fields.items() if field.is_required()}
        assert set(schema.get("required", ())) == required
        assert operation["requestBody"]["required"] is bool(required), route.name
        assert schema["additionalProperties"] is False


def test_answers_are_those_of_the_models(document: Any) -> None:
    for route in ROUTES:
        answers = operation_of(document, route)["responses"]
        if route.answer is None:
            continue
        schema = answers[str(route.status)]["content"]["application/json"]["schema"]
        assert "$ref" not in str(schema), route.name
        fields = {field.alias or name for name, field in route.answer.model_fields.items()}
        assert schema["properties"].keys() == fields
        assert "urn:ni:problem" in str(answers["4XX"]["content"]["application/problem+json"])


def test_parameters_are_those_of_the_route(document: Any) -> None:
    for route in ROUTES:
        shown = {p["name"]: p["in"] for p in operation_of(document, route).get("parameters", ())}
        parts = ("id", "account", "packet")
        expected = {name: "path" for name in parts if f"{{{name}}}" in route.path}
        expected |= dict.fromkeys(route.query, "query")
        if route.body is not None and route.keyed:
            expected["Idempotency-Key"] = "header"
        assert shown == expected, route.name


async def test_the_page_to_try_it_can_be_switched_off() -> None:
    assert (await asked("/docs", Settings())).status_code == 200
    assert (await asked("/docs", Settings(api_docs=False))).status_code == 404
