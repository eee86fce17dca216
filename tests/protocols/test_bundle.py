"""The bundle holds every module of ours, is the same wherever it is made, and is one that Flower takes."""

from __future__ import annotations

import hashlib
import io
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

from flwr.common.config import get_fab_config, get_metadata_from_config
from flwr.common.constant import FAB_MAX_SIZE

from protocols.bundle import MOST_BYTES, PACKAGES, installed_bundle
from tests.consortium.command_line import ROOT, environment

SHOW = "from protocols.bundle import installed_bundle; print(installed_bundle().sha256)"


def test_flower_takes_it_and_its_hash_is_that_of_its_bytes() -> None:
    bundle = installed_bundle()
    assert get_metadata_from_config(get_fab_config(bundle.content)) == ("consortium/consortium", "1")
    assert bundle.sha256 == hashlib.sha256(bundle.content).hexdigest()
    assert MOST_BYTES == FAB_MAX_SIZE


def test_it_holds_every_module_and_nothing_else() -> None:
    with zipfile.ZipFile(io.BytesIO(installed_bundle().content)) as packed:
        found = set(packed.namelist())
        assert all(packed.read(name) == (ROOT / name).read_bytes() for name in found - {"pyproject.toml"})
    assert found == {"pyproject.toml"} | {
        path.relative_to(ROOT).as_posix() for package in PACKAGES for path in (ROOT / package).rglob("*.py")
    }


def test_another_folder_and_date_and_other_files_change_nothing_but_a_module_does(tmp_path: Path) -> None:
    for package in PACKAGES:
        shutil.copytree(ROOT / package, tmp_path / package, copy_function=shutil.copyfile)
    (tmp_path / "client" / "notes.txt").write_text("not code")
    assert _shown(tmp_path) == installed_bundle().sha256
    (tmp_path / "client" / "errors.py").write_text("changed = True\n")
    assert _shown(tmp_path) != installed_bundle().sha256


def _shown(folder: Path) -> str:
    call = [sys.executable, "-P", "-c", SHOW]
    return subprocess.run(call, cwd=folder, env=environment(folder), capture_output=True, text=True, check=True).stdout.strip()
