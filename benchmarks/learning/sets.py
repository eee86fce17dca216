"""The benchmark's data sets: a plan each in `plans/`, and the two files of records that need a column of their own."""

from __future__ import annotations

import json
import re
import textwrap
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any, TypeAlias

from client.template import parse_template
from protocols.errors import ConsortiumError
from protocols.files import write_file
from protocols.plan import Plan, load_plan

Record: TypeAlias = dict[str, Any]
FULL = ("banking77", "medquad")  # every variant, three seeds
SHORT = ("maintnorm", "gsm8k", "openstax", "scan")  # three variants, one seed
_PLANS = Path(__file__).parent / "plans"
_PASSAGE_CHARACTERS = 600
_PASSAGES = 8  # of a module
_TOPICS = (
    ("money", r"\$|\b(dollars?|cents?|costs?|prices?|pays?|paid|earn(s|ed)?|money|buys?|bought|sells?|sold|spends?|spent|profit)\b"),
    ("time", r"\b(hours?|minutes?|seconds?|days?|weeks?|months?|years?|age|old|older|younger)\b"),
)


class DataError(ConsortiumError):
    """A data set is not where it was looked for; the text says where."""


@dataclass(frozen=True, slots=True)
class DataSet:
    """A plan whose `simulation.source` is the file that lies there."""

    name: str
    plan: Plan


def open_set(name: str, data: Path, work: Path, plans: Path = _PLANS) -> DataSet:
    """The plan of a set with its records' place; a derived file is written below `work` once.

    Raises:
        DataError: `data` does not hold the set.
    """
    source = (data / name / "records.jsonl").resolve()
    if not source.is_file():
        raise DataError(f"{source} is not there: fetch the data sets as docs/results.md says, or give their folder with --data")
    if name in _DERIVED:
        source = _derived(name, source, (work / "records" / f"{name}.jsonl").resolve())
    plan = load_plan(plans / f"{name}.toml")
    if plan.simulation is None:
        raise DataError(f"{plans / name}.toml has no [simulation] table; say there how its records are divided")
    plan = plan.model_copy(update={"simulation": plan.simulation.model_copy(update={"source": str(source)})})
    return DataSet(name, plan.with_choices(_choices(plan, source)) if plan.evaluation.metric == "accuracy" else plan)


def _choices(plan: Plan, source: Path) -> tuple[str, ...]:
    """The set's labels, which are published with it: with [privacy] a plan lists them."""
    template = parse_template(plan.records.target, "records.target")
    with source.open(encoding="utf-8") as file:
        return tuple(sorted({template.render(json.loads(line)) for line in file}))


def topic(question: str) -> str:
    """Money where a question speaks of prices or pay, else time where it names a unit of time or an age, else count."""
    return next((name for name, words in _TOPICS if re.search(words, question, re.IGNORECASE)), "count")


def passages(text: str) -> list[str]:
    """The first passages of a module, cut between words."""
    return textwrap.wrap(text, _PASSAGE_CHARACTERS)[:_PASSAGES]


def _with_topic(record: Record) -> Iterator[Record]:
    yield record | {"topic": topic(record["question"])}


def _in_passages(record: Record) -> Iterator[Record]:
    for passage in passages(record["text"]):
        yield {"site": record["site"], "split": record["split"], "title": record["title"], "passage": passage}


_DERIVED: Mapping[str, Callable[[Record], Iterator[Record]]] = MappingProxyType({"gsm8k": _with_topic, "openstax": _in_passages})


def _derived(name: str, source: Path, path: Path) -> Path:
    if not path.exists():
        with source.open(encoding="utf-8") as file:
            rows = [made for line in file for made in _DERIVED[name](json.loads(line))]
        path.parent.mkdir(parents=True, exist_ok=True)
        write_file(path, "".join(f"{json.dumps(row)}\n" for row in rows).encode())
    return path
