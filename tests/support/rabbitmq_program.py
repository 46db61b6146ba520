"""Where RabbitMQ's programs are; installed with apt when there are none and we may.

`python -m tests.support.rabbitmq_program` does that before a test run, so that no test's own time
limit has to wait for a package.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from ni.processes import file_lock

URL_VARIABLE: Final = "NI_TEST_AMQP_URL"
PACKAGE: Final = "rabbitmq-server"
POLICY: Final = Path("/usr/sbin/policy-rc.d")
NO_SERVICE: Final = 101
"""What a policy answers so that a package does not start its service."""
INSTALL_SECONDS: Final = 600
_POLICY_TEXT: Final = f"#!/bin/sh\nexit {NO_SERVICE}\n"
_DEBIAN: Final = "lib/rabbitmq/lib/rabbitmq_server-*/sbin"
_SYSTEM_BIN: Final = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_WHAT_TO_DO: Final = (
    f"the tests need a real RabbitMQ: put {PACKAGE} on the PATH (Debian, Ubuntu: apt install"
    f" {PACKAGE}; macOS: brew install rabbitmq), or run as root on Debian and it is installed, or"
    f" set {URL_VARIABLE}=amqp://user:password@host:port with the management plugin on"
)


class NoRabbitMQ(AssertionError):
    """There is no RabbitMQ and it cannot be had; the text says what to do."""


def find_programs() -> Path | None:
    """The folder with `rabbitmq-server` and `rabbitmqctl` themselves; None when there is none."""
    found = shutil.which(PACKAGE, path=f"{os.environ.get('PATH', '')}:{_SYSTEM_BIN}")
    if found is None:
        return None
    # Debian's command is a wrapper that insists on the service's user and its folders.
    for prefix in (Path(found).parents[1], Path("/usr")):
        for folder in sorted(prefix.glob(_DEBIAN), reverse=True):
            if (folder / PACKAGE).exists():
                return folder
    return Path(found).resolve().parent


def programs() -> Path:
    """The same, installed first when need be. Raises NoRabbitMQ with what to do."""
    return find_programs() or _installed()


def _installed() -> Path:
    if os.geteuid() != 0 or shutil.which("apt-get") is None:
        raise NoRabbitMQ(_WHAT_TO_DO)
    with file_lock(Path("/run/ni-test-rabbitmq.lock"), 2.0 * INSTALL_SECONDS):
        if find_programs() is None:
            install()
    found = find_programs()
    if found is None:
        raise NoRabbitMQ(f"{PACKAGE} is installed and not to be found; {_WHAT_TO_DO}")
    return found


def install() -> None:
    """apt's package without its service: neither now nor when the machine starts again."""
    sys.stderr.write(f"Installing {PACKAGE} with apt for the tests (its service stays off)\n")
    with services_kept_off():
        try:
            _apt("install", "--yes", "--no-install-recommends", PACKAGE)
        except NoRabbitMQ:  # the lists may be missing or old
            _apt("update")
            _apt("install", "--yes", "--no-install-recommends", PACKAGE)
    for command in (
        ("update-rc.d", PACKAGE, "disable"),
        ("systemctl", "disable", f"{PACKAGE}.service", "epmd.service", "epmd.socket"),
    ):
        if shutil.which(command[0], path=_SYSTEM_BIN):
            # Without systemd there is nothing to disable, and the command says so.
            subprocess.run(command, check=False, capture_output=True, timeout=60)


def _apt(*arguments: str) -> None:
    environment = os.environ | {"DEBIAN_FRONTEND": "noninteractive", "PATH": _SYSTEM_BIN}
    done = subprocess.run(
        ["apt-get", "-q", "-o", "DPkg::Lock::Timeout=300", "-o", "Dpkg::Use-Pty=0", *arguments],
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        check=False,
        timeout=INSTALL_SECONDS,
    )
    if done.returncode != 0:
        last = done.stdout.decode(errors="replace")[-2000:]
        raise NoRabbitMQ(f"apt-get {arguments[0]} failed: {last}\n{_WHAT_TO_DO}")


@contextmanager
def services_kept_off(policy: Path = POLICY) -> Iterator[None]:
    """Within the block no package that is installed starts a service of the machine."""
    if _forbids(policy):
        yield
        return
    kept = policy.with_name(f"{policy.name}.before-ni-tests")
    if policy.exists():
        policy.rename(kept)
    try:
        policy.write_text(_POLICY_TEXT)
        policy.chmod(0o755)
        yield
    finally:
        policy.unlink(missing_ok=True)
        if kept.exists():
            kept.rename(policy)


def _forbids(policy: Path) -> bool:
    if not os.access(policy, os.X_OK):
        return False
    asked = subprocess.run([policy, PACKAGE, "start"], check=False, capture_output=True, timeout=60)
    return asked.returncode == NO_SERVICE


if __name__ == "__main__":
    if not os.environ.get(URL_VARIABLE):
        try:
            programs()
        except NoRabbitMQ as error:
            sys.exit(str(error))
