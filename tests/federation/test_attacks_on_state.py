"""A coordinator that publishes what no sum brought: every lie about transcript, total or state leaves the node where it was."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from coordinator.publishing import subject_of
from protocols.identity import Identity
from protocols.pack import pack, unpack
from protocols.policy import Policy
from protocols.roster import FormerKey, Roster
from protocols.secagg import SurvivorCertificate, propose_survivors
from protocols.state import state_hash
from protocols.transcript import Transcript, confirmation
from tests.federation.attacks.weakened import weakened
from tests.federation.federation import NAMES
from tests.federation.scripted import Epoch, Outcome, Script

OTHERS = ("bea", "cyd", "dov")


def strict(script: Script, **terms: Any) -> None:
    """From now on ada's policy has other terms."""
    script.federation.nodes["ada"] = replace(script.federation.nodes["ada"], policy=Policy(**terms))


def evaluated(script: Script) -> Script:
    """After the sum of round 0, which colluding others invented: the next one is an update."""
    script.follow(script.forge_outcome(script.forge_epoch(OTHERS), 0, "evaluate", 0), ["ada"])
    return script


def altered(outcome: Outcome, **changes: Any) -> Outcome:
    return replace(outcome, transcript=replace(outcome.transcript, **changes))


# Three colluding institutions can sign anything, so that what a fourth refuses is refused by its own checks alone.

MANIFEST = [
    ({"state_hash": b"\1" * 32}, "computes another state hash"),
    ({"previous_transcript": b"\1" * 32}, "does not follow the last transcript"),
    ({"plan_hash": b"\1" * 32}, "another plan"),
    ({"layout_hash": b"\1" * 32}, "lanes are not those"),
    ({"epoch_hash": b"\1" * 32}, "another epoch or run"),
]


@pytest.mark.parametrize(("changes", "sentence"), MANIFEST, ids=lambda value: next(iter(value)) if isinstance(value, dict) else "")
def test_transcript_of_another_manifest_is_refused(script: Script, changes: dict[str, Any], sentence: str) -> None:
    outcome = script.forge_outcome(script.forge_epoch(OTHERS), 0, "evaluate", 0, **changes)
    assert sentence in script.publish("ada", outcome).refusal
    assert script.place("ada") == (b"", 0)


EPOCHS = [
    ({"threshold": 2}, "unsafe"),
    ({"colluding": 0, "threshold": 3}, "colluding members"),
    ({"roster_hash": b"\1" * 32}, "another roster"),
]


@pytest.mark.parametrize(("changes", "sentence"), EPOCHS, ids=lambda value: next(iter(value)) if isinstance(value, dict) else "")
def test_transcript_of_an_epoch_below_the_terms_is_refused(script: Script, changes: dict[str, Any], sentence: str) -> None:
    outcome = script.forge_outcome(script.forge_epoch(OTHERS, **changes), 0, "evaluate", 0)
    assert sentence in script.publish("ada", outcome).refusal
    assert script.place("ada") == (b"", 0)


def test_transcript_of_a_cohort_below_the_policy_is_refused(script: Script) -> None:
    strict(script, min_institutions=4)
    outcome = script.forge_outcome(script.forge_epoch(OTHERS), 0, "evaluate", 0)
    assert "ask for 4" in script.publish("ada", outcome).refusal


def _unsigned_setup(outcome: Outcome) -> Outcome:
    setup = outcome.transcript.setup
    return altered(outcome, setup=replace(setup, signatures={**setup.signatures, "bea": bytes(64)}))


def _two_signatures(outcome: Outcome) -> Outcome:
    certificate = outcome.transcript.certificate
    signatures = {name: certificate.signatures[name] for name in ("bea", "cyd")}
    return altered(outcome, certificate=SurvivorCertificate(certificate.proposal, signatures))


def _foreign_signature(outcome: Outcome) -> Outcome:
    certificate = outcome.transcript.certificate
    signatures = {**certificate.signatures, "dov": certificate.signatures["bea"]}
    return altered(outcome, certificate=SurvivorCertificate(certificate.proposal, signatures))


@pytest.mark.parametrize(
    ("alter", "sentence"),
    [(_unsigned_setup, "not that of bea"), (_two_signatures, "3 are needed"), (_foreign_signature, "not of a member")],
    ids=["setup", "too few", "foreign"],
)
def test_transcript_without_its_certificates_is_refused(script: Script, alter: Callable[[Outcome], Outcome], sentence: str) -> None:
    outcome = script.forge_outcome(script.forge_epoch(OTHERS), 0, "evaluate", 0)
    assert sentence in script.publish("ada", alter(outcome)).refusal
    assert script.place("ada") == (b"", 0)


def test_transcript_under_another_envelope_is_refused(script: Script) -> None:
    outcome = script.forge_outcome(script.forge_epoch(OTHERS), 0, "evaluate", 0)
    assert "another sum than its envelope" in script.publish("ada", outcome, round=1).refusal
    assert "not the one that its envelope names" in script.publish("ada", outcome, manifest_hash=bytes(32)).refusal


def test_total_is_the_one_of_the_transcript_and_leads_to_the_announced_state(script: Script) -> None:
    evaluated(script)
    outcome, place = script.forge_outcome(script.forge_epoch(OTHERS), 1, "update", 0), script.place("ada")
    other = bytes([outcome.total[0] ^ 1]) + outcome.total[1:]
    challenge = script.commit("ada", outcome).parts["challenge"]
    assert "what was shown as chunk 0 of the total" in script.reveal("ada", replace(outcome, total=other), challenge).refusal
    arrays = {"total": np.frombuffer(other, np.uint8)}
    assert "the total is not the one that" in script.reveal("ada", outcome, challenge, arrays=arrays).refusal
    assert script.place("ada") == place
    assert script.publish("ada", outcome).refusal == ""
    assert script.place("ada") == (outcome.transcript.after, 2)


def test_part_of_a_total_is_taken_only_from_who_is_bound_to_it(script: Script) -> None:
    outcome = script.forge_outcome(script.forge_epoch(OTHERS), 0, "evaluate", 0)
    parts = {"transcript": outcome.transcript.to_bytes(), "part": bytes(4)}
    arrays = {"total": np.frombuffer(outcome.total, np.uint8)}

    def send() -> str:
        return script.ask("ada", subject_of(outcome.transcript), "query.total_part", parts, arrays).refusal

    assert "comes after its transcript" in send()
    assert not list(script.federation.nodes["ada"].ledger.home.glob("totals/*"))
    script.commit("ada", outcome)
    assert not send()


def test_total_that_does_not_lead_to_the_announced_state_is_refused(script: Script) -> None:
    evaluated(script)
    outcome, place = script.forge_outcome(script.forge_epoch(OTHERS), 1, "update", 0), script.place("ada")
    elsewhere = altered(outcome, after=b"\1" * 32)
    assert "does not lead to the announced state" in script.publish("ada", elsewhere).refusal
    assert script.place("ada") == place


def test_coordinator_is_bound_to_the_first_transcript_that_it_announces(script: Script) -> None:
    """Else it would announce one after the other, until what is drawn of one shows nothing wrong."""
    first = script.forge_outcome(script.forge_epoch(OTHERS), 0, "evaluate", 0)
    second = script.forge_outcome(script.forge_epoch(OTHERS), 0, "evaluate", 1)
    assert script.commit("ada", first).refusal == ""
    assert "another transcript of this sum was announced before" in script.publish("ada", second).refusal
    assert len(script.federation.nodes["ada"].ledger.evidence()) == 1
    assert script.publish("ada", first).refusal == ""


def signed_by_ada(script: Script) -> tuple[Epoch, Outcome]:
    """Ada signed the set of all four; the transcript that is published names three."""
    epoch = script.set_up(NAMES)
    manifest = script.manifest(epoch, 0, "evaluate", 0)
    proposal = propose_survivors(manifest, script.collect(epoch, manifest, NAMES).roots)
    assert script.sign("ada", epoch, manifest, proposal).refusal == ""
    fewer = replace(proposal, roots={name: proposal.roots[name] for name in OTHERS})
    certificate = script.forge_certificate(manifest, fewer, OTHERS)
    return epoch, script.outcome(epoch, manifest, certificate, np.zeros(manifest.lanes.size, np.uint32))


def test_transcript_of_another_set_than_was_signed_is_refused(script: Script) -> None:
    _, outcome = signed_by_ada(script)
    assert "another set than ada signed" in script.publish("ada", outcome).refusal


def test_transcript_with_an_input_that_was_never_sent_is_refused(script: Script) -> None:
    outcome = script.forge_outcome(script.forge_epoch(NAMES), 0, "evaluate", 0)
    assert "that it did not send" in script.publish("ada", outcome).refusal


def test_transcript_of_another_setup_of_ones_own_epoch_is_refused(script: Script) -> None:
    epoch = script.set_up(NAMES)
    script.epochs -= 1
    forged = script.forge_epoch(NAMES)  # a clone of ada signs the same terms with another setup
    assert forged.manifest == epoch.manifest
    manifest = script.manifest(epoch, 0, "evaluate", 0)
    proposal = propose_survivors(manifest, script.collect(epoch, manifest, NAMES).roots)
    certificate = script.forge_certificate(manifest, proposal, OTHERS)
    outcome = script.outcome(forged, manifest, certificate, np.zeros(manifest.lanes.size, np.uint32))
    assert "another setup of epoch" in script.publish("ada", outcome).refusal


# States that were not followed.


def absent(script: Script) -> tuple[Outcome, dict[str, bytes]]:
    """Two sums without ada; the second one's transcript and what the others signed after it."""
    script.follow(script.forge_outcome(script.forge_epoch(OTHERS), 0, "evaluate", 0), ())
    outcome = script.forge_outcome(script.forge_epoch(OTHERS), 1, "update", 0)
    return outcome, confirmed(script, outcome.transcript)


def confirmed(script: Script, transcript: Transcript) -> dict[str, bytes]:
    return {name: script.confirm(name, transcript, confirmation(transcript)) for name in OTHERS}


def test_state_that_enough_institutions_confirm_is_adopted(script: Script) -> None:
    outcome, confirmations = absent(script)
    answer = script.hand_over("ada", outcome.transcript, outcome.after, confirmations)
    assert dict(answer.parts) == confirmation(outcome.transcript)
    assert script.place("ada") == (state_hash(outcome.after), 2)


def _other(script: Script, transcript: Transcript) -> dict[str, Any]:
    said = confirmation(transcript)
    return {
        "too few": ({"dov": None}, "2 institutions confirm the state and 3 are needed"),
        "another state": ({"dov": script.confirm("dov", transcript, said | {"state": b"\1" * 32})}, "does not confirm"),
        "another transcript": ({"dov": script.confirm("dov", transcript, said | {"transcript": b"\1" * 32})}, "does not confirm"),
        "another round": ({"dov": script.confirm("dov", transcript, said, round=2)}, "does not confirm"),
        "another run": ({"dov": script.confirm("dov", transcript, said, run="r0")}, "does not confirm"),
        "another stage": ({"dov": script.confirm("dov", transcript, said, stage="evaluate/query.total")}, "does not confirm"),
        "twice the same": ({"dov": script.confirm("bea", transcript, said)}, "does not confirm"),
        "no member": ({"dov": None, "ada": script.confirm("ada", transcript, said)}, "does not confirm"),
        "no signature of its own": ({"dov": script.confirm("bea", transcript, said, sender="dov")}, "not that of dov"),
    }


KINDS = (
    "too few", "another state", "another transcript", "another round", "another run", "another stage", "twice the same", "no member",
    "no signature of its own",
)  # fmt: skip


@pytest.mark.parametrize("kind", KINDS)
def test_state_without_enough_confirmations_is_refused(script: Script, kind: str) -> None:
    outcome, confirmations = absent(script)
    changes, sentence = _other(script, outcome.transcript)[kind]
    shown = {name: signed for name, signed in (confirmations | changes).items() if signed is not None}
    assert sentence in script.hand_over("ada", outcome.transcript, outcome.after, shown).refusal
    assert script.place("ada") == (b"", 0)


@pytest.mark.parametrize("gone", [("dov",), OTHERS])
def test_institutions_that_were_sent_away_make_up_no_epoch(script: Script, gone: tuple[str, ...]) -> None:
    """To have a state followed that no sum led to: three institutions were taken off the roster, and sign an epoch of their own today."""
    ada = script.federation.nodes["ada"]
    left = Roster(tuple(one for one in ada.roster.entries if one.name not in gone))
    former = tuple(FormerKey(one.name, one.public_key) for one in ada.roster.entries if one.name in gone)
    script.federation.nodes["ada"] = replace(ada, roster=left, former=former)
    outcome = script.forge_outcome(script.forge_epoch(OTHERS), 0, "evaluate", 0)
    if gone == OTHERS:
        assert "bea, cyd, dov are on the roster of ada no more" in script.publish("ada", outcome).refusal
        assert script.place("ada") == (b"", 0)
        with weakened("client.transcripts.check_departed"):
            script.publish("ada", outcome)
    else:
        script.publish("ada", outcome)
    assert script.place("ada") == (state_hash(outcome.after), 1)


@pytest.mark.parametrize("signed", ["before the epoch", "in the epoch", "since the epoch"])
def test_key_that_was_given_up_before_an_epoch_confirms_nothing_in_it(script: Script, signed: str) -> None:
    """To make up a state with stolen keys that were replaced: they confirm it, though the epoch is of the new ones."""
    outcome, confirmations = absent(script)
    nodes, other = script.federation.nodes, Identity("bea", b"o" * 32)
    ada, epoch_key = nodes["ada"], nodes["bea"].identity
    if signed == "before the epoch":
        script.federation.nodes["ada"] = replace(ada, former=(FormerKey("bea", other.public_key),))
    else:
        entries = tuple(replace(one, public_key=other.public_key) if one.name == "bea" else one for one in ada.roster.entries)
        script.federation.nodes["ada"] = replace(ada, roster=Roster(entries), former=(FormerKey("bea", epoch_key.public_key),))
    if signed != "in the epoch":
        nodes["bea"] = replace(nodes["bea"], identity=other)
        confirmations["bea"] = script.confirm("bea", outcome.transcript, confirmation(outcome.transcript))
    if signed == "before the epoch":
        assert "not that of bea" in script.hand_over("ada", outcome.transcript, outcome.after, confirmations).refusal
        assert script.place("ada") == (b"", 0)
        with weakened("protocols.transcript.open_envelope", by=lambda data, _: script.federation.nodes["ada"].parties.open_envelope(data)):
            script.hand_over("ada", outcome.transcript, outcome.after, confirmations)
            assert script.place("ada") == (state_hash(outcome.after), 2)
    else:
        assert dict(script.hand_over("ada", outcome.transcript, outcome.after, confirmations).parts) == confirmation(outcome.transcript)


def test_state_of_another_plan_is_refused(script: Script) -> None:
    outcome = script.forge_outcome(script.forge_epoch(OTHERS), 1, "update", 0, plan_hash=b"\1" * 32)
    assert "another plan" in script.hand_over("ada", outcome.transcript, outcome.after, confirmed(script, outcome.transcript)).refusal


def test_state_other_than_the_confirmed_one_is_refused(script: Script) -> None:
    outcome, confirmations = absent(script)
    name, values = next(iter(outcome.after.tensors.items()))
    other = replace(outcome.after, tensors={**outcome.after.tensors, name: values + 1})
    assert "not the one that was confirmed" in script.hand_over("ada", outcome.transcript, other, confirmations).refusal


@pytest.mark.parametrize(
    "changes",
    [
        {"momentum": {"model.norm": np.ones(3, np.float32)}},
        {"second_moments": {"model.norm": np.ones(3, np.float32)}},
        {"controls": {"model.norm": np.ones(3, np.float32)}},
        {"basis": {"range/lm_head": np.ones((32, 10), np.float32)}},
        {"base_sha256": "cd" * 32},
        {"tensors": {}},
    ],
    ids=str,
)
def test_confirmed_state_of_other_tensors_is_refused(script: Script, changes: dict[str, Any]) -> None:
    outcome, _ = absent(script)
    _refuses_shape(script, outcome, **changes)


@pytest.mark.parametrize("group", ["momentum", "second_moments", "controls"])
def test_moments_of_another_shape_are_refused(script: Script, group: str) -> None:
    outcome, _ = absent(script)
    changes: dict[str, Any] = {group: {next(iter(outcome.after.tensors)): np.ones(1, np.float32)}}
    _refuses_shape(script, outcome, **changes)


def test_confirmed_state_of_experts_that_are_not_there_is_refused(script: Script) -> None:
    outcome, _ = absent(script)
    _refuses_shape(script, outcome, "adapts experts that the base does not have", experts={99: (0,)})


@pytest.mark.parametrize("group", ["tensors", "momentum"])
def test_confirmed_state_that_is_not_finite_is_refused(script: Script, group: str) -> None:
    outcome, _ = absent(script)
    name, values = next(iter(outcome.after.tensors.items()))
    changes: dict[str, Any] = {group: {**outcome.after.group(group), name: np.full_like(values, np.nan)}}
    _refuses_shape(script, outcome, "not finite", **changes)


def _refuses_shape(script: Script, outcome: Outcome, sentence: str = "does not have the tensors of plan and base", **changes: Any) -> None:
    odd = replace(outcome.after, **changes)
    transcript = replace(outcome.transcript, after=state_hash(odd))
    refusal = script.hand_over("ada", transcript, odd, confirmed(script, transcript)).refusal
    assert sentence in refusal
    assert script.place("ada") == (b"", 0)


def test_state_of_the_same_progress_is_never_exchanged(script: Script) -> None:
    evaluated(script)
    epoch = script.set_up(NAMES)
    script.collect(epoch, script.manifest(epoch, 1, "update", 1), ["ada"])
    place, vectors = script.place("ada"), _vectors(script)
    assert vectors
    # The same tensors with another momentum: another hash, so that the next sum would look like one that was never asked.
    odd = replace(script.state, momentum=dict(script.state.tensors))
    transcript = replace(script.forge_outcome(script.forge_epoch(OTHERS), 0, "evaluate", 0).transcript, after=state_hash(odd))
    refusal = script.hand_over("ada", transcript, odd, confirmed(script, transcript)).refusal
    assert "keeps the state that it is at" in refusal
    assert script.place("ada") == place and _vectors(script) == vectors


def _vectors(script: Script) -> dict[str, bytes]:
    home = script.federation.nodes["ada"].ledger.home
    return {path.name: path.read_bytes() for path in (home / "vectors").rglob("*.u32")}


def test_state_of_an_epoch_without_its_certificate_is_refused(script: Script) -> None:
    outcome, _ = absent(script)
    forged = _unsigned_setup(outcome).transcript
    assert "not that of bea" in script.hand_over("ada", forged, outcome.after, confirmed(script, forged)).refusal


def test_confirmations_are_signed_answers_to_the_transcript(script: Script) -> None:
    epoch = script.set_up(NAMES)
    outcome = script.sum(epoch, 0, "evaluate", 0)
    answer = script.publish("ada", outcome)
    said = confirmation(outcome.transcript)
    assert answer.parts == said and unpack(pack(said)) == said
    # Asked again, also after a crash of the coordinator, the node says the same.
    assert script.publish("ada", outcome).parts == said
