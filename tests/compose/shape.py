"""docker-compose.yml as docker compose would read it, and the files beside it."""

from __future__ import annotations

import re
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import Any, Final

ROOT: Final = Path(__file__).resolve().parents[2]
SAMPLE: Final = "sample"
_VARIABLE: Final = re.compile(r"\$\$|\$\{(?P<name>\w+)(?P<rule>:[-?])?(?P<default>[^}]*)\}")
# PyYAML brings no types.
_yaml: Final[Any] = import_module("yaml")


@cache
def compose() -> dict[str, Any]:
    """The whole document; its variables are not filled in."""
    document = _yaml.safe_load((ROOT / "docker-compose.yml").read_text())
    assert isinstance(document, dict)
    return document


def services() -> dict[str, dict[str, Any]]:
    """Every container by its name."""
    found = compose()["services"]
    assert isinstance(found, dict)
    return found


def ours() -> dict[str, dict[str, Any]]:
    """The containers that run NI's own image."""
    return {name: service for name, service in services().items() if "build" in service}


def secrets_of(service: dict[str, Any]) -> dict[str, int]:
    """A container's secrets with the mode of their files."""
    return {one["source"]: one["mode"] for one in service.get("secrets", ())}


def seconds(duration: str) -> int:
    """A duration such as 30s."""
    assert duration.endswith("s"), duration
    return int(duration.removesuffix("s"))


def variables(value: object) -> list[re.Match[str]]:
    """Every use of a variable of the environment in `value`, whatever it is made of."""
    if isinstance(value, dict):
        return [match for part in value.values() for match in variables(part)]
    if isinstance(value, list):
        return [match for part in value for match in variables(part)]
    return [match for match in _VARIABLE.finditer(str(value)) if match["name"]]


def filled(value: str, environment: dict[str, str]) -> str:
    """The text with its variables replaced. Raises KeyError for one that is required."""

    def of(match: re.Match[str]) -> str:
        if match[0] == "$$":
            return "$"
        given = environment.get(match["name"], "")
        if given or match["rule"] == ":?":
            return given or environment[match["name"]]
        return match["default"]

    return _VARIABLE.sub(of, value)


def environment_of(service: dict[str, Any], given: dict[str, str]) -> dict[str, str]:
    """What a container's process finds in its environment."""
    return {name: filled(value, given) for name, value in service.get("environment", {}).items()}


def sample_environment() -> dict[str, str]:
    """A filled-in tools/compose/env.example: every secret a word, a schedule."""
    given = {name: value or SAMPLE for name, value in example().items()}
    return given | {
        "NI_CLOSE_TIME": "18:00",
        "NI_OPEN_TIME": "06:00",
        "NI_HOLIDAYS": "",
        "NI_SMS_GATEWAY_URL": "",
    }


def example() -> dict[str, str]:
    """The names that tools/compose/env.example has, with what it says of each."""
    lines = (ROOT / "tools/compose/env.example").read_text().splitlines()
    pairs = [line.partition("=") for line in lines if line and not line.startswith("#")]
    return {name: value for name, _, value in pairs}


def health(service: dict[str, Any]) -> list[str]:
    """The words of a health check that is no shell line."""
    kind, *words = service["healthcheck"]["test"]
    assert kind == "CMD", words
    return [str(word) for word in words]
