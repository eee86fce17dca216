"""An institution's work on the bundled base: training, evaluation, expert affinity."""

import json
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from client.errors import RecordError, SettingsError
from client.settings import HardwareSettings, InstitutionSettings
from client.work import LocalUpdate, Work
from client.workbench import Base, Workbench, load_base, open_workbench
from model.bases import bundled_base
from protocols.plan import Plan, parse_plan
from protocols.state import Tensors

COLOURS = ("red", "green", "blue", "pale green")


@pytest.fixture(scope="module")
def base() -> Base:
    return load_base(Path(bundled_base("tiny")), HardwareSettings())


def make_plan(**tables: object) -> Plan:
    content = {
        "schema": 1,
        "name": "colours",
        "rounds": 4,
        "base": "tiny",
        "records": {"prompt": "what colour is {text}? answer:", "target": " {label}"},
        "trainable": {"lora_rank": 4, "experts": "esft-token", "expert_rank": 2},
        "training": {"local_steps": 4, "batch_size": 8, "learning_rate": 1e-2},
        "evaluation": {"choices": [f" {colour}" for colour in COLOURS]},
    }
    return parse_plan(content | tables, "plan")


def open_bench(
    plan: Plan, base: Base, tmp_path: Path, labels: tuple[str, ...] = COLOURS, hardware: dict[str, object] | None = None
) -> Workbench:
    things = ("grass", "the sky", "a rose", "lettuce")
    rows = [
        {"text": f"{things[n % 4]} {n // 4}", "label": labels[n % len(labels)], "split": "test" if n < 8 else "train"} for n in range(40)
    ]
    (tmp_path / "records.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    content = {"records": {"source": str(tmp_path / "records.jsonl"), "split": "split"}, "hardware": hardware or {}}
    settings = InstitutionSettings.model_validate(content)
    return open_workbench(plan, settings, base)


def moved(state: Tensors, delta: Tensors) -> dict[str, np.ndarray]:
    return {name: values + delta[name] if name in delta else values for name, values in state.items()}


def test_a_plan_beyond_the_hardware_s_rank_is_refused(base: Base, tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r"trainable\.lora_rank is 4 and this institution's hardware\.max_rank 3"):
        open_bench(make_plan(), base, tmp_path, hardware={"max_rank": 3})


def test_of_nested_ranks_the_leading_slices_alone_are_trained(base: Base, tmp_path: Path) -> None:
    trainable = {"lora_rank": 4, "experts": "all", "expert_rank": 2, "ranks": "nested"}
    bench = open_bench(make_plan(trainable=trainable), base, tmp_path, hardware={"max_rank": 1})
    experts = {1: (0, 3)}
    state = bench.adaptation.initial(experts)
    delta = bench.train(1, state, list(state), experts).delta
    columns = [values for name, values in delta.items() if "lora_B" in name]
    rows = [values for name, values in delta.items() if "lora_A" in name]
    assert {values.shape[1] for values in columns} == {2, 4} and any(values[:, 0].any() for values in columns)
    assert not any(values[:, 1:].any() for values in columns) and not any(values[1:].any() for values in rows)
    whole = open_bench(make_plan(trainable=trainable), base, tmp_path).train(1, state, list(state), experts).delta
    assert any(values[:, 1:].any() for name, values in whole.items() if "lora_B" in name), "what was held before is not held any more"


def test_batches_go_on_with_the_records_where_they_stopped(base: Base, tmp_path: Path) -> None:
    training = {"local_steps": 2, "batch_size": 8, "schedule": "constant"}
    plans = [make_plan(participation={"batches": batches}, training=training) for batches in (1, 2)]
    one, two = (open_bench(plan, base, tmp_path) for plan in plans)
    state = one.adaptation.initial({1: (0,)})
    assert one.train(2, state, list(state), {1: (0,)}).loss_sum == two.train(3, state, list(state), {1: (0,)}).loss_sum


def test_training_moves_exactly_the_trained_tensors_and_lowers_the_loss(base: Base, tmp_path: Path) -> None:
    bench = open_bench(make_plan(), base, tmp_path)
    work: Work = bench
    experts = {1: (0, 3), 2: (5,)}
    state = work.adaptation.initial(experts)
    factors = [name for name in state if name.endswith("lora_B.weight")]
    first = work.train(1, state, factors, experts)
    assert sorted(first.delta) == sorted(factors)
    assert all(delta.dtype == np.float32 and np.isfinite(delta).all() for delta in first.delta.values())
    assert any(np.abs(first.delta[name]).max() > 0 for name in factors if ".experts." in name)
    assert first.examples == 32
    assert first.tokens >= 2 * 32
    state = moved(state, first.delta)
    second = work.train(2, state, list(state), experts)
    assert second.loss_sum / second.examples < first.loss_sum / first.examples


def test_training_is_the_same_for_the_same_round_and_another_for_the_next(base: Base, tmp_path: Path) -> None:
    bench = open_bench(make_plan(), base, tmp_path)
    state = bench.adaptation.initial({})
    names = list(state)
    first, again, later = (bench.train(number, state, names, {}) for number in (1, 1, 2))
    assert all(np.array_equal(first.delta[name], again.delta[name]) for name in names)
    assert any(not np.array_equal(first.delta[name], later.delta[name]) for name in names)


def test_expert_tokens_count_what_was_routed(base: Base, tmp_path: Path) -> None:
    bench = open_bench(make_plan(training={"local_steps": 1, "batch_size": 8}), base, tmp_path)
    state = bench.adaptation.initial({})
    update = bench.train(1, state, list(state), {})
    lengths = {len(example.tokens) for example in bench.train_set.examples}
    per_token = base.net.config.num_experts_per_tok
    assert 8 * min(lengths) * per_token <= update.expert_tokens[1].sum() <= 8 * max(lengths) * per_token


@pytest.mark.parametrize("experts", ["esft-token", "esft-gate"])
def test_affinity_is_that_of_the_base_whatever_is_attached(base: Base, tmp_path: Path, experts: str) -> None:
    bench = open_bench(make_plan(trainable={"experts": experts, "lora_rank": 2}), base, tmp_path)
    before = bench.expert_affinity()
    state = bench.adaptation.initial({})
    bench.evaluate({name: values + np.float32(0.05) for name, values in state.items()}, {})
    after = bench.expert_affinity()
    assert {layer: len(values) for layer, values in before.items()} == bench.adaptation.expert_counts
    assert all(np.array_equal(before[layer], after[layer]) for layer in before)


def test_gradient_sketches_are_of_one_gradient_at_the_base(base: Base, tmp_path: Path) -> None:
    """Q^T (G Omega) is (Q^T G) Omega."""
    trainable = {"experts": "none", "lora_rank": 2, "targets": ["attention"]}
    bench = open_bench(make_plan(trainable=trainable, aggregation={"rule": "fedsb"}), base, tmp_path)
    state, draw = bench.adaptation.initial({}), np.random.default_rng(0)
    shapes = {tensor.name: tensor.shape for tensor in bench.adaptation.layout({})}
    name = "model.layers.1.self_attn.o_proj"
    omega = draw.normal(size=(shapes[f"{name}.lora_A.weight"][1], 5))
    q = np.linalg.qr(draw.normal(size=(shapes[f"{name}.lora_B.weight"][0], 5)))[0]
    sketch, core = bench.gradient_sketch(state, {}, {name: omega})[name], bench.gradient_core(state, {}, {name: q})[name]
    np.testing.assert_allclose(q.T @ sketch, core @ omega, rtol=1e-3, atol=1e-4 * float(np.abs(core).max()))
    assert np.abs(sketch).max() > 0


def test_accuracy_counts_targets_outside_the_list_as_wrong(base: Base, tmp_path: Path) -> None:
    bench = open_bench(make_plan(evaluation={"choices": [" red", " green"]}), base, tmp_path, labels=("blue",))
    sums = bench.evaluate(bench.adaptation.initial({}), {})
    assert (sums.numerator, sums.denominator) == (0.0, 8)


def test_training_teaches_the_choices_and_evaluation_sees_it(base: Base, tmp_path: Path) -> None:
    bench = open_bench(make_plan(), base, tmp_path, labels=("pale green",))
    state = bench.adaptation.initial({})
    before = bench.evaluate(state, {})
    for number in (1, 2, 3):
        state = moved(state, bench.train(number, state, list(state), {}).delta)
    after = bench.evaluate(state, {})
    assert before.numerator < after.numerator == 8.0
    exact = open_bench(make_plan(evaluation={"metric": "exact_match"}), base, tmp_path, labels=("pale green",))
    assert exact.evaluate(state, {}).numerator == 8.0
    assert exact.evaluate(exact.adaptation.initial({}), {}).numerator == 0.0


def test_bits_per_byte_is_the_negative_log_probability_of_targets_and_end(base: Base, tmp_path: Path) -> None:
    bench = open_bench(make_plan(evaluation={"metric": "bits_per_byte", "max_records": 5}), base, tmp_path)
    state = bench.adaptation.initial({})
    sums = bench.evaluate(state, {})
    bits, size = 0.0, 0
    with torch.no_grad():
        for example in bench._measured:
            scores = base.net(torch.from_numpy(example.tokens[None].astype(np.int64))).logits[0].double().log_softmax(-1)
            bits -= sum(float(scores[p - 1, int(example.tokens[p])]) for p in np.flatnonzero(example.learnt)) / math.log(2)
            size += len(example.target.encode())
    assert sums.numerator == pytest.approx(bits, rel=1e-5)
    assert sums.denominator == size


def test_corrected_prior_trains_otherwise_than_plain_loss_only_where_labels_are_skewed(base: Base, tmp_path: Path) -> None:
    def update(label_prior: str, labels: tuple[str, ...]) -> LocalUpdate:
        training = {"local_steps": 2, "batch_size": 8, "label_prior": label_prior}
        bench = open_bench(make_plan(training=training, evaluation={"choices": [" red", " green"]}), base, tmp_path, labels)
        state = bench.adaptation.initial({})
        return bench.train(1, state, list(state), {})

    balanced, skewed = ("red", "green"), ("red", "red", "red", "green")
    plain, corrected = update("none", balanced), update("corrected", balanced)
    assert all(np.array_equal(plain.delta[name], corrected.delta[name]) for name in plain.delta)
    plain, corrected = update("none", skewed), update("corrected", skewed)
    assert abs(plain.loss_sum - corrected.loss_sum) > 1e-2 * plain.loss_sum
    assert not all(np.array_equal(plain.delta[name], corrected.delta[name]) for name in plain.delta)


def test_a_plan_without_mtp_trains_as_if_the_base_had_none(tmp_path: Path) -> None:
    def update(mtp: str | bool, keep_modules: bool) -> LocalUpdate:
        own = load_base(Path(bundled_base("tiny")), HardwareSettings())
        if not keep_modules:
            own.net.mtp = torch.nn.ModuleList()
            own.net.config = replace(own.net.config, num_nextn_predict_layers=0)
        trainable = {"lora_rank": 4, "experts": "none", "mtp": mtp}
        bench = open_bench(make_plan(trainable=trainable), own, tmp_path)
        state = bench.adaptation.initial({})
        return bench.train(1, state, list(state), {})

    without, left_out, adapted = update("auto", False), update(False, True), update("auto", True)
    assert without.delta.keys() == left_out.delta.keys() < adapted.delta.keys()
    assert all(np.array_equal(without.delta[name], left_out.delta[name]) for name in without.delta)
    assert not all(np.array_equal(without.delta[name], adapted.delta[name]) for name in without.delta)


def test_test_records_are_limited_by_a_fixed_choice(base: Base, tmp_path: Path) -> None:
    plan = make_plan(evaluation={"choices": [" red"], "max_records": 3})
    benches = [open_bench(plan, base, tmp_path) for _ in range(2)]
    assert [e.target for e in benches[0]._measured] == [e.target for e in benches[1]._measured]
    assert benches[0].evaluate(benches[0].adaptation.initial({}), {}).denominator == 3


def test_records_that_are_all_too_long_are_refused(base: Base, tmp_path: Path) -> None:
    records = {"prompt": "{text}", "target": " {label}", "max_tokens": 2, "too_long": "drop"}
    with pytest.raises(RecordError, match="every training record is longer than"):
        open_bench(make_plan(records=records), base, tmp_path)
