"""Private training on one institution's records: Poisson-sampled units, their clipped gradients, and noise of a cryptographic generator."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, partial

import numpy as np
import torch
from numpy.typing import NDArray

from client.batches import collate
from client.checkpoints import CheckpointOf
from client.choices import ChoiceTrie, LabelPrior, PriorCorrection, choice_counts
from client.dataset import Dataset, Example
from client.fingerprints import computing, fingerprint, records_fingerprint
from client.units import Rows, label_weights, parts_of, units_of
from client.work import PrivateRound
from model.adapters import adapter_state, set_trainable
from model.private_training import PrivateTerms, UnitBatch, clipped_gradients, train_privately
from model.progress import steps_done
from model.training import Execution, LossTerms
from model.transformer import DeepseekV3
from protocols.errors import PrivacyError
from protocols.keys import Purpose
from protocols.plan import Plan, Privacy
from protocols.privacy.noise import gaussian
from protocols.privacy.sampling import draw
from protocols.privacy.stream import CryptographicStream
from protocols.schedule import learning_rate
from protocols.state import Tensors

MOST_ROWS = 16  # examples whose gradients exist at the same time, unless the hardware's micro_batch says otherwise


@dataclass(frozen=True, slots=True)
class Given:
    """What is trained on, and how steps are computed."""

    dataset: Dataset
    choices: ChoiceTrie | None
    execution: Execution


class PrivateBench:
    """Satisfies `client.work.PrivateWork`; all that it draws follows from a round's secret."""

    def __init__(self, plan: Plan, adapted: Callable[[PrivateRound], DeepseekV3], given: Given) -> None:
        self._plan, self._adapted = plan, adapted
        self._given = replace(given, execution=replace(given.execution, micro_batch=given.execution.micro_batch or MOST_ROWS))

    @property
    def units(self) -> int:
        return len(self._units)

    def label_counts(self) -> NDArray[np.float64]:
        if self._given.choices is None:
            raise PrivacyError("training.label_prior needs closed choices; set evaluation.metric to accuracy, or label_prior to none")
        weights = label_weights(self._units, len(self._given.dataset.examples))
        return choice_counts(self._given.choices, self._targets, weights)

    def train(self, asked: PrivateRound, checkpoint: CheckpointOf | None = None) -> Tensors:
        """Steps that `checkpoint` has kept are not taken again; those after them draw units and noise of this call's secret."""
        net, training = self._net(asked), self._plan.training
        identity = self._identity(asked, net)
        keeper = checkpoint(lambda: identity) if checkpoint else None
        done = steps_done(keeper)
        context = (identity, done.to_bytes(8, "little"))
        before = {name: values.copy() for name, values in adapter_state(net).items() if name in asked.trained}
        noise = CryptographicStream(asked.secret, Purpose.NOISE, *context)
        train_privately(
            net,
            self._steps(net, asked, training.local_steps - done, context),
            learning_rate=learning_rate(self._plan, asked.round),
            private=PrivateTerms(self._privacy.clip, asked.noise_multiplier, training.batch_size, lambda size: gaussian(size, noise)),
            terms=self._loss,
            weight_decay=training.weight_decay,
            proximal=training.proximal,
            execution=self._given.execution,
            keeper=keeper,
        )
        after = adapter_state(net)
        return {name: after[name] - values for name, values in before.items()}

    def clipped_gradients(self, asked: PrivateRound) -> Iterator[NDArray[np.float64]]:
        net = self._net(asked)
        (step,) = self._steps(net, asked, 1, ())
        return clipped_gradients(net, step, self._privacy.clip, self._loss, self._given.execution)

    @property
    def _privacy(self) -> Privacy:
        if self._plan.privacy is None:
            raise PrivacyError(f"plan {self._plan.name} has no [privacy] table")
        return self._plan.privacy

    @property
    def _loss(self) -> LossTerms:
        return LossTerms() if self._plan.trainable.mtp is not False else LossTerms(mtp_weight=0.0)

    @cached_property
    def _units(self) -> tuple[Rows, ...]:
        return units_of(self._given.dataset, self._privacy.unit)

    @cached_property
    def _targets(self) -> list[list[int]]:
        return [example.tokens[example.prompt_length :].tolist() for example in self._given.dataset.examples]

    def _net(self, asked: PrivateRound) -> DeepseekV3:
        net = self._adapted(asked)
        set_trainable(net, asked.trained)
        return net

    def _identity(self, asked: PrivateRound, net: DeepseekV3) -> bytes:
        """Of all that the round's training depends on but its secret. It takes part in every draw, and so do the steps done before: even
        randomness that came again would not give another batch, or other records, the noise of an earlier one.
        """
        facts = {"round": asked.round, "trained": sorted(asked.trained), "experts": sorted(asked.experts.items())}
        facts |= {"rate": asked.sampling_rate, "noise": asked.noise_multiplier, "plan": self._plan.sha256}
        facts |= {"records": records_fingerprint(self._given.dataset).hex()}
        counts = {} if asked.label_counts is None else {"labels": asked.label_counts}
        how = computing(self._given.execution, net.model.embed_tokens.weight.device)
        return fingerprint({**facts, **how}, asked.tensors, counts)

    def _steps(self, net: DeepseekV3, asked: PrivateRound, count: int, context: Sequence[bytes]) -> Iterator[list[UnitBatch]]:
        """Every step's own Poisson sample, all from one stream."""
        stream, device = CryptographicStream(asked.secret, Purpose.SAMPLING, *context), net.model.embed_tokens.weight.device
        prior = self._prior(asked)
        for _ in range(count):
            drawn = draw(len(self._units), asked.sampling_rate, stream)
            parts = parts_of(self._units, drawn, self._given.execution.micro_batch or MOST_ROWS)
            yield [self._batch(part, device, prior) for part in parts]

    def _batch(self, part: list[Rows], device: torch.device, prior: LabelPrior | None) -> UnitBatch:
        examples = [self._given.dataset.examples[row] for rows in part for row in rows]
        owners = np.repeat(np.arange(len(part)), [len(rows) for rows in part])
        correct = None if prior is None else partial(_correction, prior)
        return UnitBatch(collate(examples, device, correct), torch.from_numpy(owners).to(device), len(part))

    def _prior(self, asked: PrivateRound) -> LabelPrior | None:
        if asked.label_counts is None or self._given.choices is None:
            return None
        return LabelPrior(self._given.choices, self._targets, asked.label_counts)


def _correction(prior: LabelPrior, example: Example) -> PriorCorrection:
    return prior.correction(example.tokens[example.prompt_length :].tolist())
