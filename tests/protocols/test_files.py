"""Files are the old ones or the new ones."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from protocols.files import replace_folder, write_file

ROOT = Path(__file__).parents[2]


def test_an_error_names_the_file_and_leaves_no_draft(tmp_path: Path) -> None:
    (tmp_path / "taken").mkdir()
    with pytest.raises(IsADirectoryError) as caught:
        write_file(tmp_path / "taken", b"new")
    assert str(caught.value).endswith(f"{str(tmp_path / 'taken')!r}")
    assert [path.name for path in tmp_path.iterdir()] == ["taken"]


def test_a_disk_without_room_names_the_file_and_keeps_the_old_one(tmp_path: Path) -> None:
    path = tmp_path / "records"
    path.write_text("old")
    code = (
        "import resource, sys; from pathlib import Path; from protocols.files import replace_folder, write_file;"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000)); write_file(Path(sys.argv[1]), bytes(5000))"
    )
    done = subprocess.run([sys.executable, "-c", code, path], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1].endswith(f"{str(path)!r}")
    assert path.read_text() == "old"
    assert [entry.name for entry in tmp_path.iterdir()] == ["records"]


def test_every_new_folder_is_on_disk_before_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    synced: list[str] = []
    monkeypatch.setattr("protocols.files.sync_directory", lambda path: synced.append(path.name))
    write_file(tmp_path / "a" / "b" / "file", b"content")
    assert synced == [tmp_path.name, "a", "b"]


def made(folder: Path, content: str) -> Path:
    folder.mkdir()
    (folder / "file").write_text(content)
    return folder


def test_a_folder_is_the_new_one_alone(tmp_path: Path) -> None:
    folder = made(tmp_path / "model", "old")
    replace_folder(made(tmp_path / "draft", "new"), folder)
    assert (folder / "file").read_text() == "new" and list(tmp_path.iterdir()) == [folder]


def test_a_process_that_dies_between_two_renamings_leaves_the_old_folder_whole(tmp_path: Path) -> None:
    folder = made(tmp_path / "model", "old")
    with pytest.raises(FileNotFoundError):
        replace_folder(tmp_path / "there is none", folder)
    former = tmp_path / ".model.former"
    assert (former / "file").read_text() == "old"
    replace_folder(made(tmp_path / "draft", "new"), folder)
    assert (folder / "file").read_text() == "new"
