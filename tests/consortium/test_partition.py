from collections import Counter
from pathlib import Path

import pytest

from client.errors import RecordError
from client.sources import Row
from consortium.partition import partition, read_source
from protocols.plan import Simulation


def rows_of(sizes: dict[str, int], field: str = "label") -> list[Row]:
    """Of each value so many records, every fourth one for test."""
    values = [value for value, size in sizes.items() for _ in range(size)]
    return [Row({field: value, "n": n, "split": "test" if n % 4 == 0 else "train"}, f"line {n}") for n, value in enumerate(values)]


def simulation(rule: object, institutions: int = 3, max_records: int = 0) -> Simulation:
    return Simulation.model_validate({"source": "x", "partition": rule, "institutions": institutions, "max_records": max_records})


def numbers(rows: list[Row]) -> list[int]:
    return [row.values["n"] for row in rows]


def test_field_takes_the_largest_values_and_merges_nothing() -> None:
    rows = rows_of({"a": 8, "b": 40, "c": 20, "d": 12}, "site")
    parts = partition(rows, simulation({"field": "site"}), seed=0)
    assert {name: len(part) for name, part in parts.items()} == {"b": 40, "c": 20, "d": 12}
    assert list(parts) == ["b", "c", "d"]


def test_field_with_too_few_values_says_how_many_there_are() -> None:
    with pytest.raises(RecordError, match="field site has 2 values"):
        partition(rows_of({"a": 8, "b": 8}, "site"), simulation({"field": "site"}), seed=0)


def test_names_of_institutions_are_safe_for_paths_and_differ() -> None:
    parts = partition(rows_of({"../a b": 16, "a/b": 12, "A b": 8}, "site"), simulation({"field": "site"}), seed=0)
    assert list(parts) == ["a-b", "a-b-2", "A-b-3"]


def test_dirichlet_gives_every_record_to_exactly_one_institution() -> None:
    rows = rows_of({f"label{i}": 40 for i in range(20)})
    parts = partition(rows, simulation({"dirichlet": "label", "alpha": 0.5}), seed=1)
    assert sorted(n for part in parts.values() for n in numbers(part)) == list(range(len(rows)))


def test_dirichlet_divides_training_and_test_of_a_label_alike() -> None:
    rows = rows_of({f"label{i}": 400 for i in range(6)})
    for part in partition(rows, simulation({"dirichlet": "label", "alpha": 0.5}), seed=2).values():
        sides = {side: Counter(row.values["label"] for row in part if row.values["split"] == side) for side in ("train", "test")}
        assert all(abs(sides["train"][label] / 300 - sides["test"][label] / 100) < 0.02 for label in sides["train"])


def test_small_alpha_skews_labels_more_than_a_large_one() -> None:
    def largest_share(alpha: float) -> float:
        parts = partition(rows_of({f"label{i}": 100 for i in range(30)}), simulation({"dirichlet": "label", "alpha": alpha}), seed=3)
        counts = [Counter(row.values["label"] for row in part) for part in parts.values()]
        return sum(max(count[f"label{i}"] for count in counts) for i in range(30)) / 3000

    assert largest_share(0.1) > 0.75
    assert largest_share(100.0) < 0.45


def test_uniform_deals_out_both_sides_evenly() -> None:
    parts = partition(rows_of({"a": 120}), simulation({"uniform": True}), seed=0)
    assert [Counter(row.values["split"] for row in part) for part in parts.values()] == [Counter(train=30, test=10)] * 3


def test_partition_depends_on_the_seed_alone() -> None:
    rows, rule = rows_of({"a": 60, "b": 60}), simulation({"dirichlet": "label", "alpha": 1.0})
    first, again, other = (partition(rows, rule, seed) for seed in (4, 4, 5))
    assert {name: numbers(part) for name, part in first.items()} == {name: numbers(part) for name, part in again.items()}
    assert {name: numbers(part) for name, part in first.items()} != {name: numbers(part) for name, part in other.items()}


def test_max_records_limits_training_records_alone() -> None:
    parts = partition(rows_of({"a": 120}), simulation({"uniform": True}, max_records=7), seed=0)
    assert [Counter(row.values["split"] for row in part) for part in parts.values()] == [Counter(train=7, test=10)] * 3


def test_institution_without_test_records_is_refused() -> None:
    rows = [row for row in rows_of({"a": 8, "b": 8, "c": 8}, "site") if row.values["site"] != "c" or row.values["split"] == "train"]
    with pytest.raises(RecordError, match="institution c would have no test records"):
        partition(rows, simulation({"field": "site"}), seed=0)


def test_source_without_split_is_divided_and_other_splits_are_left_out(tmp_path: Path) -> None:
    plain, split = tmp_path / "plain.csv", tmp_path / "split.csv"
    plain.write_text("text\n" + "".join(f"t{i}\n" for i in range(50)))
    split.write_text("text,split\na,train\nb,test\nc,val\n")
    assert Counter(row.values["split"] for row in read_source(str(plain), seed=0)) == Counter(train=40, test=10)
    assert [row.values["text"] for row in read_source(str(split), seed=0)] == ["a", "b"]
