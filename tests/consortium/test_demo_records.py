"""The demonstration's notes."""

from __future__ import annotations

import math
from collections import Counter, defaultdict

from consortium.demo.records import demo_records
from consortium.demo.vocabulary import CONDITIONS, HOSPITALS


def _bag_of_words_accuracy() -> float:
    """Multinomial naive Bayes on words and pairs of the pooled notes."""
    records = list(demo_records(0))
    words: dict[str, Counter[str]] = defaultdict(Counter)
    codes: Counter[str] = Counter()
    vocabulary: set[str] = set()
    for record in records:
        if record["split"] == "train":
            codes[record["code"]] += 1
            words[record["code"]].update(record["note"].lower().split())
            vocabulary.update(record["note"].lower().split())

    def score(code: str, note: str) -> float:
        total = sum(words[code].values()) + 0.1 * len(vocabulary)
        known = [word for word in note.lower().split() if word in vocabulary]
        return math.log(codes[code]) + sum(math.log((words[code][word] + 0.1) / total) for word in known)

    test = [record for record in records if record["split"] == "test"]
    right = sum(max(codes, key=lambda code: score(code, record["note"])) == record["code"] for record in test)
    return right / len(test)


def test_counting_words_of_the_pooled_notes_is_better_than_chance_and_not_enough() -> None:
    assert 3 / len(CONDITIONS) < _bag_of_words_accuracy() < 0.85


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
