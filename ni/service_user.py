"""The user that the embedded servers run as, and what this user can reach.

PostgreSQL refuses to run as root. When NI runs as root, the servers run as an unprivileged user
who already exists. That user may be unable to reach the binaries (a checkout under /root) or
$NI_HOME. Nobody's folders are opened for that: binaries are copied once, and data are placed, in a
system folder that root owns, and a link in $NI_HOME leads there. What can be reached is found out
by trying it as that user.
"""

from __future__ import annotations

import hashlib
import importlib.util
import os
import pwd
import secrets
import shutil
import stat
import subprocess
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path
from typing import IO, Final

from ni.errors import NiError

DEFAULT_USERS: Final = ("postgres", "nobody")
ENVIRONMENT: Final = {"PATH": "/usr/bin:/bin", "LC_ALL": "C", "TZ": "UTC"}
TRY_TIMEOUT_S: Final = 30
PRIVATE_UMASK: Final = 0o077
_OPEN_FOLDER: Final = 0o755
_OPEN_FILE: Final = 0o644
_CAN_ENTER_AND_WRITE: Final = 'cd "$1" && : > .reachable && rm .reachable'
_CAN_READ: Final = 'test -r "$1"'


_servers: Final[list[subprocess.Popen[bytes]]] = []


@dataclass(frozen=True, slots=True)
class ServiceUser:
    """Who the servers run as; without ids they run as NI itself does."""

    name: str
    uid: int | None = None
    gid: int | None = None

    def start(
        self,
        command: Sequence[str],
        log: IO[bytes] | int,
        stdin: int = subprocess.DEVNULL,
    ) -> subprocess.Popen[bytes]:
        """Starts `command` as this user in a session of its own, so that Ctrl-C passes it by.

        Raises NiError when this user cannot run it at all.
        """
        try:
            return subprocess.Popen(
                command,
                cwd="/",
                env=ENVIRONMENT,
                stdin=stdin,
                stdout=log,
                stderr=subprocess.STDOUT,
                user=self.uid,
                group=self.gid,
                extra_groups=None if self.uid is None else [],
                umask=PRIVATE_UMASK,
                start_new_session=True,
            )
        except (OSError, subprocess.SubprocessError) as error:
            raise NiError(f"{command[0]} cannot be run as user {self.name}: {error}") from error

    def start_server(
        self, command: Sequence[str], log: IO[bytes], stdin: int = subprocess.DEVNULL
    ) -> subprocess.Popen[bytes]:
        """Starts a server, which may outlive whatever object started it."""
        server = self.start(command, log, stdin)
        # Python complains of a running child that nothing refers to; this one is meant to run on.
        _servers.append(server)
        return server

    def can(self, *command: str) -> bool:
        """Whether `command`, run as this user, ends well."""
        try:
            with self.start(command, subprocess.DEVNULL) as process:
                try:
                    return process.wait(TRY_TIMEOUT_S) == 0
                finally:
                    process.kill()
        except (NiError, subprocess.TimeoutExpired):
            return False

    def run_or_fail(self, *command: str, timeout_s: float = TRY_TIMEOUT_S) -> None:
        """Runs `command` to its end. Raises NiError with its last words when it fails."""
        with tempfile.TemporaryFile() as output, self.start(command, output) as process:
            try:
                code = process.wait(timeout_s)
            except subprocess.TimeoutExpired as error:
                process.kill()
                raise NiError(f"{command[0]} did not end in {timeout_s:g} s") from error
            if code != 0:
                output.seek(0)
                words = output.read().decode(errors="replace").strip().splitlines()
                raise NiError(f"{command[0]} failed: {' '.join(words[-3:]) or f'exit code {code}'}")

    def own(self, path: Path) -> None:
        """Gives `path` to this user."""
        if self.uid is not None and self.gid is not None:
            os.chown(path, self.uid, self.gid, follow_symlinks=False)


def choose_user(wanted: str, data: Path) -> ServiceUser:
    """Who runs a server with the folder `data`: the owner of data that exist, else as wanted.

    An ordinary user runs it as himself. Root takes `wanted` (NI_EMBEDDED_USER) or the first of
    DEFAULT_USERS. Raises NiError when the data are another user's, or no such user exists.
    """
    owner = data.stat().st_uid if data.exists() and not _is_unused(data) else None
    if os.geteuid() != 0:
        if owner not in (None, os.geteuid()):
            raise NiError(
                f"{data} belongs to user {_user_name(owner)}: run ni as that user or as root, or "
                "choose another NI_HOME"
            )
        return ServiceUser(_user_name(os.geteuid()))
    if owner == 0:
        raise NiError(
            f"{data} belongs to root, and PostgreSQL never runs as root. Give it back to the user "
            f"who ran it: chown -R {wanted or DEFAULT_USERS[0]} {data}"
        )
    if owner is not None:
        return _known_user(owner)
    return _existing_user(wanted)


def _is_unused(folder: Path) -> bool:
    """Whether it is what an interrupted first start leaves: root's own and empty."""
    return folder.stat().st_uid == 0 == os.geteuid() and not any(folder.iterdir())


def _user_name(uid: int | None) -> str:
    try:
        return pwd.getpwuid(uid or 0).pw_name
    except KeyError:
        return str(uid)


def _known_user(uid: int) -> ServiceUser:
    try:
        entry = pwd.getpwuid(uid)
    except KeyError:
        return ServiceUser(str(uid), uid, uid)
    return ServiceUser(entry.pw_name, uid, entry.pw_gid)


def _existing_user(wanted: str) -> ServiceUser:
    for name in (wanted,) if wanted else DEFAULT_USERS:
        try:
            entry = pwd.getpwnam(name)
        except KeyError:
            continue
        if entry.pw_uid == 0:
            raise NiError(f"NI_EMBEDDED_USER={name} is root; PostgreSQL needs an ordinary user")
        return ServiceUser(name, entry.pw_uid, entry.pw_gid)
    missing = wanted or " or ".join(DEFAULT_USERS)
    raise NiError(
        f"there is no user {missing} to run PostgreSQL as: make one (useradd --system ni) and set "
        "NI_EMBEDDED_USER to its name"
    )


@dataclass(frozen=True, slots=True)
class Bundle:
    """Server programs inside an installed Python package, whose code is never imported.

    `parts` are the folders that the programs need, relative to site-packages (those that exist).
    Each of `programs` answers `--version`; each of `files` must be readable.
    """

    package: str
    module: str
    parts: tuple[str, ...]
    programs: tuple[str, ...]
    files: tuple[str, ...] = ()

    def installed_at(self) -> Path:
        """The site-packages folder that holds it. Raises NiError when it is not installed."""
        found = importlib.util.find_spec(self.module)
        if found is None or found.origin is None:
            raise NiError(f"the package {self.package} is not installed: run make run again")
        root = Path(found.origin).resolve().parent.parent
        for program in self.programs:
            if not (root / program).is_file():
                raise NiError(
                    f"the package {self.package} has no {Path(program).name} for this machine; "
                    "servers of your own serve as well: set NI_OWNER_DATABASE_URL, "
                    "NI_DATABASE_URL, NI_CORE_DATABASE_URL and NI_REDIS_URL"
                )
        return root

    def copy_name(self) -> str:
        """A folder name that differs when any of the files does."""
        try:
            installed = distribution(self.package)
        except PackageNotFoundError as error:
            raise NiError(f"the package {self.package} is incomplete: remove .venv") from error
        record = (installed.read_text("RECORD") or "").splitlines()
        ours = sorted(line for line in record if line.startswith(self.parts))
        digest = hashlib.sha256("\n".join(ours).encode()).hexdigest()
        return f"{self.package}-{installed.version}-{digest[:16]}"

    def usable_by(self, user: ServiceUser, root: Path) -> bool:
        """Whether `user` can run its programs and read its files under `root`."""
        return all(user.can(str(root / program), "--version") for program in self.programs) and all(
            user.can("/bin/sh", "-c", _CAN_READ, "sh", str(root / file)) for file in self.files
        )


def reachable_root(bundle: Bundle, user: ServiceUser, system_folder: Path) -> Path:
    """The folder under which `user` can run the bundle's programs; copied there when need be.

    Raises NiError when even a copy in `system_folder` cannot be run.
    """
    root = bundle.installed_at()
    if bundle.usable_by(user, root):
        return root
    if user.uid is None:
        raise NiError(f"the programs in {root / bundle.parts[0]} cannot be run on this machine")
    copy = _open_system_folder(system_folder) / bundle.copy_name()
    if not copy.exists():
        _copy(bundle, root, copy)
    if not bundle.usable_by(user, copy):
        raise NiError(
            f"user {user.name} can run the server programs neither in {root} nor in {copy}: set "
            "NI_EMBEDDED_DIR to a folder that all users can enter and run programs in"
        )
    return copy


def _copy(bundle: Bundle, root: Path, copy: Path) -> None:
    """Copies the bundle's parts in one visible step, for everybody to read and run."""
    new = copy.with_name(f".{copy.name}.{secrets.token_hex(4)}")
    try:
        for part in bundle.parts:
            if (root / part).is_dir():
                shutil.copytree(root / part, new / part, symlinks=True)
        for path in (new, *new.rglob("*")):
            if not path.is_symlink():
                runs = path.is_dir() or path.stat().st_mode & stat.S_IXUSR
                path.chmod(_OPEN_FOLDER if runs else _OPEN_FILE)
        if not copy.exists():
            new.rename(copy)
    finally:
        shutil.rmtree(new, ignore_errors=True)


def _open_system_folder(folder: Path) -> Path:
    """`folder`, made when missing. Refused when others than root could put programs into it."""
    try:
        if not folder.exists():
            folder.mkdir(parents=True)
            folder.chmod(_OPEN_FOLDER)
        status = folder.stat()
    except OSError as error:
        raise NiError(f"{folder} cannot be made ({error}): set NI_EMBEDDED_DIR") from error
    if status.st_uid != 0 or status.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        raise NiError(
            f"{folder} is not root's alone, so programs in it cannot be trusted; "
            "set NI_EMBEDDED_DIR to another folder"
        )
    return folder


def place_folder(home: Path, name: str, user: ServiceUser, system_folder: Path) -> Path:
    """The folder `home`/`name` for `user` alone, as a path without links.

    When the user cannot reach it there, it lies in `system_folder` and `home`/`name` is a link to
    it. Raises NiError when a folder that exists is out of the user's reach or gone.
    """
    folder = home / name
    if folder.is_symlink() and not folder.exists():
        raise NiError(
            f"{folder} leads to {folder.readlink()}, which is gone, and the data with it: put it "
            "back, or remove the link to begin with no data"
        )
    if folder.exists() and _is_unused(folder):
        folder.rmdir()
    if folder.exists():
        if _reaches(user, folder):
            return folder.resolve()
        raise NiError(
            f"user {user.name} can no longer reach the data in {folder}: a folder above it was "
            f"closed. Open it again (chmod o+x), or move {folder} to {system_folder} and leave a "
            "link in its place"
        )
    folder.mkdir(mode=0o700)
    user.own(folder)
    if _reaches(user, folder):
        return folder.resolve()
    folder.rmdir()
    if user.uid is None:
        raise NiError(f"{folder} cannot be written; choose another NI_HOME")
    return _place_elsewhere(folder, user, system_folder)


def _place_elsewhere(link: Path, user: ServiceUser, system_folder: Path) -> Path:
    target = _open_system_folder(system_folder) / f"{link.name}-{secrets.token_hex(8)}"
    target.mkdir(mode=0o700)
    user.own(target)
    if not _reaches(user, target):
        target.rmdir()
        raise NiError(
            f"user {user.name} reaches neither {link} nor {target}: set NI_EMBEDDED_DIR to a "
            "folder that all users can enter"
        )
    link.symlink_to(target)
    return target


def _reaches(user: ServiceUser, folder: Path) -> bool:
    return user.can("/bin/sh", "-c", _CAN_ENTER_AND_WRITE, "sh", str(folder.resolve()))
