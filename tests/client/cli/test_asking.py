"""What commands of an institution do where a folder is elsewhere, or where nobody can be asked."""

from __future__ import annotations

import io
from pathlib import Path

import pytest
import typer

from client.cli.ledger import WrongUse
from client.cli.models import found_version
from client.cli.roster import ask


def test_a_version_is_found_here_and_in_the_institutions_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    own, version = tmp_path / "harbour", Path("released/triage/1")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(WrongUse, match="released/triage/1 is no folder, here or in .*harbour"):
        found_version(version, own)
    (own / version).mkdir(parents=True)
    assert found_version(version, own) == own / version
    version.mkdir(parents=True)
    assert found_version(version, own) == version


@pytest.mark.parametrize(("said", "error"), [("", WrongUse), ("n\n", typer.Abort), ("y\n", None)])
def test_where_nobody_answers_the_option_is_named(monkeypatch: pytest.MonkeyPatch, said: str, error: type[Exception] | None) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO(said))
    if error is None:
        ask("Take it off?", "give --yes")
        return
    with pytest.raises(error) as raised:
        ask("Take it off?", "give --yes")
    assert error is typer.Abort or "nobody answered, and nothing was changed; give --yes" in str(raised.value)
