"""Settings of the coordinator: defaults without a file, one sentence for a mistake."""

from pathlib import Path

import pytest

from coordinator.errors import SettingsError
from coordinator.settings import CoordinatorSettings, ServeSettings, load_settings, new_settings, write_settings


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


def test_what_is_written_is_read_and_every_key_is_explained(tmp_path: Path) -> None:
    path, settings = tmp_path / "coordinator.toml", new_settings("the-operator", ["::1", "sums.example.org"], {"tiny": "/bases/tiny"})
    write_settings(path, settings)
    assert load_settings(path) == settings
    assert settings.serve.fence == "[::1]:9443"
    lines = path.read_text().splitlines()
    for model in (CoordinatorSettings, ServeSettings):
        for key, field in model.model_fields.items():
            assert field.description is None or any(
                line.startswith((f"{key} = ", f"[{key}]")) and field.description in line for line in lines
            )


@pytest.mark.parametrize("hosts", [[], [""], ["two words"], ["sums.example.org:9443"], ["localhost", "-x"], ["*.example.org"]])
def test_a_new_home_needs_hosts(hosts: list[str]) -> None:
    with pytest.raises(SettingsError, match="without a port"):
        new_settings("the-operator", hosts, {})


@pytest.mark.parametrize("name", ["", "x" * 65])
def test_a_new_home_needs_a_name(name: str) -> None:
    with pytest.raises(SettingsError, match="--name"):
        new_settings(name, ["localhost"], {})
