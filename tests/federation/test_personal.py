"""What stays at an institution: it is trained beside the shared part, survives crashes with the same bits, and nothing of it leaves."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from client.checkpoints import CheckpointOf
from client.personal import Personal, PersonalFiles
from client.work import LocalUpdate, MetricSums
from coordinator.events import SumFinished
from coordinator.job import RunResult
from protocols.plan import Plan
from protocols.state import Experts, Tensors, state_hash
from tests.federation.attacks.adversary import Adversary
from tests.federation.crashes.lives import lived
from tests.federation.crashes.points import Points
from tests.federation.federation import NAMES, Federation, FormulaWork, make_plan

DENSE = {"lora_rank": 2, "targets": ["lm_head"], "experts": "none"}
FEDSA = make_plan(trainable=DENSE, aggregation={"rule": "fedsa"})
PRIVATE = make_plan(trainable={**DENSE, "expert_rank": 2, "experts": "esft-token"}, personalisation={"private_experts": 1})
SCAFFOLD = make_plan(trainable=DENSE, training={"local_steps": 4, "batch_size": 2, "learning_rate": 0.01, "scaffold": True})
A, B = "lm_head.lora_A.weight", "lm_head.lora_B.weight"


@dataclass
class OwnWork(FormulaWork):
    """The formula, with a mark on everything that is private, and a note of what was measured."""

    mark: float = 0.0
    measured: list[tuple[Tensors, Experts]] = field(default_factory=list)

    def train(
        self,
        round_number: int,
        tensors: Tensors,
        trained: Collection[str],
        experts: Experts,
        corrections: Tensors | None = None,
        checkpoint: CheckpointOf | None = None,
    ) -> LocalUpdate:
        update = super().train(round_number, tensors, trained, experts, corrections)
        chosen = self.marked(trained)
        return replace(update, delta={name: values + np.float32(self.mark * (name in chosen)) for name, values in update.delta.items()})

    def marked(self, trained: Collection[str]) -> set[str]:
        """What no sum may hold; of private experts both factors are trained in a round, of common ones one."""
        if self.plan.aggregation.rule == "fedsa":
            return {name for name in trained if name.endswith("lora_B.weight")}
        return {name for name in trained if {name.replace("lora_A", "lora_B"), name.replace("lora_B", "lora_A")} <= set(trained)}

    def evaluate(self, tensors: Tensors, experts: Experts) -> MetricSums:
        self.measured.append((tensors, experts))
        return super().evaluate(tensors, experts)


def federation_of(directory: Path, plan: Plan, mark: float = 0.0, **options: Any) -> Federation:
    made = Federation(directory, plan, **options)
    made.works |= {name: OwnWork(name, plan, made.adaptation, mark=mark) for name in made.names}
    return made


def kept(federation: Federation, result: RunResult) -> Mapping[str, Personal]:
    files = {name: PersonalFiles(federation.nodes[name].ledger.home, result.run) for name in federation.names}
    return {name: found for name, one in files.items() if (found := one.newest(federation.plan.rounds)) is not None}


def test_under_fedsa_everyone_has_own_factors_b_and_measures_with_them(tmp_path: Path) -> None:
    federation = federation_of(tmp_path, FEDSA)
    result = federation.run()
    own = kept(federation, result)
    assert not result.state.tensors[B].any() and set(own) == set(NAMES)
    assert len({personal.tensors[B].tobytes() for personal in own.values()}) == len(NAMES)
    for name in NAMES:
        work = federation.works[name]
        assert isinstance(work, OwnWork)
        first, last = work.measured[0][0], work.measured[-1][0]
        assert not first[B].any() and np.array_equal(last[B], own[name].tensors[B]) and np.array_equal(last[A], result.state.tensors[A])
    federation.close()


def test_private_experts_are_trained_beside_the_common_ones_which_alone_are_summed_and_measured(tmp_path: Path) -> None:
    federation = federation_of(tmp_path, PRIVATE)
    result = federation.run()
    for name, personal in kept(federation, result).items():
        work = federation.works[name]
        assert isinstance(work, OwnWork) and work.measured[-1][1] == result.state.experts
        for layer, chosen in personal.experts.items():
            affinity = {expert: work.expert_affinity()[layer][expert] for expert in set(range(4)) - set(result.state.experts[layer])}
            assert chosen == (max(affinity, key=lambda expert: affinity[expert]),)
        assert not personal.tensors.keys() & result.state.tensors.keys()
        assert all(values.any() for values in personal.tensors.values())
    federation.close()


@pytest.mark.parametrize("plan", [FEDSA, pytest.param(PRIVATE, marks=pytest.mark.slow)], ids=["fedsa", "private experts"])
def test_no_byte_that_leaves_depends_on_what_is_private(tmp_path: Path, plan: Plan, caplog: pytest.LogCaptureFixture) -> None:
    # ML-KEM's randomness cannot be given.
    plan = plan.model_copy(update={"secure_aggregation": plan.secure_aggregation.model_copy(update={"suite": "SA-1-X25519"})})
    views, files = [], []
    for mark in (0.0, 1234.5678):
        federation = federation_of(tmp_path / f"{mark}", plan, mark, seed=1, suites=("SA-1-X25519",))
        adversary = Adversary(federation, (), caplog)
        result = federation.run()
        views.append([(place, data) for place, data in adversary.view() if not place.startswith("log")])
        files.append({name: personal.tensors for name, personal in kept(federation, result).items()})
        federation.close()
    differing = [place for (place, data), (_, other) in zip(*views, strict=True) if data != other]
    assert len(views[0]) > 100 and not differing
    differences = [np.abs(files[1][name][tensor] - values).min() for name, of in files[0].items() for tensor, values in of.items()]
    assert differences and min(differences) > 1000.0, "the mark was on everything private, and stayed"


def own_controls(federation: Federation, result: RunResult, name: str) -> Any:
    """The mean over the whole roster; whoever took part in no round that trained a tensor has none yet."""
    own, none = kept(federation, result), np.zeros_like(result.state.controls[name])
    return np.mean([own[one].controls.get(name, none) for one in NAMES], axis=0)


def test_the_common_variate_is_the_mean_of_everyone_s(tmp_path: Path) -> None:
    federation = federation_of(tmp_path, SCAFFOLD)
    result = federation.run()
    for name in (A, B):
        assert np.abs(result.state.controls[name]).max() > 0.05
        np.testing.assert_allclose(result.state.controls[name], own_controls(federation, result, name), atol=1e-5)
    federation.close()


def test_a_round_that_went_on_without_an_institution_leaves_its_variates_alone(tmp_path: Path) -> None:
    federation = federation_of(tmp_path, make_plan(rounds=3, trainable=DENSE, training=SCAFFOLD.training.model_dump()))
    federation.on_answer = lambda *_: None
    lost = federation.apps["dov"]

    def losing(message: Any, context: Any) -> Any:
        reply = lost(message, context)
        if message.metadata.message_type == "train.sum" and [e.round for e in federation.of(SumFinished) if e.kind == "update"] == [1]:
            raise ConnectionError("dov")  # trained, and its upload was lost
        return reply

    federation.apps["dov"] = losing
    result = federation.run()
    assert [row.missing for row in federation.registry.rounds(result.run)][2] == ("dov",)
    for name in (A, B):
        np.testing.assert_allclose(result.state.controls[name], own_controls(federation, result, name), atol=1e-5)
    assert all(len(list((federation.nodes[n].ledger.home / "personal" / result.run).iterdir())) == 1 for n in NAMES)
    federation.close()


@pytest.mark.slow
@pytest.mark.parametrize("plan", [FEDSA, SCAFFOLD], ids=["fedsa", "scaffold"])
@pytest.mark.parametrize("where", [r"ada: .*personal/2\.safetensors before", r"ada: .*2-update\.u32 before its rename"])
def test_a_round_trained_again_after_a_crash_has_the_same_bits(tmp_path: Path, plan: Plan, where: str) -> None:
    with lived(Points(tmp_path / "whole"), plan=plan, slots=16) as whole:
        expected, own = state_hash(whole.result.state), kept(whole.federation, whole.result)
    with lived(Points(tmp_path / "crashed", where=where), plan=plan, slots=16) as again:
        assert again.points.where == "", "nobody died"
        assert state_hash(again.result.state) == expected
        assert all(len(vectors) == 1 for vectors in again.log.vectors.values())
        for name, personal in kept(again.federation, again.result).items():
            for before, after in ((own[name].tensors, personal.tensors), (own[name].controls, personal.controls)):
                assert before.keys() == after.keys() and all(np.array_equal(before[key], after[key]) for key in before)
