"""`consortium model info`: what it says about a checkpoint, and about training on it."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any, get_args

import pytest
import torch
from typer.testing import CliRunner

from model.bases import bundled_base
from model.checkpoint.loading import load_checkpoint
from model.checkpoint.saving import save_checkpoint
from model.cli import app
from model.cli.options import Held
from model.cli.plan_tables import CHOICES, TABLES
from model.cli.plan_tables import PLAN as PLAN_NAMES
from model.cli.training_memory import Machine, training_facts
from model.errors import CheckpointError, ModelError
from protocols.plan import Plan, RecordTemplates, Trainable, Training
from tests.model.checkpoint.stored import edit_config, to_fp8
from tests.model.configurations import DEEPSEEK_V2, random_network

PLAN = """
name = "triage"
base = "tiny"
[records]
prompt = "{note}"
target = "{code}"
max_tokens = 64
[trainable]
lora_rank = 4
experts = "esft-token"
expert_top_p = 0.2
[training]
batch_size = 2
"""


@pytest.fixture
def base(tmp_path: Path) -> Path:
    save_checkpoint(random_network(num_nextn_predict_layers=1).to(torch.bfloat16), tmp_path / "base")
    return tmp_path / "base"


@pytest.fixture
def plan(tmp_path: Path) -> Path:
    (tmp_path / "plan.toml").write_text(PLAN)
    return tmp_path / "plan.toml"


def _json(*arguments: object) -> dict[str, Any]:
    result = CliRunner().invoke(app, ["info", *map(str, arguments), "--json"])
    assert result.exit_code == 0, result.output
    document: dict[str, Any] = json.loads(result.stdout)
    return document


def test_a_checkpoint_of_fp8_is_described(base: Path) -> None:
    plain = _json(base)
    to_fp8(base, lambda name: name.endswith("_proj.weight"))
    found, net = _json(base), load_checkpoint(base)
    assert (found["architecture"], found["layout"], found["mtp_modules"]) == ("DeepseekV3ForCausalLM", "DeepSeek-V3", 1)
    assert [found[name] for name in ("parameters", "active_parameters", "mtp_parameters", "cache_bytes_per_token")] == [
        plain[name] for name in ("parameters", "active_parameters", "mtp_parameters", "cache_bytes_per_token")
    ]
    assert found["stored_bytes"]["F8_E4M3"] == sum(p.numel() for p in net.parameters() if p.dtype == torch.float8_e4m3fn)
    assert sum(found["stored_bytes"].values()) < sum(plain["stored_bytes"].values())


def test_v2_and_a_flag_without_weights(tmp_path: Path) -> None:
    save_checkpoint(random_network(**DEEPSEEK_V2), tmp_path / "v2")
    assert _json(tmp_path / "v2")["layout"] == "DeepSeek-V2"
    save_checkpoint(random_network(), tmp_path / "v3")
    edit_config(tmp_path / "v3", {"num_nextn_predict_layers": 1})
    assert _json(tmp_path / "v3")["mtp_modules"] == 0


def test_what_holding_the_weights_takes(base: Path) -> None:
    to_fp8(base, lambda name: name.endswith("_proj.weight"))
    held = {None: "stored", torch.float32: "float32", torch.bfloat16: "bfloat16"}
    found, shown = _json(base)["held_bytes"], CliRunner().invoke(app, ["info", str(base)]).stdout
    for dtype, name in held.items():
        loaded = sum(tensor.nbytes for tensor in load_checkpoint(base, dtype).state_dict().values())
        assert found[name] == pytest.approx(loaded, rel=1e-3)  # but for the router's bias, which keeps its type
    assert re.search(r"^weights in memory +\S+ kB \(stored\), \S+ kB \(float32\), \S+ kB \(bfloat16\)$", shown, re.M)


def test_a_checkpoint_that_generate_would_refuse_is_refused(base: Path) -> None:
    edit_config(base, {"moe_intermediate_size": 24})
    with pytest.raises(CheckpointError) as expected:
        load_checkpoint(base)
    result = CliRunner().invoke(app, ["info", str(base)])
    assert isinstance(result.exception, CheckpointError) and str(result.exception) == str(expected.value)
    assert str(base / "model.safetensors") in str(result.exception)


def test_the_hash_may_be_left_out(base: Path) -> None:
    hashed = _json(base)
    assert _json(base, "--no-hash") == hashed | {"sha256": None} != hashed
    assert CliRunner().invoke(app, ["info", str(base), "--no-hash"]).stdout.splitlines()[-1].split(maxsplit=1) == ["sha256", "not taken"]


@pytest.mark.parametrize("option", [("--tokens", "8"), ("--experts-share", "1"), ("--dtype", "stored")])
def test_what_is_for_training_needs_a_plan(base: Path, option: tuple[str, str]) -> None:
    result = CliRunner().invoke(app, ["info", str(base), *option])
    assert result.exit_code == 2 and option[0] in result.stderr


def test_training_by_a_plan(base: Path, plan: Path) -> None:
    found = _json(base, "--adapters", plan)["training"]
    assert (found["batch_size"], found["tokens"]) == (2, 64)
    assert found["assumption"] == "assumed: 2 of a layer's 8 experts are adapted"
    for column in ("plain", "checkpointing"):
        assert found[column]["total"] == sum(found[column]["parts"].values())
        assert found[column]["fits"]
    assert found["plain"]["parts"]["moments"] == 8 * found["trained_parameters"]
    assert found["checkpointing"]["parts"]["activations"] < found["plain"]["parts"]["activations"]


def test_tokens_and_the_share_of_experts_may_be_given(base: Path, plan: Path) -> None:
    usual, other = (
        _json(base, "--adapters", plan)["training"],
        _json(base, "--adapters", plan, "--tokens", 128, "--experts-share", 1)["training"],
    )
    assert other["tokens"] == 128
    assert other["assumption"] == "assumed: 8 of a layer's 8 experts are adapted"
    assert other["trained_parameters"] > usual["trained_parameters"]


def test_the_table_is_sorted_and_aligned(base: Path, plan: Path) -> None:
    result = CliRunner().invoke(app, ["info", str(base), "--adapters", str(plan)])
    lines = result.stdout.split("\n\n")[1].splitlines()
    assert len({len(line) for line in lines[2:]}) == 1
    parts = _json(base, "--adapters", plan)["training"]["plain"]["parts"]
    assert len(lines) == 3 + sum(size > 0 for size in parts.values()) + 2
    assert lines[3].startswith("activations") and lines[-2].startswith("total") and lines[-1].endswith("fits")


def test_whether_it_fits_is_the_machines_matter(base: Path, plan: Path) -> None:
    total = training_facts(base, plan, None, None, Held.stored, Machine("RAM", 1))["checkpointing"]["total"]
    found = training_facts(base, plan, None, None, Held.stored, Machine("GPU memory", total))
    assert (found["plain"]["fits"], found["checkpointing"]["fits"]) == (False, True)


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("name = ", "is not TOML"),
        ("trainable = 3", "trainable must be a table"),
        ("[training]\nbatch_size = 'many'", "batch_size must be a whole number above 0, and is 'many'"),
        ("[records]\nmax_tokens = 0", "max_tokens must be a whole number above 0, and is 0"),
        ("[training]\nbatch_size = 1.5", "batch_size must be a whole number above 0, and is 1.5"),
        ("[trainable]\nlora_rank = '8'", "lora_rank must be a whole number above 0, and is '8'"),
        ("[trainable]\nlora_alpha = 'much'\ntargets = 3", "[trainable] has a value of the wrong type"),
        ("[trainable]\nexpert_top_p = nan", "expert_top_p must be a number above 0 and at most 1, and is nan"),
        ("[trainable]\nexperts = 'esft-tokne'", "experts must be one of none, all, esft-token, esft-gate"),
        ("[trainign]\nbatch_size = 2", "a plan has no trainign: correct or remove it, and see it with `consortium plan check`"),
        ("[training]\nbatch_sise = 2", "a plan has no batch_sise in [training]"),
        ("[trainable]\nlora_rnak = 2", "a plan has no lora_rnak in [trainable]"),
        ("[records]\nmax_token = 2", "a plan has no max_token in [records]"),
        ("[trainable]\ntargets = ['wings']", 'Target "wings" names nothing'),
    ],
)
def test_a_plan_that_cannot_be_read_is_refused(base: Path, tmp_path: Path, text: str, sentence: str) -> None:
    (tmp_path / "plan.toml").write_text(text)
    with pytest.raises(ModelError) as caught:
        training_facts(base, tmp_path / "plan.toml", None, None, Held.stored, Machine("RAM", 1))
    assert sentence in str(caught.value)


def test_the_names_are_those_of_the_plan() -> None:
    assert {field.alias or name for name, field in Plan.model_fields.items()} == PLAN_NAMES
    fields = {"trainable": Trainable.model_fields, "training": Training.model_fields, "records": RecordTemplates.model_fields}
    assert {table: set(found) for table, found in fields.items()} == TABLES
    assert {name: get_args(Trainable.model_fields[name].annotation) for name in CHOICES} == CHOICES


def test_a_base_in_float32_takes_four_bytes_a_weight(tmp_path: Path) -> None:
    plan = tmp_path / "plan.toml"
    plan.write_text("[trainable]\n")
    base, machine = bundled_base("tiny"), Machine("RAM", 1)
    stored, wide = (training_facts(base, plan, None, None, held, machine)["plain"]["parts"] for held in (Held.stored, Held.float32))
    assert wide["base"] == pytest.approx(2 * stored["base"], rel=1e-3)
    assert wide["activations"] > stored["activations"]
