"""A further set for what was signed before: refused, or allowed by the policy where it is a smaller one inside each earlier one."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from client.node import Request
from client.promises import promise_set
from coordinator.errors import JobError
from coordinator.events import SetAbandoned, StageFinished, SumFinished
from coordinator.verify import verify_registry
from protocols.errors import Contradiction
from protocols.policy import Policy
from protocols.secagg import SumManifest, SurvivorProposal, propose_survivors
from protocols.state import PreRound
from tests.federation.federation import Federation, make_plan
from tests.federation.scripted import Answer, Epoch, Script

SEVEN = ("ada", "bea", "cyd", "dov", "eve", "flo", "gus")  # with one colluding, a further set leaves three out
DENSE = {"lora_rank": 2, "targets": ["lm_head"], "experts": "none"}
FIRST, NEAR, INSIDE = SEVEN[:6], SEVEN[:4], SEVEN[:3]
FAR = ("ada", "bea", "gus")  # smaller and very different, but not inside


@pytest.fixture
def script(tmp_path: Path) -> Iterator[Script]:
    federation = Federation(tmp_path, make_plan(trainable=DENSE), SEVEN)
    yield Script(federation)
    federation.close()


def permit(script: Script) -> None:
    """From now on ada's policy allows differencing."""
    node = script.federation.nodes["ada"]
    script.federation.nodes["ada"] = replace(node, policy=node.policy.model_copy(update={"allow_differencing": True}))


def attempt(script: Script, names: Sequence[str]) -> tuple[Epoch, SumManifest, SurvivorProposal]:
    """A new attempt at the first sum, in a new epoch."""
    epoch = script.set_up(names)
    manifest = script.manifest(epoch, 0, "evaluate", 0)
    return epoch, manifest, propose_survivors(manifest, script.collect(epoch, manifest, names).roots)


def sign(script: Script, names: Sequence[str]) -> Answer:
    return script.sign("ada", *attempt(script, names))


def test_second_set_is_refused_wherever_it_lies(script: Script) -> None:
    assert sign(script, FIRST).refusal == ""
    assert sign(script, INSIDE).refusal == "ada has already signed another set for this sum"


def test_policy_allows_a_set_inside_every_earlier_one_that_leaves_enough_out(script: Script) -> None:
    permit(script)
    assert sign(script, FIRST).refusal == ""
    for names in (NEAR, FAR, SEVEN):
        assert "a further one lies inside it and has at least 3 members fewer" in sign(script, names).refusal
    assert sign(script, INSIDE).refusal == ""
    assert "lies inside it" in sign(script, FAR).refusal
    assert sign(script, FIRST).refusal == "", "the first set again adds no difference"


def test_slot_has_one_set_whatever_the_policy_says(script: Script) -> None:
    permit(script)
    epoch, manifest, first = attempt(script, SEVEN)
    second = replace(first, roots={name: first.roots[name] for name in SEVEN[:5]})
    assert script.sign("ada", epoch, manifest, first).refusal == ""
    assert script.sign("ada", epoch, manifest, second).refusal != ""
    assert "for this slot" in script.open("ada", epoch, manifest, script.forge_certificate(manifest, second, SEVEN[:5])).refusal


def test_transcript_of_any_signed_set_is_followed_and_of_no_other(script: Script) -> None:
    permit(script)
    other = script.forge_outcome(script.forge_epoch(SEVEN[1:6]), 0, "evaluate", 0)
    assert sign(script, FIRST).refusal == ""
    outcome = script.sum(script.set_up(INSIDE), 0, "evaluate", 0)
    assert "another set than ada signed" in script.publish("ada", other).refusal
    assert script.publish("ada", outcome).refusal == ""


def abandoning(tmp_path: Path, allow: bool) -> Federation:
    """One is missing at first; when the set of the others is proposed, three of these leave for ever and the first is back."""
    terms = {"retries": 1, "quorum": 3, "deadline": "5s"}
    federation = Federation(tmp_path, make_plan(rounds=1, trainable=DENSE, participation=terms), SEVEN)
    policy = Policy(allow_differencing=allow)
    federation.nodes = {name: replace(node, policy=policy) for name, node in federation.nodes.items()}

    def fails(name: str, kind: str) -> bool:
        begun = any(event.stage == "evaluate.sum" for event in federation.of(StageFinished))
        return name in ("dov", "eve", "flo") if begun else name == "gus" and kind == "evaluate.sum"

    federation.fails = fails
    return federation


def test_set_that_cannot_be_opened_is_given_up_where_institutions_allow_it(tmp_path: Path) -> None:
    federation = abandoning(tmp_path, allow=True)
    result = federation.run()
    (given_up,) = [event for event in federation.registry.events(result.run) if event.kind == "set-abandoned"]
    assert json.loads(given_up.body) == {"round": 0, "sum": "evaluate", "set": list(FIRST)}
    assert federation.of(SumFinished)[0].institutions == INSIDE and federation.of(SetAbandoned)[0].institutions == FIRST
    assert verify_registry(federation.registry, tmp_path, result.run).ok
    federation.close()


def test_run_ends_where_institutions_do_not_allow_another_set(tmp_path: Path) -> None:
    federation = abandoning(tmp_path, allow=False)
    with pytest.raises(JobError, match="already signed another set for this sum"):
        federation.run()
    assert not federation.of(SumFinished)
    federation.close()


def test_update_with_a_pre_round_has_one_set_whatever_the_policy_says(script: Script) -> None:
    """In the difference of two sets one institution may be the only one that trained an expert."""
    permit(script)
    node = script.federation.nodes["ada"]
    epoch = script.set_up(SEVEN)
    state = replace(script.state, pre_round=PreRound({}, SEVEN, 3))
    first, second = (script.manifest(epoch, 1, "update", slot) for slot in range(2))
    roots, request = dict.fromkeys(FIRST, b"\1" * 32), Request("r1", 1, "update", 1, b"", "query.survivors", {}, {})
    promise_set(node, request, first, SurvivorProposal(first.hash, roots), state, epoch.manifest)
    with pytest.raises(Contradiction, match="already signed another set for this sum"):
        promise_set(node, request, second, SurvivorProposal(second.hash, dict.fromkeys(INSIDE, b"\1" * 32)), state, epoch.manifest)
