"""Settings of the coordinator: defaults without a file, one sentence for a mistake."""

from pathlib import Path

import pytest

from coordinator.errors import SettingsError
from coordinator.settings import CoordinatorSettings, load_settings


def test_defaults_hold_without_a_file(tmp_path: Path) -> None:
    assert load_settings(tmp_path / "coordinator.toml") == CoordinatorSettings(registry="registry.db", models="models")


def test_models_and_runs_lie_beside_the_registry() -> None:
    settings = CoordinatorSettings(models="models")
    assert settings.runs_folder("out/registry.db") == Path("out/runs")
    assert settings.models_folder("out/registry.db") == Path("out/models")
    assert settings.models_folder("postgresql://host/registry") == Path("models")


@pytest.mark.parametrize(
    ("text", "complaint"), [("registri = 'x'", "registri"), ("registry = ''", "registry"), ("registry =", "cannot be read")]
)
def test_mistake_names_file_and_key(tmp_path: Path, text: str, complaint: str) -> None:
    path = tmp_path / "coordinator.toml"
    path.write_text(text)
    with pytest.raises(SettingsError, match=complaint) as raised:
        load_settings(path)
    assert str(path) in str(raised.value)
