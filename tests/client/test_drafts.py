"""Accepted drafts are counted as decoding would meet them, and multi-token prediction that is trained in rounds drafts better."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from client.dataset import Example, build_dataset
from client.drafts import accepted_drafts
from client.records import Record
from client.settings import HardwareSettings
from client.workbench import Base, load_base
from consortium import simulate
from model.bases import bundled_base
from protocols.plan import RecordTemplates
from tests.consortium.small_plan import write_small


@pytest.fixture(scope="module")
def base() -> Base:
    return load_base(Path(bundled_base("tiny")), HardwareSettings())


def examples_of(base: Base, *targets: str) -> tuple[Example, ...]:
    records = [Record({"note": f"note {n}", "code": target}, f"line {n}") for n, target in enumerate(targets)]
    return build_dataset(records, RecordTemplates(prompt="{note}:", target="{code}"), base.tokenizer).examples


def step_by_step(base: Base, example: Example) -> list[bool]:
    """For each token after the first of the answer: what decoding sees when it has read all tokens before it."""
    found = []
    for place in range(example.prompt_length + 1, len(example.tokens)):
        with torch.inference_mode():
            hidden = base.net.hidden(torch.from_numpy(example.tokens[None, :place].astype(np.int64)))
            draft, own = (base.net.lm_head(states[0, -1]).argmax() for states in (hidden.mtp[0], hidden.main))
        found.append(bool(draft == own))
    return found


def test_drafts_are_those_of_decoding_one_token_after_the_other(base: Base) -> None:
    examples = examples_of(base, " the pump is worn out", " x", " replace the seal and then check the valve once more", " red")
    outcomes = [outcome for example in examples for outcome in step_by_step(base, example)]
    assert True in outcomes
    assert False in outcomes
    sums = accepted_drafts(base.net, examples)
    assert (sums.accepted, sums.drafted) == (sum(outcomes), len(outcomes))


def test_nothing_is_drafted_without_records(base: Base) -> None:
    assert accepted_drafts(base.net, ()).drafted == 0


@pytest.mark.slow
def test_training_in_rounds_raises_the_acceptance_of_all_institutions_together(tmp_path: Path) -> None:
    answer = "replace the worn seal of the pump and check the valve before the next start"
    rows = [
        {"site": site, "note": f"{site} {number}", "code": answer, "split": "train" if number % 4 else "test"}
        for site in ("north", "south", "west")
        for number in range(12)
    ]
    plan = write_small(tmp_path, rows, rounds=4, evaluation='metric = "bits_per_byte"')
    plan.write_text(plan.read_text().replace("local_steps = 1", "local_steps = 20\nlearning_rate = 0.01"))
    report = simulate(plan, tmp_path / "out", baselines=False)
    before, after = report["mtp"]["acceptance_before"], report["mtp"]["acceptance_after"]
    assert after > before + 0.1
    assert [one.get("figures") for one in report["rounds"]] == [None, None, None, {"acceptance": after}]
    card = (Path(report["model"]) / "README.md").read_text()
    assert f"| base, before training | {before:.4f} |" in card
    plan.write_text(plan.read_text().replace('experts = "none"', 'experts = "none"\nmtp = false'))
    document = json.loads(simulate(plan, tmp_path / "without", rounds=1, baselines=False).path.read_text())
    assert document["mtp"] == {"acceptance_before": None, "acceptance_after": None}
