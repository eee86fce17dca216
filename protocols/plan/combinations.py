"""Which values of a plan exclude each other, one sentence each."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from protocols.plan.plan import Plan


def first_contradiction(plan: Plan) -> str | None:
    """What two values of the plan contradict, and what to write instead; None if nothing does."""
    return next((sentence for holds, sentence in _rules(plan) if not holds), None)


def _rules(plan: Plan) -> Iterator[tuple[bool, str]]:
    """Whether a combination holds, and what to say if it does not."""
    yield (
        plan.training.label_prior == "none" or plan.evaluation.metric == "accuracy",
        'training.label_prior = "corrected" needs closed choices: evaluation.metric = "accuracy"',
    )
    yield from _of_rules(plan)
    yield from _of_scaffold(plan)
    if plan.privacy is not None:
        yield from _of_private_runs(plan)
        yield from _of_private_training(plan)
    if plan.privacy is not None and plan.privacy.mechanism == "distributed":
        yield from _of_distributed_noise(plan)


def _of_rules(plan: Plan) -> Iterator[tuple[bool, str]]:
    rule, experts, ranks = plan.aggregation.rule, plan.trainable.experts, plan.trainable.ranks
    yield rule != "fedsb" or experts == "none", 'aggregation.rule = "fedsb" adapts no routed experts; set trainable.experts = "none"'
    yield (
        ranks == "equal" or rule in ("alternating", "ffa", "fedsvd", "fedavg"),
        f'trainable.ranks = "nested" does not go with aggregation.rule = "{rule}"; take alternating, ffa, fedsvd or fedavg',
    )
    yield (
        ranks == "nested" or plan.simulation is None or not plan.simulation.max_ranks,
        'simulation.max_ranks needs trainable.ranks = "nested": otherwise all train the same ranks',
    )
    size, widest = plan.aggregation.sketch_size, max(plan.trainable.lora_rank, *plan.trainable.rank_pattern.values(), 0)
    yield size == 0 or rule in ("sketched", "fedsb"), 'aggregation.sketch_size needs aggregation.rule = "sketched" or "fedsb"'
    yield (
        size == 0 or size >= widest,
        f"aggregation.sketch_size = {size} cannot hold factors of rank {widest}; set it to {widest} or more, or to 0",
    )
    plain = plan.aggregation.server_optimizer == "none" and plan.aggregation.server_learning_rate == 1.0
    yield (
        rule != "sketched" or plain,
        'aggregation.rule = "sketched" takes the mean product as it is: set server_optimizer = "none" and server_learning_rate = 1.0',
    )
    yield (
        not plan.personalisation.private_experts or experts.startswith("esft"),
        'personalisation.private_experts come beside a selection: set trainable.experts to "esft-token" or "esft-gate"',
    )


def _of_scaffold(plan: Plan) -> Iterator[tuple[bool, str]]:
    """Control variates are means over institutions, in coordinates that stay."""
    if not plan.training.scaffold:
        return
    rule = plan.aggregation.rule
    yield (
        plan.aggregation.weights == "uniform",
        'training.scaffold needs aggregation.weights = "uniform": control variates are means over institutions',
    )
    yield (
        plan.trainable.ranks == "equal",
        'trainable.ranks = "nested" does not go with training.scaffold: control variates of slices that few hold would be theirs alone',
    )
    yield (
        rule not in ("sketched", "fedsa", "fedsvd"),
        f'training.scaffold does not go with aggregation.rule = "{rule}"; take alternating, fedavg, ffa or fedsb',
    )
    yield (
        not plan.aggregation.rebalance_every,
        "training.scaffold keeps the coordinates of the factors: set aggregation.rebalance_every = 0",
    )


def _of_private_runs(plan: Plan) -> Iterator[tuple[bool, str]]:
    """What would carry something about records past the noise."""
    yield (
        not plan.trainable.experts.startswith("esft"),
        'an ESFT selection counts the tokens of records without noise; with [privacy] set trainable.experts = "all" or "none"',
    )
    yield (
        plan.trainable.ranks == "equal",
        'trainable.ranks = "nested" counts who holds which slice, without noise; with [privacy] set it to "equal"',
    )
    yield (
        plan.aggregation.weights == "uniform",
        'aggregation.weights = "tokens" tells how many records there are; with [privacy] set it to "uniform"',
    )
    yield (
        plan.trainable.router_bias == "frozen",
        'trainable.router_bias = "summed-counts" counts the tokens of records; with [privacy] set it to "frozen"',
    )
    yield (
        "embeddings" not in plan.trainable.targets or plan.trainable.embedding_mode == "lora",
        'embeddings are trained by LoRA under [privacy]: set trainable.embedding_mode = "lora"',
    )


def _of_private_training(plan: Plan) -> Iterator[tuple[bool, str]]:
    """What would work on records without noise, or end where one of them shows."""
    yield (
        plan.aggregation.rule in ("alternating", "fedavg", "ffa", "fedsvd", "fedsb"),
        f'aggregation.rule = "{plan.aggregation.rule}" does not go with [privacy]; take alternating, fedavg, ffa, fedsvd or fedsb',
    )
    yield not plan.training.scaffold, "training.scaffold does not go with [privacy]; set it to false"
    yield (
        not plan.personalisation.private_experts,
        "private_experts are trained without noise and shape what is sent; with [privacy] set personalisation.private_experts = 0",
    )
    yield (
        not plan.release.require.no_institution_worse_than_alone,
        "a local-only model is trained without noise; with [privacy] leave release.require.no_institution_worse_than_alone out",
    )
    yield (
        plan.records.too_long != "error",
        'records.too_long = "error" tells of one long record by stopping the run; with [privacy] set it to "truncate" or "drop"',
    )
    yield (
        not plan.records.messages or plan.records.too_long == "drop",
        'a long chat cannot be cut, so records.too_long would stop the run at one; with [privacy] set it to "drop"',
    )
    yield (
        plan.evaluation.metric != "accuracy" or bool(plan.evaluation.choices),
        "evaluation.choices would be read off the training records; with [privacy] list them in the plan",
    )
    yield (
        plan.privacy is None or (plan.privacy.noise_multiplier is None) == (plan.privacy.mechanism == "local"),
        'privacy.noise_multiplier belongs to mechanism = "distributed", which needs it: set it there, and leave it out with "local"',
    )


def _of_distributed_noise(plan: Plan) -> Iterator[tuple[bool, str]]:
    """Noise under the sum protects sums of one clipped gradient each, and nothing that is computed further on."""
    distributed = 'privacy.mechanism = "distributed"'
    yield plan.training.local_steps == 1, f"{distributed} takes one step a round: set training.local_steps = 1, or take the local mechanism"
    yield (
        not plan.training.proximal and not plan.training.weight_decay,
        f"{distributed} sums gradients: proximal and weight_decay of [training] must be off",
    )
    yield plan.secure_aggregation.lanes == 32, f"{distributed} carries integers with their noise: set secure_aggregation.lanes = 32"
