"""Every key of the policy has its sentence."""

from __future__ import annotations

import pytest

from client.policy_text import SENTENCES, explain
from protocols.policy import Policy

LIMITED = Policy(
    min_institutions=5,
    suites=("SA-1", "SA-1-X25519"),
    plans=("triage",),
    targets=("attention", "lm_head"),
    modules=("model.layers.*.self_attn.*",),
    fields=("note", "code", "age"),
    approval="plan",
    hours="22:00-06:00",
    max_megabytes_per_round=250.0,
)


def test_every_key_has_a_sentence_and_no_other() -> None:
    assert SENTENCES.keys() == Policy.model_fields.keys()


@pytest.mark.parametrize("policy", [Policy(), LIMITED], ids=["default", "limited"])
def test_sentences_are_sentences(policy: Policy) -> None:
    assert all(line[0].isupper() and line.endswith(".") for line in explain(policy))


@pytest.mark.parametrize(
    "said",
    [
        "at least 5 institutions",
        "SA-1 or SA-1-X25519",
        "named triage alone",
        "name attention and lm_head as its targets",
        "named like model.layers.*.self_attn.* alone",
        "fields note, code and age of a record",
        "until a person approves it",
        "from 22:00 to 06:00",
        "at most 250 MB",
        "epsilon 10 ",
        "delta 1e-05",
    ],
)
def test_what_is_limited_is_said_with_its_figure(said: str) -> None:
    assert said in "\n".join(explain(LIMITED))


def test_no_sentence_of_a_limit_is_that_of_its_absence() -> None:
    changed = {name for name in Policy.model_fields if getattr(LIMITED, name) != getattr(Policy(), name)}
    assert {key for key, say in SENTENCES.items() if say(LIMITED) != say(Policy())} == changed
