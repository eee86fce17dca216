"""However a step is computed (packed, in micro-batches, with recomputed activations, in bfloat16), it is the same step."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from model.adapters import adapter_state, attach_adapters, load_adapter, set_trainable
from model.attention import causal_mask
from model.layout import AdapterConfig, initial_adapter
from model.loss import LogitAdjustment
from model.training import Batch, Execution, LossTerms, accumulate_gradients, train
from model.transformer import DeepseekV3
from tests.model.configurations import random_network, random_tokens, relative_error

TERMS = LossTerms(mtp_weight=0.4, balance_weight=0.01)


def network(**changes: Any) -> DeepseekV3:
    return random_network(num_nextn_predict_layers=2, **changes)


def batch(rows: int = 5) -> Batch:
    tokens = random_tokens(1, rows, 14)
    valid = torch.ones_like(tokens, dtype=torch.bool)
    valid[0, 9:] = False
    targets = tokens.masked_fill(~valid, -100)
    targets[1, :11] = -100  # rows differ in their number of targets
    return Batch(tokens, targets, valid)


def gradients(net: DeepseekV3, data: Batch, execution: Execution) -> dict[str, torch.Tensor]:
    net.zero_grad(set_to_none=True)
    loss = accumulate_gradients(net, data, TERMS, execution)
    found = {name: p.grad.clone() for name, p in net.named_parameters() if p.grad is not None}
    return found | {
        "total": loss.total,
        "main": loss.main,
        "mtp": loss.mtp,
        "balance": loss.balance,
        "counts": loss.expert_counts[1].float(),
    }


@pytest.mark.parametrize(
    "execution", [Execution(micro_batch=2), Execution(checkpointing=True), Execution(micro_batch=1, checkpointing=True)]
)
def test_micro_batches_and_checkpointing_change_no_gradient(execution: Execution) -> None:
    net = network()
    expected, found = gradients(net, batch(), Execution()), gradients(net, batch(), execution)
    assert expected.keys() == found.keys()
    assert all(relative_error(found[name], expected[name]) < 1e-5 for name in expected)


def test_a_micro_batch_takes_its_own_adjustments() -> None:
    net, tokens = network(), random_tokens(2, 3, 8)
    adjustment = LogitAdjustment(torch.tensor([0, 8, 20]), torch.tensor([3, 4, 5]), torch.tensor([2.0, -1.0, 3.0]))
    data = Batch(tokens, tokens, torch.ones_like(tokens, dtype=torch.bool), adjustment)
    expected, found = gradients(net, data, Execution()), gradients(net, data, Execution(micro_batch=1))
    assert all(relative_error(found[name], expected[name]) < 1e-5 for name in expected)
    assert relative_error(gradients(net, replace(data, adjustment=None), Execution())["main"], expected["main"]) > 1e-3


def test_checkpointing_keeps_fewer_activations() -> None:
    def kept(execution: Execution) -> int:
        sizes: dict[int, int] = {}

        def pack(tensor: torch.Tensor) -> torch.Tensor:
            sizes[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
            return tensor

        net = network()
        weights = {p.untyped_storage().data_ptr() for p in net.parameters()}
        with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
            net.loss(*(batch().input_ids,) * 2, checkpointing=execution.checkpointing)
        return sum(size for pointer, size in sizes.items() if pointer not in weights)

    assert kept(Execution(checkpointing=True)) < 0.5 * kept(Execution())


def packed() -> tuple[Batch, list[torch.Tensor]]:
    """Rows of two or three documents, and the documents by themselves."""
    documents = [random_tokens(seed, 1, length) for seed, length in enumerate((5, 9, 4, 6, 4))]
    rows = [torch.cat(documents[:2], 1), torch.cat(documents[2:], 1)]
    segments = torch.tensor([[0] * 5 + [1] * 9, [0] * 4 + [1] * 6 + [2] * 4])
    tokens = torch.cat(rows)
    return Batch(tokens, tokens, torch.ones_like(tokens, dtype=torch.bool), None, segments), documents


def test_packed_documents_see_and_predict_themselves_alone() -> None:
    net = network()
    data, documents = packed()
    together = net(data.input_ids, segments=data.segments)
    alone = [net(document) for document in documents]
    assert relative_error(together.logits.flatten(0, 1), torch.cat([out.logits[0] for out in alone])) < 1e-4
    start = 5  # the second document's first token, in a row of its own state
    assert relative_error(together.mtp_logits[0][0, start:], alone[1].mtp_logits[0][0]) < 1e-4
    assert relative_error(together.mtp_logits[1][0, start:], alone[1].mtp_logits[1][0]) < 1e-4


def test_the_loss_of_packed_rows_is_that_of_their_documents() -> None:
    net = network()
    data, documents = packed()
    loss = net.loss(data.input_ids, data.targets, segments=data.segments, mtp_weight=0.4)
    parts = [net.loss(document, document, mtp_weight=0.4) for document in documents]
    weights = [document.shape[1] - 1 for document in documents]
    main = torch.stack([part.main * weight for part, weight in zip(parts, weights, strict=True)]).sum() / sum(weights)
    assert relative_error(loss.main, main) < 1e-5
    assert loss.target_tokens == sum(weights)
    crossing = net.loss(data.input_ids, data.targets, mtp_weight=0.4)
    assert relative_error(crossing.main, loss.main) > 1e-3 and relative_error(crossing.mtp, loss.mtp) > 1e-3


def test_packed_rows_train_in_micro_batches() -> None:
    net, (data, _) = network(), packed()
    expected, found = gradients(net, data, Execution()), gradients(net, data, Execution(micro_batch=1))
    assert all(relative_error(found[name], expected[name]) < 1e-5 for name in expected)


def test_adjustments_of_packed_rows_stay_with_their_targets() -> None:
    """A document's first token is no target, which moves the number of every later one."""
    net, (data, documents) = random_network(num_nextn_predict_layers=1), packed()
    lengths = torch.tensor([document.shape[1] for document in documents])
    rows, columns, values = (lengths - 1).cumsum(0) - 1, torch.full_like(lengths, 7), torch.arange(3.0, 8.0)  # each one's last target
    whole = replace(data, adjustment=LogitAdjustment(rows, columns, values))
    loss = net.loss(data.input_ids, data.targets, segments=data.segments, adjustment=whole.adjustment)
    own = [LogitAdjustment(lengths[n : n + 1] - 2, columns[:1], values[n : n + 1]) for n in range(len(documents))]
    parts = [net.loss(document, document, adjustment=adjustment) for document, adjustment in zip(documents, own, strict=True)]
    for together, apart, lost in ((loss.main, [part.main for part in parts], 1), (loss.mtp, [part.mtp for part in parts], 2)):
        assert relative_error(together, (torch.stack(apart) * (lengths - lost)).sum() / (lengths - lost).sum()) < 1e-5
    expected, found = gradients(net, whole, Execution()), gradients(net, whole, Execution(micro_batch=1))
    assert all(relative_error(found[name], expected[name]) < 1e-5 for name in expected)


def test_left_padding_changes_no_loss() -> None:
    net, tokens = network(), random_tokens(4, 2, 9)
    padded = torch.cat([torch.zeros(2, 4, dtype=torch.long), tokens], 1)
    mask = (torch.arange(13) >= 4).long().expand(2, -1)
    targets = padded.masked_fill(mask == 0, -100)
    targets[:, 4] = -100  # the first token: nothing stands before it
    beside, alone = net.loss(padded, targets, attention_mask=mask), net.loss(tokens, tokens)
    assert relative_error(beside.main, alone.main) < 1e-5
    mtp = net(padded, attention_mask=mask).mtp_logits
    assert relative_error(mtp[1][:, 4:], net(tokens).mtp_logits[1]) < 1e-4


def test_bfloat16_weights_are_trained_in_float32() -> None:
    """Steps of 1e-5 are far below the spacing of bfloat16 weights: without master weights nothing would move."""
    wide = random_network(initializer_range=0.5)
    narrow = random_network(initializer_range=0.5).bfloat16()
    before = narrow.lm_head.weight.detach().clone()
    train(narrow, [batch()] * 60, learning_rate=3e-4)
    train(wide, [batch()] * 60, learning_rate=3e-4, execution=Execution(compute_dtype=torch.bfloat16))
    assert narrow.lm_head.weight.dtype == torch.bfloat16
    moved, wanted = narrow.lm_head.weight.float() - before.float(), wide.lm_head.weight - before.float()
    assert relative_error(moved, wanted) < 0.3


@pytest.mark.parametrize("mode", ["lora", "full"])
def test_adapters_stay_float32_on_a_bfloat16_base(mode: Any) -> None:
    def update(dtype: torch.dtype) -> dict[str, np.ndarray]:
        net = network().to(dtype)
        config, experts = AdapterConfig(targets=("attention", "lm_head", "embeddings", "norms"), expert_mode=mode), {1: (0, 1), 3: (2,)}
        attach_adapters(net, config, experts)
        load_adapter(net, initial_adapter(net.attached.layout, 0))  # type: ignore[attr-defined]
        set_trainable(net, adapter_state(net).keys())
        assert all(p.dtype == torch.float32 for p in net.parameters() if p.requires_grad)
        before = adapter_state(net)
        train(net, [batch()] * 4, learning_rate=1e-3, execution=Execution(checkpointing=True))
        return {name: values - before[name] for name, values in adapter_state(net).items()}

    wide, narrow = update(torch.float32), update(torch.bfloat16)
    together = [np.concatenate([values.ravel() for _, values in sorted(found.items())]) for found in (wide, narrow)]
    cosine = together[0] @ together[1] / (np.linalg.norm(together[0]) * np.linalg.norm(together[1]))
    assert cosine > 0.9


def test_no_query_is_left_without_a_key() -> None:
    """A row of a softmax over nothing is not a number, on some devices."""
    padded = torch.tensor([[0, 0, 1, 1], [0, 0, 0, 0]])
    for past in (0, 2):
        mask = causal_mask(4 - past, past, padded, torch.device("cpu"))
        assert mask is not None and bool(mask.any(-1).all())


def test_a_bfloat16_network_computes_in_bfloat16() -> None:
    nets = [random_network().bfloat16() for _ in range(3)]
    for net, dtype in zip(nets, (None, torch.bfloat16, torch.float32), strict=True):
        train(net, [batch()], learning_rate=1e-2, execution=Execution(compute_dtype=dtype))
    own, same, wide = ([p.clone() for p in net.parameters()] for net in nets)
    assert all(map(torch.equal, own, same)) and not all(map(torch.equal, own, wide))
