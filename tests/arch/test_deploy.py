"""What deploy/ promises, as far as it can be checked without a daemon."""

from __future__ import annotations

import configparser
import re
import shlex
import shutil
import subprocess
import tomllib
from importlib import metadata
from pathlib import Path

import pytest
import yaml

from tests.docs.test_commands import check_words

EXPOSURE_LIMIT = 20  # of 100, as systemd-analyze counts
ROLES = ("provider", "ledger", "witness", "verifier")


@pytest.fixture(scope="module")
def dockerfile(repository: Path) -> list[list[str]]:
    """The instructions, each as its words."""
    text = (repository / "deploy/Dockerfile").read_text("utf-8")
    joined = re.sub(r"\\\n\s*", "", re.sub(r"^\s*#.*\n", "", text, flags=re.MULTILINE))
    return [line.split(maxsplit=1) for line in joined.splitlines() if line.strip()]


@pytest.fixture(scope="module")
def unit(repository: Path) -> configparser.ConfigParser:
    """The service unit of every role (the last of a repeated key)."""
    parser = configparser.ConfigParser(strict=False, interpolation=None, comment_prefixes="#")
    parser.optionxform = str  # type: ignore[assignment,method-assign]
    parser.read(repository / "deploy/systemd/dsn@.service", "utf-8")
    return parser


def final_stage(dockerfile: list[list[str]]) -> dict[str, str]:
    """Instruction -> arguments of the last stage (the last of each)."""
    start = max(i for i, words in enumerate(dockerfile) if words[0] == "FROM")
    return {words[0]: words[1] for words in dockerfile[start:]}


def test_image_runs_a_node_as_an_ordinary_user(dockerfile: list[list[str]]) -> None:
    stage = final_stage(dockerfile)
    assert int(stage["USER"]) > 0
    assert stage["STOPSIGNAL"] == "SIGTERM"
    assert yaml.safe_load(stage["ENTRYPOINT"]) == ["dsn"]
    check_words(yaml.safe_load(stage["CMD"]))
    program, *words = stage["HEALTHCHECK"].split(" CMD ")[1].removesuffix(" || exit 1").split()
    assert program == "dsn"
    check_words(words)


def test_image_is_built_from_pinned_slim_images_and_files_that_exist(
    dockerfile: list[list[str]], repository: Path
) -> None:
    kept = (repository / ".dockerignore").read_text("utf-8").split()
    for instruction, arguments in dockerfile:
        assert instruction != "ADD"
        if instruction == "FROM":
            assert re.fullmatch(r"python:3\.\d+-slim( AS \w+)?", arguments)
        if instruction == "RUN" and "apt-get install" in arguments:
            assert "--no-install-recommends" in arguments
            assert "rm -rf /var/lib/apt/lists" in arguments
        if instruction == "COPY" and "--from" not in arguments:
            for source in arguments.split()[:-1]:
                assert (repository / source).exists()
                assert f"!{source}" in kept


def test_compose_runs_three_nodes_that_keep_their_homes(repository: Path) -> None:
    compose = yaml.safe_load((repository / "deploy/compose.yaml").read_text("utf-8"))
    nodes = {name: s for name, s in compose["services"].items() if name.startswith("node")}
    assert len(nodes) == 3
    homes = [volume for s in nodes.values() for volume in s["volumes"] if "/var/lib/dsn" in volume]
    assert len({home.split(":")[0] for home in homes}) == 3
    assert set(compose["volumes"]) == {home.split(":")[0] for home in homes}
    ports = [port for s in nodes.values() for port in s["ports"]]
    assert len({port.split(":")[0] for port in ports}) == 3
    for service in nodes.values():
        assert service["read_only"] is True
        assert service["cap_drop"] == ["ALL"]
        assert service["security_opt"] == ["no-new-privileges:true"]


@pytest.mark.parametrize("role", ROLES)
def test_unit_starts_a_role_and_stops_it_gently(unit: configparser.ConfigParser, role: str) -> None:
    service = unit["Service"]
    program, *words = shlex.split(service["ExecStart"].replace("%i", role))
    assert Path(program).is_absolute() and Path(program).name == "dsn"
    check_words(words)
    assert service["KillSignal"] == "SIGTERM"
    assert int(service["TimeoutStopSec"]) >= 30
    assert service["RestartPreventExitStatus"] == "2"


def test_unit_may_write_its_home_only(unit: configparser.ConfigParser) -> None:
    service = unit["Service"]
    assert service["ProtectSystem"] == "strict"
    assert service["NoNewPrivileges"] == "yes"
    assert service["User"] == "dsn"
    assert f"--home /var/lib/{service['StateDirectory']} " in service["ExecStart"]
    assert "ReadWritePaths" not in service


@pytest.mark.skipif(not shutil.which("systemd-analyze"), reason="needs systemd-analyze")
def test_systemd_accepts_the_unit(repository: Path, tmp_path: Path) -> None:
    text = (repository / "deploy/systemd/dsn@.service").read_text("utf-8")
    copy = tmp_path / "dsn@provider.service"
    copy.write_text(text.replace("/opt/dsn/bin/dsn", "/bin/true"), "utf-8")
    for command in (
        ["verify", "--man=no", "--recursive-errors=no"],
        ["security", "--offline=yes", f"--threshold={EXPOSURE_LIMIT}"],
    ):
        done = subprocess.run(
            ["systemd-analyze", *command, str(copy)], capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stdout + done.stderr
        warned = "dsn@provider.service:" in done.stderr  # of a key that it does not know
        assert not warned, done.stderr


def test_shim_is_what_merkletools_asks_for(repository: Path) -> None:
    shim = tomllib.loads((repository / "deploy/pysha3-shim/pyproject.toml").read_text("utf-8"))
    assert metadata.version("pysha3") == shim["project"]["version"]
    import hashlib

    import sha3

    assert sha3.sha3_256(b"dsn").digest() == hashlib.sha3_256(b"dsn").digest()
