"""Who the embedded servers run as, and programs that this user cannot reach."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest

from ni.errors import NiError
from ni.service_user import Bundle, ServiceUser, choose_user, place_folder, reachable_root
from tests.support.homes import temporary_home

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="only root has to change the user")

BUNDLE = Bundle(
    "pretend-server", "pretend_server", ("pretend_server/bin",), ("pretend_server/bin/run",)
)


@pytest.fixture
def installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A package with a program in a folder that only root may enter."""
    site = tmp_path / "closed"
    program = site / BUNDLE.programs[0]
    program.parent.mkdir(parents=True)
    site.chmod(0o700)
    (site / "pretend_server" / "__init__.py").write_text("raise AssertionError('never imported')")
    program.write_text("#!/bin/sh\necho 18\n")
    program.chmod(0o700)
    facts = site / "pretend_server-1.0.dist-info"
    facts.mkdir()
    (facts / "METADATA").write_text("Metadata-Version: 2.1\nName: pretend-server\nVersion: 1.0\n")
    (facts / "RECORD").write_text("pretend_server/bin/run,sha256=x,20\n")
    monkeypatch.syspath_prepend(str(site))
    return site


@pytest.fixture
def system_folder() -> Iterator[Path]:
    with temporary_home() as folder:
        yield folder / "ni"


@pytest.fixture
def user() -> ServiceUser:
    return choose_user("nobody", Path("/nonexistent"))


def test_programs_out_of_reach_are_copied_once(
    installed: Path, system_folder: Path, user: ServiceUser
) -> None:
    root = reachable_root(BUNDLE, user, system_folder)
    assert root.parent == system_folder
    assert user.can(str(root / BUNDLE.programs[0]))
    assert stat.S_IMODE((root / BUNDLE.programs[0]).stat().st_mode) == 0o755
    assert (root / BUNDLE.programs[0]).stat().st_uid == 0
    assert stat.S_IMODE(installed.stat().st_mode) == 0o700
    made_at = root.stat().st_mtime_ns
    assert reachable_root(BUNDLE, user, system_folder) == root
    assert root.stat().st_mtime_ns == made_at
    assert [path.name for path in system_folder.iterdir()] == [root.name]


def test_programs_are_not_taken_from_a_folder_that_others_write(
    installed: Path, system_folder: Path, user: ServiceUser
) -> None:
    system_folder.mkdir()
    system_folder.chmod(0o777)
    with pytest.raises(NiError, match="is not root's alone"):
        reachable_root(BUNDLE, user, system_folder)


def test_unreachable_system_folder_is_told(
    installed: Path, tmp_path: Path, user: ServiceUser
) -> None:
    with pytest.raises(NiError, match="set NI_EMBEDDED_DIR to a folder"):
        reachable_root(BUNDLE, user, tmp_path / "also-closed")


def test_missing_package_is_told(user: ServiceUser, tmp_path: Path) -> None:
    missing = Bundle("no-server", "no_such_server", ("x",), ("x/run",))
    with pytest.raises(NiError, match="package no-server is not installed"):
        reachable_root(missing, user, tmp_path)


def test_package_without_programs_for_this_machine_is_told(
    installed: Path, user: ServiceUser, tmp_path: Path
) -> None:
    other = Bundle("pretend-server", "pretend_server", ("x",), ("pretend_server/bin/other",))
    with pytest.raises(NiError, match="has no other for this machine; servers of your own"):
        reachable_root(other, user, tmp_path)


def test_folder_that_was_closed_later_is_told(
    system_folder: Path, user: ServiceUser, tmp_path: Path
) -> None:
    system_folder.mkdir()
    assert place_folder(system_folder, "postgres", user, tmp_path) == system_folder / "postgres"
    system_folder.chmod(0o700)
    with pytest.raises(NiError, match="a folder above it was closed"):
        place_folder(system_folder, "postgres", user, tmp_path)


@pytest.mark.parametrize(
    ("wanted", "reason"),
    [("root", "is root; PostgreSQL needs"), ("no-such-user", "there is no user no-such-user")],
)
def test_user_that_cannot_be(wanted: str, reason: str, tmp_path: Path) -> None:
    with pytest.raises(NiError, match=reason):
        choose_user(wanted, tmp_path / "none")


def test_data_of_root_are_told(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    with pytest.raises(NiError, match="chown -R postgres"):
        choose_user("", tmp_path)
