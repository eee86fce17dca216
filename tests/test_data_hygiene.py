"""The bundled base has not seen the answers that it is measured on: pretraining's own words hold none of them."""

from __future__ import annotations

import ast
import json
import re
from collections.abc import Iterable
from pathlib import Path

import pytest

from consortium.demo.vocabulary import CONDITIONS, HOSPITALS

ROOT = Path(__file__).parent.parent
TASKS = (ROOT / "model" / "pretraining" / "tasks.py").read_text(encoding="utf-8")
PUBLIC = ROOT.parent / "shared" / "data"


def _fixed_strings(source: str) -> list[str]:
    """Every text of a module that is no docstring, parts of f-strings included."""
    tree = ast.parse(source)
    documented = [node for node in ast.walk(tree) if isinstance(node, (ast.Module, ast.ClassDef, ast.FunctionDef))]
    docstrings = {id(node.body[0].value) for node in documented if isinstance(node.body[0], ast.Expr)}
    constants = [node for node in ast.walk(tree) if isinstance(node, ast.Constant) and id(node) not in docstrings]
    return [node.value for node in constants if isinstance(node.value, str)]


def _found(answers: Iterable[str], source: str) -> set[str]:
    """The answers whose words stand one after the other in a text, whatever is written between words."""
    texts = [f" {_words(text)} " for text in _fixed_strings(source)]
    return {answer for answer in answers if any(f" {_words(answer)} " in text for text in texts)}


def _words(text: str) -> str:
    return " ".join(re.findall(r"[a-z0-9]+", text.lower()))


def test_pretraining_holds_no_code_wording_or_site_of_the_demonstration() -> None:
    answers = {text for condition in CONDITIONS for text in (condition.code, condition.clinical, condition.plain, condition.short)}
    assert _found(answers | {hospital.name for hospital in HOSPITALS}, TASKS) == set()


@pytest.mark.parametrize(("name", "labels"), [("banking77", 77), ("medquad", 16)])
def test_pretraining_holds_no_label_of_a_public_data_set(name: str, labels: int) -> None:
    path = PUBLIC / name / "records.jsonl"
    if not path.is_file():
        pytest.skip(f"{name} is not beside the repository")
    with path.open(encoding="utf-8") as file:
        found = {json.loads(line)["label"] for line in file}
    assert len(found) == labels
    assert _found(found, TASKS) == set()


def test_an_answer_in_a_text_would_be_found() -> None:
    assert {"keywords", "topic", "rough", "passage"} <= set(_fixed_strings(TASKS))
    planted = TASKS + '\n_MORE = ("Card arrival", f"{TASKS} heart-attack: C01")\n'
    assert _found(["card_arrival", "heart attack", "C01", "C02"], planted) == {"card_arrival", "heart attack", "C01"}
