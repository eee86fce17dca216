"""The units: what they start exists, who they run as is separate, and what they may do is little."""

from __future__ import annotations

import shlex
import shutil
import subprocess
import sys
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest

from tests.deployment.commands import check_command

UNITS = sorted((Path(__file__).parents[2] / "deploy" / "systemd").glob("*.service"))
Unit = Mapping[str, Sequence[str]]
LOCKED = {
    "NoNewPrivileges": "yes",
    "ProtectSystem": "strict",
    "ProtectHome": "yes",
    "PrivateTmp": "yes",
    "CapabilityBoundingSet": "",
    "RestrictAddressFamilies": "AF_INET AF_INET6 AF_UNIX",
    "SystemCallFilter": "@system-service",
    "UMask": "0077",
    "StateDirectoryMode": "0700",
    "Restart": "always",
}


def service(path: Path) -> Unit:
    """The [Service] section's values by key; a key may come more than once."""
    found, section = defaultdict(list), ""
    for line in path.read_text(encoding="utf-8").splitlines():
        if line.startswith("["):
            section = line
        elif section == "[Service]" and line and not line.startswith("#"):
            key, _, value = line.partition("=")
            found[key].append(value)
    return found


def test_there_is_one_for_each_process() -> None:
    assert [path.stem for path in UNITS] == ["consortium-coordinator", "consortium-node", "consortium-supernode"]


@pytest.mark.parametrize("path", UNITS, ids=lambda path: path.stem)
def test_what_a_unit_starts_exists_with_its_options(path: Path) -> None:
    (line,) = service(path)["ExecStart"]
    program, *arguments = shlex.split(line)
    assert Path(program).name == "consortium"
    check_command(arguments)
    (state,) = service(path)["StateDirectory"]
    assert arguments[-1] == f"/var/lib/{state}"


@pytest.mark.parametrize("path", UNITS, ids=lambda path: path.stem)
def test_a_unit_may_do_little(path: Path) -> None:
    found = service(path)
    assert {key: found[key] for key in LOCKED} == {key: [value] for key, value in LOCKED.items()}


def test_node_and_supernode_are_two_users_of_whom_one_reaches_out() -> None:
    node, supernode = (service(path) for path in UNITS if "coordinator" not in path.stem)
    assert node["User"] != supernode["User"] and node["StateDirectory"] != supernode["StateDirectory"]
    assert node["IPAddressDeny"] == ["any"] and node["IPAddressAllow"] == ["localhost"]
    assert supernode["InaccessiblePaths"] == [f"-/var/lib/{node['StateDirectory'][0]}"]


def test_systemd_takes_the_units(tmp_path: Path) -> None:
    analyze = shutil.which("systemd-analyze")
    if analyze is None:
        pytest.skip("systemd is not installed here, so that the units were read by these tests alone")
    for path in UNITS:
        text = path.read_text(encoding="utf-8").replace("/opt/consortium/bin/consortium", sys.executable)  # which must exist
        (tmp_path / path.name).write_text(text, encoding="utf-8")
    call = [analyze, "verify", "--man=no", *(str(tmp_path / path.name) for path in UNITS)]
    done = subprocess.run(call, capture_output=True, text=True, check=False)
    ours = [line for line in done.stderr.splitlines() if "consortium" in line]
    assert done.returncode == 0 and not ours, done.stderr
