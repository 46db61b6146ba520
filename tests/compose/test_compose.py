"""docker-compose.yml names only what the code has, gives each process only what it needs, and
keeps no secret."""

from __future__ import annotations

import re
from importlib.util import find_spec
from typing import Any, Final
from urllib.parse import urlsplit

import pytest
from typer.core import TyperGroup
from typer.main import get_command

from ni.cli import app
from ni.migrate import ROLES
from ni.settings import Settings
from ni.worker_names import WORKERS
from tests.compose.shape import (
    ROOT,
    SAMPLE,
    compose,
    environment_of,
    example,
    filled,
    health,
    ours,
    sample_environment,
    seconds,
    secrets_of,
    services,
    variables,
)

DOORS: Final = {"postgres": 5432, "valkey": 6379, "rabbitmq": 5672}
IMAGES: Final = {"postgres": "postgres:18", "valkey": "valkey/valkey:8", "rabbitmq": "rabbitmq:4"}
SECRET: Final = re.compile(r"PASSWORD|TOKEN|SECRET|_PASS$")
CLOSING_S: Final = 5
"""Time for a worker to close its connections."""
_COPY: Final = re.compile(r"^COPY (?!--from)(?P<from>.+) \S+$", re.MULTILINE)


def checked(words: list[str]) -> None:
    """The command exists: a package that can be run, or `ni` with arguments that it takes."""
    match words:
        case ["python", "-m", "workers", name]:
            assert name in WORKERS
        case ["python", "-m", "ni.heartbeat", folder, name]:
            assert name in WORKERS
            assert folder == "/run/ni"
        case ["python", "-m", module]:
            assert find_spec(f"{module}.__main__") is not None, module
        case ["python", "-c", program]:
            compile(program, "health check", "exec")
        case ["ni", *arguments]:
            command: Any = get_command(app)
            while isinstance(command, TyperGroup):
                command = command.commands[arguments.pop(0)]
            command.make_context("ni", arguments, resilient_parsing=False)
        case _:
            pytest.fail(f"nobody knows {words}")


def test_each_worker_has_a_container_of_its_own() -> None:
    found = {
        name: service["command"][3]
        for name, service in ours().items()
        if service["command"][:3] == ["python", "-m", "workers"]
    }
    assert found == {name: name for name in WORKERS}
    assert set(ours()) == {"api", "migrate", *WORKERS}
    assert set(services()) == {*ours(), *DOORS}


@pytest.mark.parametrize("name", sorted(ours()))
def test_commands_exist(name: str) -> None:
    checked(ours()[name]["command"])
    if name == "migrate":  # it ends, and its end is what the others wait for
        assert "healthcheck" not in ours()[name]
    else:
        checked(health(ours()[name]))
        assert name == "api" or health(ours()[name])[-1] == name


def test_the_rule_sees_a_command_that_does_not_exist() -> None:
    for words in (
        ["python", "-m", "workers", "nobody"],
        ["python", "-m", "ni.nothing"],
        ["ni", "migrate", "--never"],
        ["ni", "nothing"],
        ["sh", "-c", "true"],
    ):
        with pytest.raises(BaseException, match=r".*"):  # typer's errors end a process
            checked(words)


@pytest.mark.parametrize("name", sorted(ours()))
def test_variables_exist_and_are_allowed(name: str) -> None:
    """Every variable is a setting, and what stands there is a value that the setting takes."""
    given = environment_of(ours()[name], sample_environment())
    settings = {f"NI_{field}".upper(): field for field in Settings.model_fields}
    assert set(given) <= set(settings)
    texts: dict[str, Any] = {settings[variable]: value for variable, value in given.items()}
    Settings(**texts)


@pytest.mark.parametrize("name", sorted(ours()))
def test_addresses_lead_to_containers(name: str) -> None:
    """Host, port, user and database are those of a container that this one can reach."""
    given = environment_of(ours()[name], sample_environment())
    networks = set(ours()[name]["networks"])
    for variable, value in given.items():
        if not variable.endswith("_URL") or not value:
            continue
        address = urlsplit(value)
        server = services()[address.hostname or ""]
        assert address.port == DOORS[address.hostname or ""], variable
        assert networks & set(server["networks"]), variable
        own = environment_of(server, sample_environment())
        if address.hostname == "postgres":
            assert address.username in ROLES
            assert address.path == f"/{own['POSTGRES_DB']}"
        if address.hostname == "rabbitmq":
            assert address.username == own["RABBITMQ_DEFAULT_USER"]
            assert address.path == f"/{own['RABBITMQ_DEFAULT_VHOST']}"
            assert address.password == own["RABBITMQ_DEFAULT_PASS"]


def test_the_api_is_asked_where_it_listens() -> None:
    api = ours()["api"]
    port = environment_of(api, sample_environment())["NI_API_PORT"]
    [published] = api["ports"]
    assert filled(published, {}) == f"127.0.0.1:8080:{port}"
    [asked] = re.findall(r"http://127\.0\.0\.1:(\d+)(/\w+)", health(api)[-1])
    assert asked == (port, "/readyz")


def test_servers_are_those_that_ni_needs() -> None:
    """Their ports are the ones that their health checks ask, where these name one."""
    for name, image in IMAGES.items():
        assert services()[name]["image"] == image
        assert "healthcheck" in services()[name]
    assert health(services()["rabbitmq"])[-1] == str(DOORS["rabbitmq"])
    assert f"--dbname={services()['postgres']['environment']['POSTGRES_DB']}" in health(
        services()["postgres"]
    )


def test_everybody_waits_for_what_it_needs() -> None:
    """The migration for the database, NI for the migration and for the servers it names."""
    done, healthy = "service_completed_successfully", "service_healthy"
    for name, service in ours().items():
        waits = {server: told["condition"] for server, told in service["depends_on"].items()}
        given = environment_of(service, sample_environment())
        named = {urlsplit(value).hostname for value in given.values()}
        needed = {server: healthy for server in DOORS if server in named}
        if name != "migrate":
            needed["migrate"] = done
            needed.pop("postgres")  # the migration has waited for it
        assert waits == needed, name


@pytest.mark.parametrize("name", sorted(services()))
def test_least_privileges(name: str) -> None:
    service = services()[name]
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert not {"privileged", "network_mode", "pid", "devices", "cap_add"} & set(service)
    assert "ports" not in service or name == "api"
    if name in ours():
        assert service["read_only"]
        assert service["cap_drop"] == ["ALL"]
        assert "volumes" not in service


def test_each_process_has_only_the_addresses_that_it_needs() -> None:
    having = {
        variable: {name for name, service in ours().items() if variable in service["environment"]}
        for variable in ("NI_OWNER_DATABASE_URL", "NI_CORE_DATABASE_URL", "NI_REDIS_URL")
    }
    assert having == {
        "NI_OWNER_DATABASE_URL": {"migrate"},
        "NI_CORE_DATABASE_URL": set(),
        "NI_REDIS_URL": {"api"},
    }
    assert compose()["networks"]["inside"] == {"internal": True}
    outside = {name for name, one in services().items() if "outside" in one["networks"]}
    assert outside == {"api", "sms"}


def test_no_secret_stands_in_the_files() -> None:
    """Each comes from the environment, has no default, and is named in the example without one."""
    used = {match["name"]: match for match in variables(compose())}
    files = {one["environment"] for one in compose()["secrets"].values()}
    assert {*used, *files} == set(example())
    for name, value in example().items():
        if SECRET.search(name):
            assert value == "", name
            assert name in files or used[name]["rule"] == ":?" or name.endswith("TOKEN"), name
            assert name not in used or used[name]["default"] == "", name
    for name, service in services().items():
        for variable, value in service.get("environment", {}).items():
            if SECRET.search(variable):
                assert value.startswith(("${", "/run/secrets/")), (name, variable)
        for password in re.findall(r"//[^@/'\"]*?:([^@/'\"]*)@", str(service)):
            assert password.startswith("${"), (name, password)


def test_secret_files_are_given_to_those_who_read_them() -> None:
    for name, service in services().items():
        named = set(re.findall(r"/run/secrets/(\w+)", str(service)))
        mounted = str(service.get("volumes", ""))
        for script in re.findall(r"\./(\S+?):", mounted):
            named |= set(re.findall(r"/run/secrets/(\w+)", (ROOT / script).read_text()))
        assert named == set(secrets_of(service)), name
    given = {name for one in services().values() for name in secrets_of(one)}
    assert given == set(compose()["secrets"])


@pytest.mark.parametrize("name", sorted(services()))
def test_secrets_can_be_copied_and_read(name: str) -> None:
    """docker compose copies what comes from the environment into the container's root, before the
    container's own user reads it."""
    service = services()[name]
    copied = {
        secret: mode
        for secret, mode in secrets_of(service).items()
        if "environment" in compose()["secrets"][secret]
    }
    assert not (copied and service.get("read_only")), name
    assert set(copied.values()) <= {0o444}, copied


def test_what_is_under_way_may_end() -> None:
    """docker compose kills a container 10 s after it was asked to end, unless told otherwise."""
    settings = Settings()
    longest_s = {
        "sms": settings.sms_timeout_ms // 1000,
        "packets": settings.unload_timeout_s,
    }
    for name, one_s in longest_s.items():
        assert seconds(ours()[name]["stop_grace_period"]) >= one_s + CLOSING_S, name


def test_refused_debits_can_be_told() -> None:
    """Whoever decides tells of them."""
    for value in ("true", "false"):
        given = environment_of(ours()["api"], sample_environment() | {"NI_REFUSED_EVENTS": value})
        assert given["NI_REFUSED_EVENTS"] == value


def test_paths_exist() -> None:
    """What is mounted, copied into the image or let into its context is in the tree."""
    mounted = [
        volume.split(":")[0]
        for service in services().values()
        for volume in service.get("volumes", ())
    ]
    assert {one for one in mounted if not one.startswith("./")} == set(compose()["volumes"])
    copied = [
        word for line in _COPY.finditer((ROOT / "Dockerfile").read_text())
        for word in line["from"].split()
    ]  # fmt: skip
    for path in (*copied, *(one for one in mounted if one.startswith("./"))):
        assert (ROOT / path).exists(), path
    allowed = re.findall(r"^!(.+)$", (ROOT / ".dockerignore").read_text(), re.MULTILINE)
    assert sorted(allowed) == sorted(copied)
    packages = {path.parent.name for path in ROOT.glob("*/__init__.py")} - {"tests", "bench"}
    assert packages | {"migrations"} <= set(copied)


def test_the_image_runs_as_the_user_who_owns_its_folder() -> None:
    text = (ROOT / "Dockerfile").read_text()
    [uid, gid] = re.findall(r"^USER (\d+):(\d+)$", text, re.MULTILINE)[0]
    assert f"--uid {uid} " in text
    for service in ours().values():
        folder = environment_of(service, sample_environment())["NI_HOME"]
        assert f"{folder}:mode=0700,uid={uid},gid={gid}" in service["tmpfs"]


def statements(text: str) -> list[str]:
    """SQL statements, with their passwords and white space made alike."""
    without = re.sub(r"^(--|\\).*$", "", text, flags=re.MULTILINE)
    alike = re.sub(r"PASSWORD (:'\w+'|'…')", "PASSWORD '…'", without)
    return [" ".join(one.split()) for one in alike.split(";") if one.strip()]


def test_roles_are_those_of_the_documentation() -> None:
    page = (ROOT / "docs/how-to/run-in-production.md").read_text()
    [told] = re.findall(r"```sql\n(CREATE ROLE.*?)```", page, re.DOTALL)
    made = (ROOT / "tools/compose/roles.sql").read_text()
    assert statements(made) == statements(told)
    assert tuple(re.findall(r"^CREATE ROLE (\w+)", made, re.MULTILINE)) == ROLES
    for role in ROLES:
        assert f":'{role.removeprefix('ni_')}_password'" in made


def test_samples_are_no_secrets_of_the_file() -> None:
    assert SAMPLE not in (ROOT / "docker-compose.yml").read_text()
