"""What a plan's institutions reach with single words and logistic regression: alone, by federated averaging, and pooled.

The classifier that somebody would try first, on the records, division and test records of `consortium simulate PLAN.toml`:
`python benchmarks/bag_of_words.py PLAN.toml`.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from rich.console import Console
from rich.table import Table
from torch import Tensor, nn

from client.order import generator
from client.records import plan_fields
from client.template import parse_template
from consortium.preparation import Preparation, prepare
from protocols.plan import Plan, load_plan

LEARNING_RATE = 20.0  # of SGD on vectors of unit length; the best of 5 and 20 for the federated figure, and far better than Adam there
_WORD = re.compile(r"[a-z0-9']+")


@dataclass(frozen=True, slots=True)
class Part:
    """One institution's word vectors [n, words], of unit length, and the numbers of their targets [n] (-1: not in the list)."""

    train: tuple[Tensor, Tensor]
    test: tuple[Tensor, Tensor]


def read_parts(prepared: Preparation) -> tuple[list[Part], int]:
    """Every institution's part over the words of the union's training records, and how many targets there are."""
    rows = {name: [json.loads(line) for line in copy.decode().splitlines()] for name, copy in prepared.copies.items()}
    every = [row for part in rows.values() for row in part]
    plan = prepared.plan
    index: dict[str, int] = {}
    for row in every:
        if row["split"] == "train":
            for word in _words(plan, row):
                index.setdefault(word, len(index))
    number = {target: place for place, target in enumerate(plan.evaluation.choices)}
    return [_part(plan, part, index, number) for part in rows.values()], len(number)


def _part(plan: Plan, rows: Sequence[dict[str, object]], index: dict[str, int], number: dict[str, int]) -> Part:
    train = [row for row in rows if row["split"] == "train"]
    test = [row for row in rows if row["split"] == "test"]
    # The test records that the plan's own evaluation draws.
    order = sorted(generator(plan.seed, "order of test records").permutation(len(test))[: plan.evaluation.max_records])
    return Part(_vectors(plan, train, index, number), _vectors(plan, [test[place] for place in order], index, number))


def _vectors(plan: Plan, rows: Sequence[dict[str, object]], index: dict[str, int], number: dict[str, int]) -> tuple[Tensor, Tensor]:
    vectors = torch.zeros(len(rows), len(index))
    for place, row in enumerate(rows):
        known = [index[word] for word in _words(plan, row) if word in index]
        vectors[place, known] = 1.0
    target = parse_template(plan.records.target, "records.target")
    numbers = [number.get(target.render(_values(plan, row)), -1) for row in rows]
    return nn.functional.normalize(vectors), torch.tensor(numbers)


def _words(plan: Plan, row: dict[str, object]) -> set[str]:
    return set(_WORD.findall(parse_template(plan.records.prompt, "records.prompt").render(_values(plan, row)).lower()))


def _values(plan: Plan, row: dict[str, object]) -> dict[str, str]:
    return {field: str(row[field]) for field in plan_fields(plan.records)}


def trained(layer: nn.Linear, data: tuple[Tensor, Tensor], batch: int, steps: int, seed: int) -> nn.Linear:
    """A copy of `layer` after some steps of SGD, on batches drawn at random, with the correction of label skew that our plans use."""
    prior = (torch.bincount(data[1], minlength=layer.out_features) + 0.5).log()
    copy = nn.Linear(layer.in_features, layer.out_features)
    copy.load_state_dict(layer.state_dict())
    optimizer = torch.optim.SGD(copy.parameters(), lr=LEARNING_RATE)
    draw = torch.Generator().manual_seed(seed)
    for _ in range(steps):
        chosen = torch.randint(len(data[1]), (batch,), generator=draw)
        nn.functional.cross_entropy(copy(data[0][chosen]) + prior, data[1][chosen]).backward()
        optimizer.step()
        optimizer.zero_grad()
    return copy


def federated(start: nn.Linear, parts: Sequence[Part], plan: Plan) -> nn.Linear:
    """FedAvg (McMahan et al. 2017), every institution in every round with the same weight."""
    layer, terms = start, plan.training
    for number in range(plan.rounds):
        states = [trained(layer, part.train, terms.batch_size, terms.local_steps, number).state_dict() for part in parts]
        layer = nn.Linear(start.in_features, start.out_features)
        layer.load_state_dict({name: torch.stack([state[name] for state in states]).mean(0) for name in states[0]})
    return layer


def accuracy(layer: nn.Linear, parts: Sequence[Part]) -> float:
    """On the union of the parts' test records."""
    right = sum(int((layer(part.test[0]).argmax(1) == part.test[1]).sum()) for part in parts)
    return right / sum(len(part.test[1]) for part in parts)


def main(path: Path) -> None:
    """Prints the three accuracies; each trains as many steps as its counterpart in `simulate`."""
    torch.manual_seed(0)
    prepared = prepare(load_plan(path), path.resolve().parent)
    (parts, targets), plan = read_parts(prepared), prepared.plan
    steps, batch = plan.rounds * plan.training.local_steps, plan.training.batch_size
    start = nn.Linear(parts[0].train[0].shape[1], targets)
    nn.init.zeros_(start.weight)
    alone = [accuracy(trained(start, part.train, batch, steps, 0), parts) for part in parts]
    union = (torch.cat([part.train[0] for part in parts]), torch.cat([part.train[1] for part in parts]))
    table = Table("single words", "accuracy", title=f"{path.stem}: {sum(len(part.test[1]) for part in parts)} test records")
    table.add_row("mean of those alone", f"{sum(alone) / len(alone):.3f}")
    table.add_row("federated averaging", f"{accuracy(federated(start, parts, plan), parts):.3f}")
    table.add_row("pooled", f"{accuracy(trained(start, union, batch, steps * len(parts), 0), parts):.3f}")
    Console().print(table)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
