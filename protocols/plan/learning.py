"""How it is learnt: what institutions do between two sums, and what a sum does to the state."""

from __future__ import annotations

from typing import Literal, Self

from pydantic import Field, model_validator

from protocols.plan.table import LearningRate, Momentum, NonNegativeFloat, NonNegativeInt, PositiveFloat, PositiveInt, Table


class Training(Table):
    """What an institution does between two sums."""

    local_steps: PositiveInt = Field(20, description="optimiser steps per round")
    batch_size: PositiveInt = Field(16, description="records per step")
    learning_rate: LearningRate = Field(5e-3, description="peak learning rate of AdamW")
    schedule: Literal["constant", "linear", "cosine"] = Field("cosine", description="learning rate over rounds")
    label_prior: Literal["none", "corrected"] = Field("none", description="corrected removes label skew from the loss; closed choices only")
    weight_decay: NonNegativeFloat = Field(0.0, description="decoupled weight decay")
    proximal: NonNegativeFloat = Field(0.0, description="FedProx: pull towards the round's starting point")
    scaffold: bool = Field(False, description="SCAFFOLD: control variates against the drift of institutions")
    precision: Literal["auto", "fp32", "bf16"] = Field("auto", description="auto: bf16 on a GPU, fp32 on a CPU")


class Aggregation(Table):
    """How a sum becomes the next state."""

    rule: Literal["alternating", "fedavg", "ffa", "fedsb", "fedsvd", "sketched", "fedsa"] = Field(
        "alternating", description="which rule makes a state of a sum; docs/learning.md says when to use which"
    )
    weights: Literal["uniform", "tokens"] = Field("uniform", description="each institution counts the same, or by its target tokens")
    rebalance_every: NonNegativeInt = Field(0, description="A-rounds of `alternating` between two re-balancings of the factors; 0: never")
    expert_shrinkage: NonNegativeFloat = Field(0.0, description="kappa: an expert moves by the sum of w delta over kappa plus the sum of w")
    sketch_size: NonNegativeInt = Field(
        0, description="columns of a sketch of `sketched` and `fedsb`, at least the ranks; 0: a module's rank + 8"
    )
    server_optimizer: Literal["none", "nesterov", "adam", "yogi"] = Field("none", description="optimiser on the mean update")
    server_learning_rate: PositiveFloat = Field(
        1.0, description="step on the mean update; with adam and yogi it falls as training.schedule says"
    )
    server_momentum: Momentum = Field(0.9, description="momentum of the server optimiser; beta 1 of adam and yogi")
    server_beta2: Momentum = Field(0.99, description="beta 2 of adam and yogi")
    server_epsilon: PositiveFloat = Field(1e-3, description="tau of adam and yogi, added to the root of the second moment")

    @model_validator(mode="after")
    def _rebalances_what_alternates(self) -> Self:
        if self.rebalance_every and self.rule != "alternating":
            raise ValueError('rebalance_every needs rule = "alternating"')
        return self


class Personalisation(Table):
    """What an institution keeps for itself beside the shared model."""

    private_experts: NonNegativeInt = Field(0, description="further experts a layer, chosen and trained by each institution alone")
    tune_steps: NonNegativeInt = Field(0, description="steps of a tune-up on own records after the last round; 0: none")
    tune_learning_rate: LearningRate = Field(1e-3, description="learning rate of the tune-up")
