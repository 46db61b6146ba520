"""The embedded servers: started, found, killed, stopped; as root and not; nothing leaks."""

from __future__ import annotations

import os
import signal
import socket
import stat
import subprocess
import sys
import tempfile
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path

import asyncpg
import pytest
import redis

from ni import processes
from ni.embedded import EmbeddedPostgres, EmbeddedValkey
from ni.errors import NiError
from ni.postgres_server import BUNDLE, SUPERUSER, run_blocking
from ni.private_file import Secrets
from ni.processes import find_process, free_port
from ni.service_user import DEFAULT_USERS, ServiceUser, choose_user
from ni.settings import Settings
from tests.support.homes import remove_home

OUTGOING = Path("/proc/sys/net/ipv4/ip_local_port_range")
only_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root has to change the user")


def ask(dsn: str, text: str) -> object:
    """The first value of the first row of a query."""

    async def run() -> object:
        connection = await asyncpg.connect(dsn)
        try:
            return await connection.fetchval(text)
        finally:
            await connection.close()

    return run_blocking(run())


def keep(server: EmbeddedPostgres, note: str) -> None:
    """Commit a table that a later start must find."""
    ask(server.dsn("ni_owner"), f"CREATE TABLE kept AS SELECT '{note}' AS note")


def kept(server: EmbeddedPostgres) -> object:
    return ask(server.dsn("ni_owner"), "SELECT note FROM kept")


def test_second_start_finds_data_and_port(home: Path) -> None:
    first = EmbeddedPostgres(home)
    first.start()
    keep(first, "of the first run")
    port = first.port
    first.stop()
    assert find_process(first_pid(home)) is None
    second = EmbeddedPostgres(home)
    second.start()
    assert (kept(second), second.port, second.started_here) == ("of the first run", port, True)


def first_pid(home: Path) -> int:
    """The process id in the data's lock file; 0 (no process) when a clean stop removed it."""
    lock_file = home / "postgres" / "data" / "postmaster.pid"
    return int(lock_file.read_text().split()[0]) if lock_file.exists() else 0


def test_running_servers_are_used_and_left_running(home: Path) -> None:
    postgres, valkey = EmbeddedPostgres(home), EmbeddedValkey(home)
    postgres.start()
    valkey.start()
    other_postgres, other_valkey = EmbeddedPostgres(home), EmbeddedValkey(home)
    other_postgres.start()
    other_valkey.start()
    assert (other_postgres.pid, other_postgres.port) == (postgres.pid, postgres.port)
    assert (other_valkey.pid, other_valkey.url) == (valkey.pid, valkey.url)
    other_postgres.stop()
    other_valkey.stop()
    assert postgres.is_alive()
    assert valkey.is_alive()
    other_valkey.stop(found_too=True)
    other_postgres.stop(found_too=True)
    assert not postgres.is_alive()
    assert not valkey.is_alive()


def test_killed_postmaster_comes_back_on_its_port_with_its_data(home: Path) -> None:
    server = EmbeddedPostgres(home)
    server.start()
    keep(server, "committed before the kill")
    port = server.port
    for _ in range(2):
        os.kill(server.pid, signal.SIGKILL)
        server.start(port=port)
        assert (kept(server), server.port) == ("committed before the kill", port)


def test_stopped_postmaster_does_not_hang_the_next_start(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ni.postgres_server.SILENCE_S", 0.5)
    monkeypatch.setattr("ni.postgres_server.ANSWER_TIMEOUT_S", 0.3)
    first = EmbeddedPostgres(home, Settings(embedded_stop_timeout_s=1))
    first.start()
    keep(first, "committed before the stop signal")
    os.kill(first.pid, signal.SIGSTOP)
    second = EmbeddedPostgres(home, Settings(embedded_stop_timeout_s=1))
    second.start()
    assert kept(second) == "committed before the stop signal"


def test_lock_file_that_names_a_stranger_is_not_believed(home: Path) -> None:
    server = EmbeddedPostgres(home)
    server.start()
    user = choose_user("", home / "postgres")
    lock_file = server.data / "postmaster.pid"
    old = lock_file.read_text()
    server.stop()
    with user.start(["/bin/sleep", "60"], subprocess.DEVNULL) as stranger:
        lock_file.write_text(old.replace(old.split()[0], str(stranger.pid), 1))
        server.start()
        assert stranger.poll() is None
        stranger.kill()


def test_taken_port_is_replaced_and_a_wanted_one_is_not(home: Path, valkey: EmbeddedValkey) -> None:
    server = EmbeddedPostgres(home, Settings(embedded_start_timeout_s=10))
    with pytest.raises(NiError, match="does not start"):
        server.start(port=valkey.port)
    server.start()
    assert server.port != valkey.port


@pytest.mark.skipif(not OUTGOING.exists(), reason="only Linux says which ports these are")
def test_no_outgoing_connection_gets_the_port_of_a_server_that_is_down() -> None:
    first, _ = map(int, OUTGOING.read_text().split())
    found = {free_port() for _ in range(100)}
    assert max(found) < first
    assert len(found) > 50


def test_no_server_gets_a_port_that_is_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket() as listener:
        listener.bind((processes.LOOPBACK, 0))
        listener.listen(1)
        taken: int = listener.getsockname()[1]
        monkeypatch.setattr(processes, "SERVER_PORTS", range(taken, taken + 1))
        monkeypatch.setattr(processes, "PORTS_TRIED_MAX", 1)
        assert free_port() != taken


def test_valkey_comes_back_after_a_kill(home: Path) -> None:
    server = EmbeddedValkey(home)
    server.start()
    url = server.url
    os.kill(server.pid, signal.SIGKILL)
    server.start(port=server.port)
    assert server.url == url
    with redis.Redis.from_url(url) as client:
        assert client.ping()


def test_valkey_wants_its_password_and_keeps_nothing(valkey: EmbeddedValkey) -> None:
    with (
        redis.Redis(host="127.0.0.1", port=valkey.port) as stranger,
        pytest.raises(redis.RedisError),
    ):
        stranger.ping()
    with redis.Redis.from_url(valkey.url) as client:
        assert client.config_get("save")["save"] == ""
        assert client.config_get("bind")["bind"] == "127.0.0.1"


@pytest.mark.parametrize(
    ("setting", "value"),
    [
        ("fsync", "on"),
        ("full_page_writes", "on"),
        ("synchronous_commit", "on"),
        ("data_checksums", "on"),
        ("listen_addresses", "127.0.0.1"),
        ("server_encoding", "UTF8"),
        ("password_encryption", "scram-sha-256"),
        ("max_connections", "200"),
    ],
)
def test_server_setting(postgres: EmbeddedPostgres, setting: str, value: str) -> None:
    assert ask(postgres.dsn("ni_engine"), f"SHOW {setting}") == value


def test_every_connection_needs_its_password(postgres: EmbeddedPostgres) -> None:
    methods = "SELECT string_agg(DISTINCT auth_method, ',') FROM pg_hba_file_rules"
    assert ask(postgres.dsn(SUPERUSER, "postgres"), methods) == "scram-sha-256"
    stolen = postgres.dsn("ni_engine").replace("ni_engine:", "postgres:")
    with pytest.raises(asyncpg.InvalidPasswordError):
        ask(stolen, "SELECT 1")


def test_roles_are_as_small_as_they_should_be(postgres: EmbeddedPostgres) -> None:
    powerful = (
        "SELECT string_agg(rolname, ',') FROM pg_roles WHERE rolname LIKE 'ni%'"
        " AND (rolsuper OR rolcreaterole OR rolcreatedb OR rolreplication OR rolbypassrls)"
    )
    assert ask(postgres.dsn("ni_engine"), powerful) is None


def test_secrets_are_private_and_nowhere_else(home: Path) -> None:
    said: list[str] = []
    postgres, valkey = (EmbeddedPostgres(home, tell=said.append), EmbeddedValkey(home))
    postgres.start()
    valkey.start()
    secrets = Secrets(home)
    words = [*secrets.section("postgres").values(), *secrets.section("valkey").values()]
    told, different = len(words), len(set(words))
    assert told == different == 6
    private = [secrets.path, home / "embedded.json", postgres.log_path, valkey.log_path]
    assert {stat.S_IMODE(path.stat().st_mode) for path in private} == {0o600}
    shown = "\n".join(said) + postgres.log_path.read_text() + valkey.log_path.read_text()
    for pid in (postgres.pid, valkey.pid):
        shown += Path(f"/proc/{pid}/cmdline").read_text()
        shown += Path(f"/proc/{pid}/environ").read_text()
    assert [word for word in words if word in shown] == []
    assert [path.name for path in postgres.data.parent.iterdir()] == ["data"]


def test_interrupted_first_start_is_begun_anew(home: Path) -> None:
    server = EmbeddedPostgres(home)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            EmbeddedPostgres, "_make_data", lambda *_: (home / "postgres/data.new").mkdir()
        )
        with pytest.raises(NiError, match="does not start"):
            server.start()
    server.start()
    assert sorted(path.name for path in (home / "postgres").iterdir()) == ["data"]


def test_lost_secrets_are_told_not_replaced(home: Path) -> None:
    server = EmbeddedPostgres(home)
    server.start()
    server.stop()
    secrets = Secrets(home).path
    aside = secrets.rename(home / "aside.json")
    with pytest.raises(NiError, match=r"secrets\.json with the passwords .* is gone: put it back"):
        EmbeddedPostgres(home).start()
    aside.rename(secrets)
    server.start()


def test_lost_data_behind_the_link_are_told(home: Path) -> None:
    (home / "postgres").symlink_to(home / "nowhere")
    with pytest.raises(NiError, match="which is gone"):
        EmbeddedPostgres(home).start()
    (home / "postgres").unlink()


def test_two_starts_at_once_make_one_server(home: Path) -> None:
    program = (
        "import sys; from pathlib import Path; from ni.embedded import EmbeddedPostgres\n"
        "server = EmbeddedPostgres(Path(sys.argv[1])); server.start(); print(server.pid)"
    )
    root = Path(__file__).parents[2]
    command = [sys.executable, "-c", program, str(home)]
    starts = [subprocess.Popen(command, cwd=root, stdout=subprocess.PIPE) for _ in range(3)]
    said = [start.communicate(timeout=60)[0].strip() for start in starts]
    assert said[0].isdigit()
    assert len(set(said)) == 1


@pytest.fixture
def closed_folder() -> Iterator[Path]:
    """A folder that only its owner may enter, such as /root/x."""
    folder = Path(tempfile.mkdtemp(prefix="ni-closed-"))
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    yield folder
    for home in folder.glob("*/.ni"):
        remove_home(home)
    subprocess.run(["/bin/rm", "-rf", folder], check=True)


@only_root
def test_root_under_a_closed_folder(closed_folder: Path, capfd: pytest.CaptureFixture[str]) -> None:
    home = closed_folder / "checkout" / ".ni"
    home.mkdir(parents=True)
    folders = [home, *home.parents]
    before = [(path, path.stat().st_mode, path.stat().st_uid) for path in folders]
    said: list[str] = []
    server = EmbeddedPostgres(home, tell=said.append)
    server.start()
    keep(server, "out of reach")
    server.stop()
    data = (home / "postgres").readlink()
    assert [line for line in said if str(data) in line]
    assert stat.S_IMODE(data.stat().st_mode) == 0o700
    assert data.owner() in DEFAULT_USERS
    again = EmbeddedPostgres(home)
    again.start()
    assert kept(again) == "out of reach"
    assert (home / "postgres").readlink() == data
    assert [(path, path.stat().st_mode, path.stat().st_uid) for path in folders] == before


@only_root
def test_servers_run_as_an_ordinary_user_and_nothing_more(home: Path) -> None:
    postgres, valkey = EmbeddedPostgres(home), EmbeddedValkey(home)
    postgres.start()
    valkey.start()
    for server in (postgres, valkey):
        status = Path(f"/proc/{server.pid}/status").read_text()
        assert "\nUid:\t0" not in status
        assert "\nGid:\t0" not in status
        assert "\nGroups:\t \n" in status or "\nGroups:\t\n" in status
        session = os.getsid(server.pid)
        assert session != os.getsid(0), "the terminal's Ctrl-C would reach the server"


def as_user(user: ServiceUser, work: Callable[[], None]) -> str:
    """Run `work` as another user in a copy of this process; what went wrong, or nothing."""
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            assert user.uid is not None
            assert user.gid is not None
            os.setgroups([])
            os.setgid(user.gid)
            os.setuid(user.uid)
            work()
        except BaseException:
            os.write(writer, traceback.format_exc().encode())
        finally:
            os._exit(0)
    os.close(writer)
    os.waitpid(child, 0)
    with os.fdopen(reader, "rb") as said:
        return said.read().decode()


@only_root
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_ordinary_user_has_everything_in_the_home(home: Path, postgres: EmbeddedPostgres) -> None:
    user = choose_user("nobody", home / "none")
    if not postgres_is_reachable(user):
        pytest.skip("no user but root can enter the folder of this Python environment")
    user.own(home)

    def work() -> None:
        server = EmbeddedPostgres(home)
        server.start()
        keep(server, "of an ordinary user")
        server.stop()
        server.start()
        assert kept(server) == "of an ordinary user"
        server.stop()

    assert as_user(user, work) == ""
    assert not (home / "postgres").is_symlink()
    assert (home / "postgres" / "data").owner() == "nobody"


def postgres_is_reachable(user: ServiceUser) -> bool:
    return BUNDLE.usable_by(user, BUNDLE.installed_at())


@only_root
def test_data_of_another_user_are_run_as_that_user(home: Path) -> None:
    user = choose_user("nobody", home / "none")
    settings = Settings(embedded_user="nobody")
    server = EmbeddedPostgres(home, settings)
    server.start()
    server.stop()
    again = EmbeddedPostgres(home)
    again.start()
    assert Path(f"/proc/{again.pid}").stat().st_uid == user.uid
