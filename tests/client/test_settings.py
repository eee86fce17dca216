from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest

from client.errors import SettingsError
from client.settings import HardwareSettings, InstitutionSettings, RecordSettings, load_settings, write_settings
from protocols.plan import parse_plan

MINIMAL = '[records]\nsource = "records/*.csv"\nsplit = "part"\n'


def written(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "institution.toml"
    path.write_text(text, encoding="utf-8")
    return path


def test_paths_are_relative_to_the_file(tmp_path: Path) -> None:
    settings = load_settings(written(tmp_path, MINIMAL + '[bases]\ntiny = "../tiny"\nlarge = "/models/large"\n'))
    assert settings.records.source == str(tmp_path / "records/*.csv")
    assert settings.base_directory("tiny") == tmp_path / "../tiny"
    assert settings.base_directory("large") == Path("/models/large")
    assert settings.storage.home == str(tmp_path / "node")


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        (MINIMAL + 'sorce = "x"\n', "records.sorce is not a known key; did you mean source"),
        (MINIMAL + "[hardware]\ngpus = 4\n", "hardware.gpus: this version trains on one GPU"),
        (MINIMAL + "[hardware]\ngpus = 0\n", "hardware.gpus"),
        (MINIMAL + "[hardware]\nkeep_warm = false\n", "hardware.keep_warm: this version always keeps the base in memory"),
        (MINIMAL + '[hardware]\nmax_rank = "8"\n', "hardware.max_rank"),
        (MINIMAL.replace("records/*.csv", "sqlite:///x.db"), "a database's URL as source needs a query"),
        (MINIMAL + 'query = "select 1"\n', "a database's URL as source needs a query"),
        (MINIMAL + '[hardware]\ndevice = "tpu"\n', "hardware.device"),
        (MINIMAL + "test_fraction = 0.5\n", "give either split or test_fraction"),
        ('[records]\nsource = "x.csv"\n', "give either split or test_fraction"),
        ('[records]\nsource = "x.csv"\ntest_fraction = 1.5\n', "records.test_fraction"),
        ("[records\n", "not valid TOML"),
    ],
)
def test_mistake_is_one_sentence_naming_file_and_key(tmp_path: Path, text: str, sentence: str) -> None:
    path = written(tmp_path, text)
    with pytest.raises(SettingsError) as caught:
        load_settings(path)
    assert str(caught.value).startswith(f"{path}: ")
    assert sentence in str(caught.value)
    assert "\n" not in str(caught.value)


def test_missing_file_and_wrong_encoding_are_named(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="no readable file"):
        load_settings(tmp_path / "absent.toml")
    (tmp_path / "latin.toml").write_bytes('name = "Zürich"'.encode("latin-1"))
    with pytest.raises(SettingsError, match="not UTF-8"):
        load_settings(tmp_path / "latin.toml")


def test_every_key_of_hardware_is_known(tmp_path: Path) -> None:
    text = '[hardware]\ndevice = "cuda:0"\ngpus = 1\nbase_precision = "bf16"\nmax_rank = 16\nkeep_warm = true\n'
    hardware = load_settings(written(tmp_path, MINIMAL + text)).hardware
    assert (hardware.gpus, hardware.max_rank, hardware.keep_warm) == (1, 16, True)


@pytest.mark.parametrize(
    ("trainable", "key"),
    [
        ({"lora_rank": 9, "experts": "none"}, "trainable.lora_rank is 9"),
        ({"rank_pattern": {"lm_head": 9}}, "trainable.rank_pattern of lm_head is 9"),
        ({"expert_rank": 9}, "trainable.expert_rank is 9"),
        ({"expert_rank": 9, "experts": "none"}, None),
        ({"expert_rank": 9, "expert_mode": "full"}, None),
        ({"lora_rank": 9, "targets": ["embeddings"]}, None),
        ({"lora_rank": 9, "targets": ["embeddings"], "embedding_mode": "lora"}, "trainable.lora_rank is 9"),
        ({"lora_rank": 8}, None),
    ],
)
def test_a_plan_of_a_larger_rank_is_refused(trainable: dict[str, Any], key: str | None) -> None:
    plan = parse_plan({"name": "a", "base": "tiny", "records": {"prompt": "{a}", "target": "{b}"}, "trainable": trainable}, "plan.toml")
    HardwareSettings().check_plan(plan)
    with pytest.raises(SettingsError, match=key) if key else nullcontext():
        HardwareSettings(max_rank=8).check_plan(plan)
    HardwareSettings(max_rank=8).check_plan(parse_plan(plan.model_dump(by_alias=True) | {"trainable": trainable | {"ranks": "nested"}}, ""))


def test_a_database_s_file_is_relative_to_the_settings_and_a_server_s_url_stays(tmp_path: Path) -> None:
    text = '[records]\nsource = "sqlite:///records.db"\nquery = "select 1"\nsplit = "part"\n'
    assert load_settings(written(tmp_path, text)).records.source == f"sqlite:///{tmp_path}/records.db"
    server = "postgresql://me:secret@host/db?sslmode=require"
    records = load_settings(written(tmp_path, text.replace("sqlite:///records.db", server))).records
    assert records.source == server
    assert "secret" not in repr(records)


def test_base_that_is_not_bound_is_named(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match='binds no directory to base "tiny"'):
        load_settings(written(tmp_path, MINIMAL)).base_directory("tiny")


def test_column_prefers_the_plans_own_mapping() -> None:
    fields: dict[str, str | dict[str, str]] = {"note": "text", "triage": {"note": "summary"}}
    records = RecordSettings(source="x.csv", split="s", fields=fields)
    assert [records.column("note", "triage"), records.column("note", "other"), records.column("code", "triage")] == [
        "summary",
        "text",
        "code",
    ]


def test_written_settings_are_commented_and_read_back(tmp_path: Path) -> None:
    fields: dict[str, str | dict[str, str]] = {"note": 'the "note" \\ # column', "triage": {"note": "Text ü"}}
    settings = InstitutionSettings.model_validate(
        {
            "records": {"source": "/data/records.jsonl", "test_fraction": 0.25, "group": "patient", "fields": fields},
            "bases": {"tiny": "/models/tiny", "./my base": "/models/my base"},
            "hardware": {"device": "cuda:1", "base_precision": "bf16"},
            "storage": {"home": "/var/lib/node", "checkpoint_seconds": 0},
        }
    )
    path = tmp_path / "institution.toml"
    write_settings(path, settings)
    assert load_settings(path) == settings
    assert "never divided between training and test" in path.read_text(encoding="utf-8")
