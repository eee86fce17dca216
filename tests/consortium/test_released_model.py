"""What becomes of a run's released model: shown, asked, exported, and the same network in transformers."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer
from typer.testing import CliRunner

from consortium import simulate
from consortium.cli import app
from consortium.report import Report
from coordinator.store import RunStore
from model.adapters import attach_adapters, load_adapter
from model.bases import bundled_base
from model.checkpoint.loading import load_checkpoint
from model.layout import AdapterConfig
from model.transformer import DeepseekV3
from protocols.plan import load_plan
from tests.consortium.small_notes import write_plan
from tests.model.configurations import relative_error

PROMPT = "Pt says heart attack, denies fit. Rest.\ncode:"


@dataclass(frozen=True, slots=True)
class Released:
    """A finished run: its report, the version's directory, and the base carrying the state that the run ended with."""

    report: Report
    version: Path
    net: DeepseekV3


@pytest.fixture(scope="module")
def released(tmp_path_factory: pytest.TempPathFactory) -> Released:
    folder = tmp_path_factory.mktemp("run")
    plan = write_plan(
        folder,
        ('experts = "none"', 'experts = "esft-token"\nexpert_rank = 2'),
        ('["attention"]', '["attention", "shared_experts", "dense_mlp", "lm_head", "embeddings"]'),
        ("local_steps = 1", "local_steps = 3"),
    )
    report = simulate(plan, folder / "out", baselines=False)
    (run,) = (folder / "out" / "runs").iterdir()
    store, net = RunStore(run), load_checkpoint(bundled_base("tiny"), dtype=torch.float32)
    state = store.state(store.journal.state_sha256)
    attach_adapters(net, AdapterConfig.from_fields(load_plan(plan).adapter_fields), state.experts)
    load_adapter(net, state.tensors)
    return Released(report, Path(report["model"]), net)


@pytest.fixture(scope="module")
def exported(released: Released, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("exported") / "model"
    assert "from_pretrained" in _run("model", "export", str(released.version), str(out))
    return out


def _run(*arguments: str) -> str:
    result = CliRunner().invoke(app, arguments)
    assert result.exit_code == 0, result.output
    return result.stdout


def test_info_names_the_experts_that_the_run_chose(released: Released) -> None:
    shown = json.loads(_run("model", "info", str(released.version), "--json"))
    assert (shown["name"], shown["version"]) == ("small", 1)
    assert shown["experts"] == released.report["experts"]["selected"] != {}
    assert shown["base_sha256"] == released.report["base_sha256"]


def test_transformers_computes_the_trained_network_s_logits(released: Released, exported: Path) -> None:
    theirs = AutoModelForCausalLM.from_pretrained(exported, dtype=torch.float32).eval()
    tokens = torch.tensor([AutoTokenizer.from_pretrained(exported)(PROMPT)["input_ids"]])
    with torch.no_grad():
        ours, base = released.net(tokens).logits, load_checkpoint(bundled_base("tiny"), dtype=torch.float32)(tokens).logits
        assert relative_error(ours, theirs(tokens).logits) < 1e-5
    assert relative_error(ours, base) > 1e-3, "training changed nothing, so that nothing was compared"


def test_generate_continues_as_transformers_does(released: Released, exported: Path) -> None:
    answer = json.loads(_run("model", "generate", str(released.version), "--prompt", PROMPT, "--max-new-tokens", "6", "--json"))
    theirs, tokenizer = AutoModelForCausalLM.from_pretrained(exported, dtype=torch.float32).eval(), AutoTokenizer.from_pretrained(exported)
    asked = tokenizer(PROMPT, return_tensors="pt", return_token_type_ids=False)
    new = theirs.generate(**asked, max_new_tokens=6, do_sample=False)[0, asked["input_ids"].shape[1] :]
    assert answer["tokens"] == len(new) > 0
    assert answer["text"] == tokenizer.decode(new, skip_special_tokens=True)
