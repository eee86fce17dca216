"""An institution's work on a GPU is that on a CPU, up to rounding; skipped where there is none."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from client.checks.plan import check_memory
from client.machine import free_memory
from client.settings import HardwareSettings
from client.workbench import Base, Workbench, load_base
from model.bases import bundled_base
from protocols.plan import Plan
from protocols.state import Tensors
from tests.client.test_private_bench import asked_of, bench_of
from tests.client.test_workbench import make_plan, open_bench

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device is here")
TINY = Path(bundled_base("tiny"))
EXPERTS = {1: (0, 3), 2: (5,)}
TRAINING = {"local_steps": 4, "batch_size": 8, "learning_rate": 1e-2}


@pytest.fixture(scope="module")
def bases() -> tuple[Base, Base]:
    return load_base(TINY, HardwareSettings()), load_base(TINY, HardwareSettings(device="cuda"))


def benches(plan: Plan, bases: tuple[Base, Base], folder: Path) -> tuple[Workbench, Workbench]:
    here, there = (open_bench(plan, base, folder) for base in bases)
    return here, there


def cosine(one: Tensors, other: Tensors) -> float:
    assert one.keys() == other.keys()
    a, b = (np.concatenate([np.ravel(tensors[name]).astype(np.float64) for name in sorted(one)]) for tensors in (one, other))
    return float(a @ b / (np.linalg.norm(a) * np.linalg.norm(b)))


@pytest.mark.parametrize(("precision", "least"), [("fp32", 0.99), ("auto", 0.9)])
def test_an_update(bases: tuple[Base, Base], tmp_path: Path, precision: str, least: float) -> None:
    here, there = benches(make_plan(training=TRAINING | {"precision": precision}), bases, tmp_path)
    state = here.adaptation.initial(EXPERTS)
    one, other = (bench.train(1, state, list(state), EXPERTS) for bench in (here, there))
    assert cosine(one.delta, other.delta) > least
    assert other.loss_sum == pytest.approx(one.loss_sum, rel=0.05)
    assert (one.examples, one.tokens) == (other.examples, other.tokens)


def test_an_update_of_a_base_in_bfloat16(bases: tuple[Base, Base], tmp_path: Path) -> None:
    """Whose experts one kernel multiplies."""
    held = bases[0], load_base(TINY, HardwareSettings(device="cuda", base_precision="bf16"))
    here, there = benches(make_plan(training=TRAINING), held, tmp_path)
    state = here.adaptation.initial(EXPERTS)
    one, other = (bench.train(1, state, list(state), EXPERTS) for bench in (here, there))
    assert cosine(one.delta, other.delta) > 0.9 and other.loss_sum == pytest.approx(one.loss_sum, rel=0.05)


def test_affinity_evaluation_and_drafts(bases: tuple[Base, Base], tmp_path: Path) -> None:
    for metric in ("accuracy", "exact_match", "bits_per_byte"):
        here, there = benches(make_plan(evaluation={"metric": metric, "choices": [" red", " green"]}), bases, tmp_path)
        state = here.adaptation.initial({})
        one, other = (bench.evaluate(state, {}) for bench in (here, there))
        assert (other.numerator, other.denominator) == pytest.approx((one.numerator, one.denominator), rel=1e-3), metric
    affinity, again = here.expert_affinity(), there.expert_affinity()
    assert all(np.allclose(again[layer], values, rtol=1e-2, atol=1e-3) for layer, values in affinity.items())
    assert here.drafts(state, {}) == there.drafts(state, {})


def test_gradient_sketches(bases: tuple[Base, Base], tmp_path: Path) -> None:
    trainable = {"experts": "none", "lora_rank": 2, "targets": ["attention"]}
    here, there = benches(make_plan(trainable=trainable, aggregation={"rule": "fedsb"}), bases, tmp_path)
    state, draw = here.adaptation.initial({}), np.random.default_rng(0)
    name = "model.layers.1.self_attn.o_proj"
    shape = next(tensor.shape for tensor in here.adaptation.layout({}) if tensor.name == f"{name}.lora_A.weight")
    omega = {name: draw.normal(size=(shape[1], 5))}
    assert cosine(here.gradient_sketch(state, {}, omega), there.gradient_sketch(state, {}, omega)) > 0.99


def test_a_private_update_clips_each_unit_s_gradient_and_draws_by_its_secret(bases: tuple[Base, Base]) -> None:
    """Draws are bound to the device too, so that a sample of everybody is what can be compared."""
    here, there = (bench_of(base, unit="group") for base in bases)
    every = asked_of(here, b"all", rate=1.0)
    for one, other in zip(here.private.clipped_gradients(every), there.private.clipped_gradients(every), strict=True):
        assert np.linalg.norm(other) <= 0.5 * (1 + 1e-6)
        assert one @ other / (np.linalg.norm(one) * np.linalg.norm(other)) > 0.9
    assert cosine(there.private.train(every), there.private.train(every)) > 0.99


def test_a_plan_s_memory_is_asked_of_the_device() -> None:
    free = free_memory("cuda")
    assert free is not None and free_memory(f"cuda:{torch.cuda.device_count()}") is None
    assert check_memory(free // 2, free, "cuda").outcome == "ok" and check_memory(2 * free, free, "cuda").outcome == "failed"
