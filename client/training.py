"""One institution's share of a round: a few optimiser steps on its own records, and what they changed."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from client.batches import collate
from client.choices import LabelPrior, PriorCorrection
from client.dataset import Example
from client.order import training_order
from client.work import LocalUpdate
from model.adapters import adapter_state, parameters_of, set_trainable
from model.progress import Keeper, steps_done
from model.training import Batch, Execution, LossTerms, train
from model.transformer import DeepseekV3
from protocols.plan import Training
from protocols.state import Tensors


@dataclass(frozen=True, slots=True)
class TrainingSet:
    """Training examples, the seed of their order, and the correction of label skew if the plan asks for it."""

    examples: tuple[Example, ...]
    seed: int
    prior: LabelPrior | None = None


def train_locally(
    net: DeepseekV3,
    data: TrainingSet,
    terms: Training,
    trained: Collection[str],
    *,
    first_step: int,
    steps: int,
    learning_rate: float,
    held_rank: int | None = None,
    corrections: Tensors | None = None,
    mtp: bool = True,
    execution: Execution | None = None,
    keeper: Keeper | None = None,
) -> LocalUpdate:
    """Trains the adapter tensors named by `trained` from where the network stands; the optimiser starts afresh.

    `first_step` counts the steps of all rounds before, so that records are not repeated before all have been seen. Of LoRA
    pairs the leading `held_rank` slices alone are trained. The loss of multi-token prediction takes part if `mtp` says so. Every
    step moves the tensors that `corrections` names by that much less, times the learning rate. Where `keeper` has progress, the steps
    after it are taken.
    """
    set_trainable(net, trained, held_rank)
    before = {name: values.copy() for name, values in adapter_state(net).items() if name in trained}
    done = steps_done(keeper)
    result = train(
        net,
        batches(net, data, terms.batch_size, first_step + done, steps - done),
        learning_rate=learning_rate,
        weight_decay=terms.weight_decay,
        proximal=terms.proximal,
        corrections=_by_parameter(net, corrections or {}),
        terms=LossTerms() if mtp else LossTerms(mtp_weight=0.0),
        execution=execution,
        keeper=keeper,
    )
    after = adapter_state(net)
    return LocalUpdate(
        delta=_difference(after, before),
        loss_sum=result.loss_sum,
        examples=result.examples,
        tokens=result.target_tokens,
        expert_tokens={layer: counts.cpu().numpy() for layer, counts in result.expert_counts.items()},
    )


def batches(net: DeepseekV3, data: TrainingSet, batch_size: int, first: int, count: int) -> Iterator[Batch]:
    """Batches `first` to `first + count` of the data's endless stream."""
    device = net.model.embed_tokens.weight.device
    correct = _corrector(data.prior) if data.prior else None
    lengths = [len(example.tokens) for example in data.examples]
    for chosen in training_order(lengths, data.seed, batch_size, first, count):
        yield collate([data.examples[index] for index in chosen], device, correct)


def _by_parameter(net: DeepseekV3, corrections: Tensors) -> dict[nn.Parameter, Tensor]:
    return {parameter: torch.from_numpy(corrections[name]) for name, parameter in parameters_of(net, tuple(corrections)).items()}


def _corrector(prior: LabelPrior) -> Callable[[Example], PriorCorrection]:
    return lambda example: prior.correction(example.tokens[example.prompt_length :].tolist())


def _difference(after: Tensors, before: Tensors) -> Tensors:
    return {name: after[name] - values for name, values in before.items()}
