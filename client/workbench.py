"""One institution's network and records for one plan: everything that a node asks of the side that holds them."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from functools import cached_property, partial
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from client.checkpoints import CheckpointOf
from client.choices import LabelPrior
from client.database import shown_source
from client.dataset import Dataset, Example, build_datasets
from client.drafts import accepted_drafts
from client.evaluation import accuracy, bits_per_byte, closed_choices, exact_match
from client.fingerprints import computing, fingerprint, records_fingerprint
from client.order import generator
from client.private_bench import Given, PrivateBench
from client.records import read_records
from client.settings import HardwareSettings, InstitutionSettings
from client.training import TrainingSet, batches, train_locally
from client.work import DraftSums, LocalUpdate, MetricSums
from model.adapters import attach_adapters, detach_adapters, load_adapter
from model.checkpoint.fingerprint import checkpoint_sha256
from model.checkpoint.loading import load_checkpoint
from model.experts import gate_affinity, token_affinity
from model.layout import Adaptation, AdapterConfig
from model.sketching import left_sketch, right_sketch
from model.text.tokenizer import Tokenizer, load_tokenizer
from model.training import Batch, Execution, LossTerms
from model.transformer import DeepseekV3
from protocols.participation import turn_of
from protocols.plan import Plan
from protocols.ranks import held_rank
from protocols.schedule import learning_rate
from protocols.state import Experts, Tensors
from protocols.sums.evaluate import DRAFT_RECORDS

AFFINITY_TOKENS = 2**17  # ESFT's own sample: 32 of 4,096 tokens
_PRECISION = {"stored": None, "fp32": torch.float32, "bf16": torch.bfloat16}


class Base:
    """A checkpoint in memory with the adapters attached at present. Workbenches of one process may share it, one call at a time."""

    def __init__(self, net: DeepseekV3, tokenizer: Tokenizer, sha256: str) -> None:
        self.net, self.tokenizer, self.sha256 = net, tokenizer, sha256
        self._attached: tuple[AdapterConfig, Experts] | None = None

    def adapted(self, adapter: AdapterConfig, experts: Experts, tensors: Tensors) -> DeepseekV3:
        """The network with exactly these adapter tensors."""
        if self._attached != (adapter, experts):
            if self._attached is not None:
                detach_adapters(self.net)
            attach_adapters(self.net, adapter, experts)
            self._attached = (adapter, dict(experts))
        load_adapter(self.net, tensors)
        return self.net

    def bare(self) -> DeepseekV3:
        """The network as the checkpoint has it."""
        if self._attached is not None:
            detach_adapters(self.net)
            self._attached = None
        return self.net


def load_base(directory: Path, hardware: HardwareSettings) -> Base:
    """Reads network, tokenizer and hash of a checkpoint directory.

    Raises:
        ModelError: one of them is missing or does not fit.
    """
    net = load_checkpoint(directory, _PRECISION[hardware.base_precision], hardware.device)
    return Base(net, load_tokenizer(directory), checkpoint_sha256(directory))


def open_workbench(plan: Plan, settings: InstitutionSettings, base: Base | None = None) -> Workbench:
    """Reads an institution's records and, unless it is given, the base that the plan names.

    Raises:
        SettingsError, RecordError, ModelError: what is missing or does not fit, in one sentence.
    """
    settings.hardware.check_plan(plan)
    records = read_records(settings.records, plan)
    base = base or load_base(settings.base_directory(plan.base.name), settings.hardware)
    datasets = build_datasets(records, plan.records, base.tokenizer, shown_source(settings.records.source))
    return Workbench(plan, base, datasets.train, datasets.test, settings.hardware)


class Workbench:
    """Satisfies `client.work.Work`; results depend on plan, records and arguments alone."""

    def __init__(self, plan: Plan, base: Base, train: Dataset, test: Dataset, hardware: HardwareSettings | None = None) -> None:
        self.plan, self.base, self.train_set, self.test_set = plan, base, train, test
        self.hardware = hardware or HardwareSettings()
        self._adapter = AdapterConfig.from_fields(plan.adapter_fields)
        self._choices = closed_choices(plan, base.tokenizer)
        self._data = TrainingSet(train.examples, plan.seed, self._label_prior(train.examples))
        order = generator(plan.seed, "order of test records").permutation(len(test.examples))[: plan.evaluation.max_records]
        self._measured = [test.examples[index] for index in np.sort(order)]
        self._drafted = [test.examples[index] for index in np.sort(order[:DRAFT_RECORDS])]

    @property
    def base_sha256(self) -> str:
        return self.base.sha256

    @property
    def max_rank(self) -> int | None:
        return self.hardware.max_rank

    @property
    def test_records(self) -> int:
        """Test records that the metric is measured on."""
        return len(self._measured)

    @property
    def adaptation(self) -> Adaptation:
        return Adaptation(self.base.net.config, self._adapter, self.plan.seed)

    @property
    def private(self) -> PrivateBench:
        """The side that trains with noise."""
        return PrivateBench(self.plan, lambda asked: self.base.adapted(self._adapter, asked.experts, asked.tensors), self._given())

    def expert_affinity(self) -> Mapping[int, NDArray[np.float64]]:
        """Layer -> [E]: routed tokens, or gate weight, of each expert of the base on (enough of) the training records."""
        measure = gate_affinity if self.plan.trainable.experts == "esft-gate" else token_affinity
        net = self.base.bare()
        affinity = measure(net, self._sample(net))
        return {layer: affinity[layer].cpu().numpy() for layer in self.adaptation.expert_counts}

    def gradient_sketch(self, tensors: Tensors, experts: Experts, omegas: Mapping[str, NDArray[np.float64]]) -> Tensors:
        """G Omega [out, s] by module, float32, on (enough of) the training records."""
        return self._gradient(left_sketch, tensors, experts, omegas)

    def gradient_core(self, tensors: Tensors, experts: Experts, bases: Mapping[str, NDArray[np.float64]]) -> Tensors:
        """Q^T G [s, in] by module, float32, on the same records."""
        return self._gradient(right_sketch, tensors, experts, bases)

    def _gradient(
        self, sketch: Callable[..., dict[str, torch.Tensor]], tensors: Tensors, experts: Experts, factors: Mapping[str, NDArray[np.float64]]
    ) -> Tensors:
        net = self.base.adapted(self._adapter, experts, tensors)
        device = net.model.embed_tokens.weight.device
        on_device = {name: torch.from_numpy(values.astype(np.float32)).to(device) for name, values in factors.items()}
        mtp_weight = 0.0 if self.plan.trainable.mtp is False else LossTerms().mtp_weight
        sketches = sketch(net, self._sample(net), on_device, mtp_weight=mtp_weight, execution=self._execution())
        return {name: values.cpu().numpy() for name, values in sketches.items()}

    def _sample(self, net: DeepseekV3) -> Iterator[Batch]:
        """The first batches of the order, until about AFFINITY_TOKENS tokens."""
        tokens, size = sum(len(example.tokens) for example in self._data.examples), self.plan.training.batch_size
        share = min(1.0, AFFINITY_TOKENS / tokens)
        return batches(net, self._data, size, 0, math.ceil(share * len(self._data.examples) / size))

    def train(
        self,
        round_number: int,
        tensors: Tensors,
        trained: Collection[str],
        experts: Experts,
        corrections: Tensors | None = None,
        checkpoint: CheckpointOf | None = None,
        steps: int | None = None,
        turn: int | None = None,
    ) -> LocalUpdate:
        """The plan's local steps (or `steps`) from `tensors`, at the round's learning rate, on the records that are next in the order.

        `turn` counts the rounds of this training up to this one; the plan's batches decide it if None.
        """
        steps = steps or self.plan.training.local_steps
        facts = {"round": round_number, "steps": steps, "trained": sorted(trained), "experts": sorted(experts.items())}
        net = self.base.adapted(self._adapter, experts, tensors)
        return train_locally(
            net,
            self._data,
            self.plan.training,
            trained,
            first_step=((turn or turn_of(self.plan, round_number)) - 1) * steps,
            steps=steps,
            learning_rate=learning_rate(self.plan, round_number),
            held_rank=held_rank(self.plan, self.max_rank),
            corrections=corrections,
            mtp=self.plan.trainable.mtp is not False,
            execution=self._execution(),
            keeper=checkpoint(partial(self._identity, facts, tensors, corrections or {})) if checkpoint else None,
        )

    def train_alone(self, round_number: int, tensors: Tensors, experts: Experts, steps: int | None = None) -> LocalUpdate:
        """A round of whoever trains without others: in every round, even where the plan has batches."""
        return self.train(round_number, tensors, tuple(tensors), experts, steps=steps, turn=round_number)

    def _identity(self, facts: Mapping[str, object], *inputs: Tensors) -> bytes:
        """Of all that a training depends on."""
        own = {"plan": self.plan.sha256, "base": self.base_sha256, "records": self._records, "max_rank": self.max_rank}
        how = computing(self._execution(), self.base.net.model.embed_tokens.weight.device)
        return fingerprint({**facts, **own, **how}, *inputs)

    @cached_property
    def _records(self) -> str:
        return records_fingerprint(self.train_set).hex()

    def evaluate(self, tensors: Tensors, experts: Experts) -> MetricSums:
        """The plan's metric over the first `evaluation.max_records` test records of a fixed order."""
        return self.measure(self._measured, tensors, experts)

    def loss(self, tensors: Tensors, experts: Experts) -> MetricSums:
        """Bits of target bytes over the same test records, whatever metric the plan names."""
        return bits_per_byte(self.base.adapted(self._adapter, experts, tensors), self._measured)

    def measure(self, examples: Sequence[Example], tensors: Tensors, experts: Experts) -> MetricSums:
        """The plan's metric over some examples of this institution."""
        net = self.base.adapted(self._adapter, experts, tensors)
        if self._choices is not None:
            return accuracy(net, examples, self._choices)
        if self.plan.evaluation.metric == "exact_match":
            return exact_match(net, examples, self.base.tokenizer)
        return bits_per_byte(net, examples)

    def drafts(self, tensors: Tensors, experts: Experts) -> DraftSums:
        """Greedy acceptance over the first DRAFT_RECORDS of the same order."""
        return accepted_drafts(self.base.adapted(self._adapter, experts, tensors), self._drafted)

    def _label_prior(self, examples: Sequence[Example]) -> LabelPrior | None:
        if self.plan.training.label_prior == "none" or self._choices is None:
            return None
        return LabelPrior(self._choices.trie, [example.tokens[example.prompt_length :].tolist() for example in examples])

    def _given(self) -> Given:
        return Given(self.train_set, self._choices.trie if self._choices else None, self._execution())

    def _execution(self) -> Execution:
        device = self.base.net.model.embed_tokens.weight.device.type
        wanted = self.plan.training.precision
        bf16 = wanted == "bf16" or (wanted == "auto" and device != "cpu")
        compute_dtype = torch.bfloat16 if bf16 else torch.float32 if wanted == "fp32" else None
        return Execution(compute_dtype, self.hardware.micro_batch, self.hardware.checkpointing)
