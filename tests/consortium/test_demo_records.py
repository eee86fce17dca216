"""The demonstration's notes."""

from __future__ import annotations

import json
import tomllib
from collections import Counter, defaultdict
from pathlib import Path

import torch

from consortium.demo.deployment import write_deployment
from consortium.demo.records import demo_records
from consortium.demo.vocabulary import CONDITIONS, HOSPITALS


def _single_words_accuracy() -> float:
    """Logistic regression on which single words the pooled notes hold."""
    records = list(demo_records(0))
    sides = {side: [record for record in records if record["split"] == side] for side in ("train", "test")}
    bags = {side: [set(record["note"].lower().split()) for record in part] for side, part in sides.items()}
    words = sorted(set.union(*bags["train"]))
    codes = sorted({record["code"] for record in sides["train"]})
    counts = {side: torch.tensor([[float(word in bag) for word in words] for bag in part]) for side, part in bags.items()}
    wanted = {side: torch.tensor([codes.index(record["code"]) for record in part]) for side, part in sides.items()}
    layer = torch.nn.Linear(len(words), len(codes))
    optimizer = torch.optim.Adam(layer.parameters(), lr=0.05, weight_decay=1e-4)
    for _ in range(150):
        torch.nn.functional.cross_entropy(layer(counts["train"]), wanted["train"]).backward()
        optimizer.step()
        optimizer.zero_grad()
    return float((layer(counts["test"]).argmax(1) == wanted["test"]).float().mean())


def test_counting_single_words_of_the_pooled_notes_is_better_than_chance_and_not_enough() -> None:
    assert 3 / len(CONDITIONS) < _single_words_accuracy() < 0.85


def test_notes_are_the_same_for_the_same_seed_and_others_for_another() -> None:
    assert list(demo_records(3)) == list(demo_records(3))
    assert list(demo_records(3)) != list(demo_records(4))


def test_every_hospital_has_both_splits_and_conditions_that_another_lacks() -> None:
    seen: dict[str, Counter[str]] = defaultdict(Counter)
    for record in demo_records(0):
        seen[record["site"]][record["code"]] += 1
        assert len(record["note"].split()) <= 30
    assert set(seen) == {hospital.name for hospital in HOSPITALS}
    for counts in seen.values():
        assert sum(count for _, count in counts.most_common(8)) > 0.9 * sum(counts.values())


def test_a_deployments_notes_have_the_plans_fields_and_no_side_that_nobody_follows(tmp_path: Path) -> None:
    names = write_deployment(tmp_path, seed=0)
    rows = [json.loads(line) for name in names for line in (tmp_path / f"{name}.jsonl").read_text().splitlines()]
    assert len(rows) == sum(hospital.notes for hospital in HOSPITALS) and {tuple(row) for row in rows} == {("note", "code")}
    choices = tomllib.loads((tmp_path / "plan.toml").read_text())["evaluation"]["choices"]
    assert {f" {row['code']}" for row in rows} == set(choices)
