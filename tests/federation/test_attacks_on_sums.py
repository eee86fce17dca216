"""A coordinator that asks for what would tell two sums apart: finished sums, second sets, returning members, weak epochs."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from client.epochs import announce_keys
from client.node import Request
from coordinator.link import Subject
from protocols.epoch import EpochManifest
from protocols.errors import Refusal
from protocols.proofs import ContradictionProof
from protocols.secagg import SumManifest, SurvivorProposal, UploadRoot, propose_survivors
from tests.federation.federation import NAMES, Federation, make_plan
from tests.federation.scripted import Epoch, Script

THREE = ("ada", "bea", "cyd")
OTHERS = ("bea", "cyd", "dov")


def proposed(script: Script, epoch: Epoch, manifest: SumManifest) -> SurvivorProposal:
    """The set of all members, whose inputs have come."""
    return propose_survivors(manifest, script.collect(epoch, manifest, epoch.manifest.members).roots)


def without(proposal: SurvivorProposal, manifest: SumManifest, *names: str) -> SurvivorProposal:
    return SurvivorProposal(manifest.hash, {name: root for name, root in proposal.roots.items() if name not in names})


# The plan's order.


def test_finished_sum_is_not_taken_up_again(tmp_path: Path) -> None:
    federation = Federation(tmp_path, make_plan())
    script = Script(federation)
    epoch = script.set_up(NAMES)
    script.follow(script.sum(epoch, 0, "evaluate", 0), NAMES)
    stale = script.manifest(epoch, 0, "experts", 1)
    proposal = proposed(script, epoch, stale)  # inputs came, and another attempt is finished
    script.follow(script.sum(epoch, 0, "experts", 2), NAMES)
    for kind, slot in (("evaluate", 3), ("experts", 4)):
        again = script.send("ada", epoch, script.manifest(epoch, 0, kind, slot))
        assert "the next sum of run r1 is the parts sum of round 1" in again.refusal
    fewer = without(proposal, stale, "dov")
    assert "the next sum" in script.sign("ada", epoch, stale, fewer).refusal
    assert "the next sum" in script.open("ada", epoch, stale, script.forge_certificate(stale, fewer, THREE)).refusal
    federation.close()


def test_sum_is_not_left_out(script: Script) -> None:
    epoch = script.set_up(NAMES)
    assert (
        "the next sum of run r1 is the evaluate sum of round 0" in script.send("ada", epoch, script.manifest(epoch, 1, "update", 0)).refusal
    )
    forged = script.forge_outcome(script.forge_epoch(OTHERS), 1, "update", 0)
    assert "the next sum" in script.publish("ada", forged).refusal


# One set.


def test_second_set_for_the_same_manifest_is_not_opened(script: Script) -> None:
    epoch = script.set_up(NAMES)
    manifest = script.manifest(epoch, 0, "evaluate", 0)
    proposal = proposed(script, epoch, manifest)
    assert script.sign("ada", epoch, manifest, proposal).refusal == ""
    other = replace(proposal, roots={**proposal.roots, "dov": b"\1" * 32})  # the same members, another input of one
    certificate = script.forge_certificate(manifest, other, NAMES)
    assert "already signed another set for this slot" in script.open("ada", epoch, manifest, certificate).refusal
    evidence, key = script.federation.nodes["ada"].ledger.evidence()[-1], script.federation.operator_identity.public_key
    said = ContradictionProof(evidence.earlier, evidence.request).accuse(key)
    assert said == "run r1: the coordinator asked for two sets of survivors in attempt 1 at one evaluate sum"


def test_opening_binds_as_signing_does(script: Script) -> None:
    epoch = script.set_up(NAMES)
    first, second = script.manifest(epoch, 0, "evaluate", 0), script.manifest(epoch, 0, "evaluate", 1)
    certificate = script.forge_certificate(first, proposed(script, epoch, first), OTHERS)
    assert script.open("ada", epoch, first, certificate).refusal == ""
    fewer = without(proposed(script, epoch, second), second, "dov")
    assert "already signed another set" in script.sign("ada", epoch, second, fewer).refusal


def test_inputs_are_the_same_whatever_the_round(script: Script) -> None:
    """A total of zeros moves the round and no tensor: the next measurement must be over the same set."""
    script.follow(script.sum(script.set_up(NAMES), 0, "evaluate", 0), NAMES)
    before = script.state
    script.follow(script.forge_outcome(script.forge_epoch(OTHERS), 1, "update", 0), ["ada"])
    assert all(np.array_equal(before.tensors[name], values) for name, values in script.state.tensors.items())
    epoch = script.set_up(THREE)
    manifest = script.manifest(epoch, 1, "evaluate", 0)
    given = script.send("ada", epoch, manifest)
    proposal = SurvivorProposal(
        manifest.hash, {"ada": UploadRoot.from_bytes(given.parts["root"]).root, "bea": b"\1" * 32, "cyd": b"\1" * 32}
    )
    assert "for this state and kind of sum" in script.sign("ada", epoch, manifest, proposal).refusal


def test_set_with_an_input_that_was_not_sent_is_neither_signed_nor_opened(script: Script) -> None:
    epoch = script.set_up(NAMES)
    manifest = script.manifest(epoch, 0, "evaluate", 0)
    proposal = proposed(script, epoch, manifest)
    other = replace(proposal, roots={**proposal.roots, "ada": b"\1" * 32})
    assert "with what it sent" in script.sign("ada", epoch, manifest, other).refusal
    assert "with what it sent" in script.open("ada", epoch, manifest, script.forge_certificate(manifest, other, OTHERS)).refusal


def test_opening_needs_a_certificate_and_a_place_in_its_set(script: Script) -> None:
    epoch = script.set_up(NAMES)
    manifest = script.manifest(epoch, 0, "evaluate", 0)
    proposal = without(proposed(script, epoch, manifest), manifest, "dov")
    assert "3 are needed" in script.open("ada", epoch, manifest, script.forge_certificate(manifest, proposal, THREE[:2])).refusal
    assert "not of a member" in script.open("ada", epoch, manifest, script.forge_certificate(manifest, proposal, NAMES)).refusal
    certificate = script.forge_certificate(manifest, proposal, THREE)
    assert "dov is not in the certified set" in script.open("dov", epoch, manifest, certificate).refusal
    assert script.open("ada", epoch, manifest, certificate).refusal == ""


def test_nothing_is_sent_in_an_epoch_that_not_all_members_certified(script: Script) -> None:
    epoch = script.set_up(NAMES)
    manifest, signatures = script.manifest(epoch, 0, "evaluate", 0), epoch.certificate.signatures
    fewer = {name: signatures[name] for name in THREE}
    for signed, sentence in (({**signatures, "dov": bytes(64)}, "not that of dov"), (fewer, "exactly the members")):
        altered = replace(epoch, certificate=replace(epoch.certificate, signatures=signed))
        assert sentence in script.send("ada", altered, manifest).refusal


def test_member_that_was_left_out_does_not_return_within_the_epoch(script: Script) -> None:
    epoch = script.set_up(NAMES)
    script.follow(script.sum(epoch, 0, "evaluate", 0, THREE), NAMES)
    manifest = script.manifest(epoch, 1, "update", 1)
    proposal = proposed(script, epoch, manifest)
    assert "dov was left out by an earlier set" in script.sign("ada", epoch, manifest, proposal).refusal
    assert script.sign("bea", epoch, manifest, without(proposal, manifest, "dov")).refusal == ""
    following = script.set_up(NAMES)
    manifest = script.manifest(following, 1, "update", 0)
    assert script.sign("cyd", following, manifest, proposed(script, following, manifest)).refusal == ""


# Envelopes name the manifest.


def test_envelope_that_names_another_manifest_is_refused(script: Script) -> None:
    epoch = script.set_up(NAMES)
    manifest = script.manifest(epoch, 0, "evaluate", 0)
    parts = {"manifest": manifest.to_bytes(), "epoch": epoch.certificate.to_bytes(), "chain": b""}
    subject = Subject(0, "evaluate", manifest.attempt, b"")
    assert "not the one that its envelope names" in script.ask("ada", subject, "evaluate.sum", parts).refusal
    assert "not the one that its envelope names" in script.announce("ada", script.terms_of(NAMES), manifest_hash=b"").refusal


# Epochs.


def test_epoch_of_a_run_without_a_plan_is_refused(tmp_path: Path) -> None:
    federation = Federation(tmp_path, make_plan())
    script = Script(federation, greet=False)
    assert "never announced" in script.announce("ada", script.terms_of(NAMES)).refusal
    federation.close()


@pytest.mark.parametrize(
    ("sums", "members", "sentence"),
    [({"min_institutions": 4}, THREE, "ask for 4"), ({"colluding": 2}, NAMES, "for 2")],
    ids=["cohort", "colluding"],
)
def test_epoch_below_the_plan_is_refused(tmp_path: Path, sums: dict[str, int], members: tuple[str, ...], sentence: str) -> None:
    names = (*NAMES, "eve")
    federation = Federation(tmp_path, make_plan(secure_aggregation={"min_institutions": 4, **sums}), names)
    script = Script(federation)
    assert sentence in script.announce("ada", script.terms_of(members)).refusal
    federation.close()


def test_epoch_below_the_policy_is_refused(script: Script) -> None:
    node = script.federation.nodes["ada"]
    script.federation.nodes["ada"] = replace(node, policy=node.policy.model_copy(update={"min_institutions": 4}))
    assert "ask for 4" in script.announce("ada", script.terms_of(THREE)).refusal
    assert script.announce("bea", script.terms_of(THREE)).refusal == ""


@pytest.mark.parametrize("changes", [{"round": 77}, {"about": "update"}, {"attempt": 9}], ids=str)
def test_setup_of_an_epoch_is_not_repeated_under_another_subject(script: Script, changes: dict[str, Any]) -> None:
    epoch, ledger = script.set_up(NAMES), script.federation.nodes["ada"].ledger
    before = ledger.epoch("r1", 1)
    assert "another run or epoch" in script.announce("ada", epoch.manifest, **changes).refusal
    assert ledger.epoch("r1", 1) == before


def test_stages_of_a_setup_come_under_the_epochs_own_subject(script: Script) -> None:
    manifest = script.terms_of(NAMES)
    assert script.announce("ada", manifest).refusal == ""
    for changes in ({"round": 77}, {"about": "update"}, {"manifest_hash": b""}):
        subject = replace(Subject(0, "epoch", manifest.epoch, manifest.hash), **changes)
        assert "its envelope" in script.ask("ada", subject, "query.epoch_shares", {"messages": b""}).refusal


def test_epoch_is_begun_once(script: Script) -> None:
    epoch = script.set_up(NAMES)
    number, digest = epoch.manifest.epoch, epoch.manifest.hash
    request = Request("r1", 0, "epoch", number, digest, "query.epoch_keys", {"manifest": epoch.manifest.to_bytes()}, {})
    with pytest.raises(Refusal, match="was begun before"):
        announce_keys(script.federation.nodes["ada"], request)


def test_sum_of_another_setup_of_the_same_epoch_is_refused(script: Script) -> None:
    epoch = script.set_up(NAMES)
    script.epochs -= 1
    forged = script.forge_epoch(NAMES)  # signed by all, ada's clone among them
    assert forged.manifest == epoch.manifest
    assert "another setup of epoch 1" in script.send("ada", forged, script.manifest(epoch, 0, "evaluate", 0)).refusal


@pytest.mark.parametrize("slots", [0, 257])
def test_epoch_has_a_bounded_number_of_slots(script: Script, slots: int) -> None:
    manifest: EpochManifest = script.terms_of(NAMES, slots=slots)
    assert "1 to 256" in script.announce("ada", manifest).refusal
