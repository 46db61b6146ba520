"""docs/reference/rest.md has every route, field, scope and decision as the code has them."""

from __future__ import annotations

import inspect
import re
from typing import Any, get_args

import pytest
from pydantic import BaseModel

from api.batches import CaptureItem, HoldItem, PostingItem, ReleaseItem
from api.problems import PROBLEMS
from api.routes import ROUTES, Route
from api.scopes import IMPLIED, SCOPES
from ni.clients import SCOPE_MEANING
from ni.decisions import NOT_STORED, Decision
from tests.docs.pages import headings, page, rows, section

REST = "reference/rest.md"
ITEMS = (PostingItem, HoldItem, CaptureItem, ReleaseItem)


def scope_of(route: Route) -> str:
    """The scopes that a route asks for first, read from its endpoint."""
    match = re.search(r"\.authenticate\(\"(\w+)\"\)", inspect.getsource(route.endpoint))
    if match is None:
        return "no key"
    return ", ".join(_granted_by(scope) for scope in sorted(SCOPES[match[1]])) or "any key"


def _granted_by(right: str) -> str:
    """The scopes that bring a right which is none of its own; else the scope itself."""
    return " or ".join(sorted(scope for scope in IMPLIED if IMPLIED[scope] == right)) or right


def fields_of(body: type[BaseModel]) -> dict[str, str]:
    """The fields of a body with their defaults, as the page writes them."""
    found = {}
    for name, field in body.model_fields.items():
        default: Any = "required" if field.is_required() else field.default
        found[name] = {None: "null", True: "true", False: "false"}.get(default, default)
    return found


def test_every_decision_has_a_problem() -> None:
    assert PROBLEMS.keys() == set(Decision) - {Decision.approved}


def test_decision_numbers_are_used_once() -> None:
    numbers = [member.value for member in Decision.__members__.values()]
    assert len(set(numbers)) == len(numbers)
    assert Decision.approved.value == 0


def test_every_decision_is_listed() -> None:
    listed = {row[0]: row[1:5] for row in rows(section(page(REST), "Decisions"))}
    expected = {
        decision.name: [
            str(decision.value),
            str(PROBLEMS[decision][0]),
            "" if decision in NOT_STORED else "yes",
            PROBLEMS[decision][1],
        ]
        for decision in PROBLEMS
    }
    assert listed == expected


def test_every_route_is_listed() -> None:
    listed = [row[:4] for row in rows(section(page(REST), "Endpoints"))]
    expected = [[route.method, route.path, str(route.status), scope_of(route)] for route in ROUTES]
    assert sorted(listed) == sorted(expected)


def test_every_scope_is_listed() -> None:
    listed = {row[0]: row[1] for row in rows(section(page(REST), "Scopes"))}
    assert listed == dict(SCOPE_MEANING)
    asked = set().union(*SCOPES.values()) - set(IMPLIED.values())
    assert asked | IMPLIED.keys() <= SCOPE_MEANING.keys()


@pytest.mark.parametrize("route", [route for route in ROUTES if route.body], ids=lambda r: r.name)
def test_every_field_is_listed(route: Route) -> None:
    assert route.body is not None
    text = section(page(REST), f"`{route.method} {route.path}`")
    assert {row[0]: row[1] for row in rows(text)} == fields_of(route.body)
    assert all(row[2] for row in rows(text))


def test_batch_items_are_the_fields_of_their_operation_and_two_or_three_more() -> None:
    """The page says so instead of repeating them."""
    for item in ITEMS:
        more = {"operation", "idempotency_key", "hold_id"}
        (operation,) = get_args(item.model_fields["operation"].annotation)
        assert f"`{operation}`" in section(page(REST), "`POST /v1/batches`")
        (body,) = [base for base in item.__bases__ if base.__module__ != "api.batches"]
        assert issubclass(body, BaseModel)
        assert item.model_fields.keys() - body.model_fields.keys() <= more


def test_query_parameters_are_listed() -> None:
    for route in ROUTES:
        for name in route.query:
            assert f"`{name}`" in section(page(REST), "Lists"), (route.path, name)


def test_no_heading_describes_a_route_that_does_not_exist() -> None:
    known = {f"{route.method} {route.path}" for route in ROUTES}
    described = {h for h in headings(page(REST)) if h.startswith(("GET /", "POST /"))}
    assert described <= known
