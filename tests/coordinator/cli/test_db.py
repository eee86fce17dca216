"""The schema's commands, as an operator calls them."""

from pathlib import Path

import pytest
from typer.testing import CliRunner

from coordinator.cli import app
from coordinator.errors import RegistryError
from coordinator.registry import Registry


def call(*arguments: str) -> str:
    result = CliRunner().invoke(app, ("db", *arguments), catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.output


def test_schema_goes_down_and_up(registry: Registry, running: str, tmp_path: Path) -> None:
    named, head = ("--registry", str(tmp_path / "registry.db")), registry.head()
    registry.close()
    assert "has schema 0004; the newest is 0004" in call("status", *named)
    assert "has schema 0002" in call("downgrade", "0002", *named)
    assert "db upgrade" in call("status", *named)
    assert '"schema_present": "0002"' in call("status", "--json", *named)
    assert "has schema 0004" in call("upgrade", *named)
    call("backup", str(tmp_path / "copy.db"), "--registry", str(tmp_path / "registry.db"))
    copy = Registry.open(str(tmp_path / "copy.db"), registry._clock, read_only=True)
    assert copy.verify_chain() == head
    copy.close()


def test_registry_that_is_not_there_is_not_made(tmp_path: Path) -> None:
    for command in (("status",), ("upgrade",), ("downgrade", "0001"), ("backup", str(tmp_path / "copy.db"))):
        with pytest.raises(RegistryError, match="there is no registry at"):
            call(*command, "--registry", str(tmp_path / "registry.db"))
    assert list(tmp_path.iterdir()) == []
