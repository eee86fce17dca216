"""The compose file: valid, locked down, and made of commands that come up with the folders that they are given.

No test starts a container unless there is a Docker engine with compose.
"""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from importlib.resources import files
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml

from tests.deployment.commands import check_command
from tests.deployment.consortium import Deployment, stand_up
from tests.deployment.processes import wait_until

ROOT = Path(__file__).parents[2]
COMPOSE: dict[str, Any] = yaml.safe_load((ROOT / "docker-compose.yml").read_text(encoding="utf-8"))
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]
OURS = [name for name, service in SERVICES.items() if service["image"] == "consortium"]
INSTITUTIONS = ("amber", "birch", "cedar", "delta")


def test_the_file_follows_the_schema() -> None:
    schema = files("check_jsonschema") / "builtin_schemas" / "vendor" / "compose-spec.json"
    jsonschema.validate(COMPOSE, json.loads(schema.read_text(encoding="utf-8")))


@pytest.mark.parametrize("name", SERVICES)
def test_every_container_is_locked(name: str) -> None:
    service = SERVICES[name]
    assert service["read_only"] is True and service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert int(service["user"].partition(":")[0]) > 0
    assert not service.get("privileged") and any("/tmp" in place for place in service["tmpfs"])  # noqa: S108 (in a container)
    assert name == "demo" or service["healthcheck"]["test"][0] == "CMD"


def test_secrets_are_files_and_stand_in_no_environment() -> None:
    assert all(set(secret) == {"file"} for secret in COMPOSE["secrets"].values())
    given = {key: value for service in SERVICES.values() for key, value in service.get("environment", {}).items()}
    assert {key for key in given if "PASS" in key or "SECRET" in key or "KEY" in key} == {"POSTGRES_PASSWORD_FILE"}


@pytest.mark.parametrize("institution", INSTITUTIONS)
def test_an_institution_is_two_containers_with_one_network_and_separate_folders(institution: str) -> None:
    supernode, node, gpu = (SERVICES[f"{institution}-{part}"] for part in ("supernode", "node", "node-gpu"))
    assert node["network_mode"] == gpu["network_mode"] == f"service:{institution}-supernode"
    assert (node["profiles"], gpu["profiles"]) == (["cpu"], ["gpu"])  # never both on one ledger
    assert gpu["deploy"]["resources"]["reservations"]["devices"][0]["capabilities"] == ["gpu"] and "deploy" not in node
    assert supernode["user"] != node["user"] and not set(supernode["volumes"]) & set(node["volumes"])
    assert "ports" not in supernode and "ports" not in node  # nothing reaches in


@pytest.mark.parametrize("name", OURS)
def test_every_command_and_health_check_exists(name: str) -> None:
    check_command(SERVICES[name]["command"])
    if (check := SERVICES[name].get("healthcheck")) is not None:
        assert check["test"][1] == "consortium"
        check_command(check["test"][2:])


@pytest.mark.slow
def test_every_service_comes_up_natively(tmp_path: Path) -> None:
    made = stand_up(Deployment(tmp_path, ("amber",)))
    try:
        made.end("serve")
        made.call("client", "separate", "amber-supernode", "--institution", "amber")
        for name in ("coordinator", "amber-supernode", "amber-node"):
            made.start(name, *native(SERVICES[name]["command"], "amber"))
        for name in ("coordinator", "amber-supernode", "amber-node"):
            check = made.command(*native(SERVICES[name]["healthcheck"]["test"][2:], "amber"))
            wait_until(lambda check=check: is_well(made, check), f"{name}\n{made.said()}", 240.0)  # type: ignore[misc]
        for name in ("amber-node", "amber-supernode", "coordinator"):
            made.end(name)
    finally:
        made.close()


def native(arguments: Sequence[str], institution: str) -> list[str]:
    """A container's command with the folders of this machine."""
    folders: Mapping[str, str] = {
        "/srv/operator": "operator", "/srv/institution": institution, "/srv/supernode": f"{institution}-supernode"
    }  # fmt: skip
    return [folders.get(one, one) for one in arguments]


def is_well(made: Deployment, check: Sequence[str]) -> bool:
    return subprocess.run(check, cwd=made.folder, env=made.environment, capture_output=True, check=False).returncode == 0


def test_docker_reads_the_file_where_there_is_one() -> None:
    docker = shutil.which("docker")
    if docker is None or subprocess.run([docker, "compose", "version"], capture_output=True, check=False).returncode:
        pytest.skip("no Docker with compose here: the file was checked against the schema, and its commands run without containers")
    done = subprocess.run([docker, "compose", "config", "--quiet"], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_the_image_holds_the_packages_and_runs_as_no_root() -> None:
    lines = (ROOT / "Dockerfile").read_text(encoding="utf-8").splitlines()
    copied = {name for line in lines if line.startswith("COPY ") and "--from" not in line for name in line.split()[1:-1]}
    assert {"consortium", "protocols", "model", "client", "coordinator", "pyproject.toml"} <= copied
    kept = {line[1:] for line in (ROOT / ".dockerignore").read_text(encoding="utf-8").splitlines() if line.startswith("!")}
    assert kept == copied
    assert [line for line in lines if line.startswith("USER")] == ["USER 10003:10003"]
