"""Four institutions, one of which colludes with a coordinator that does what the test says, and an adversary that keeps what they see."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from client.ledger import Ledger
from protocols.epoch import EpochManifest, threshold
from protocols.parts import pre_round_of, update_threshold
from protocols.plan import Plan
from protocols.schedule import planned_sums
from protocols.secagg import (
    Accumulator,
    CheckedUpload,
    SumManifest,
    SurvivorCertificate,
    SurvivorProposal,
    UnmaskAnswer,
    open_seeds,
    remove_masks,
    unmask,
)
from tests.federation.attacks.adversary import Adversary, Lanes
from tests.federation.attacks.canaries import CanaryWork
from tests.federation.attacks.invariants import check_invariants
from tests.federation.federation import NAMES, Federation, _now, make_plan
from tests.federation.scripted import Epoch, Outcome, Refused, Script, taken

VICTIM, OTHERS, COLLUDER = "ada", ("bea", "cyd", "dov"), "dov"
NO_EXPERTS = {"lora_rank": 2, "targets": ["lm_head"], "experts": "none"}


def small_plan(**tables: Any) -> Plan:
    return make_plan(**{"rounds": 1, "trainable": NO_EXPERTS, **tables})


CLASSICAL = small_plan(secure_aggregation={"suite": "SA-1-X25519"})  # whose every key follows from what tests know


class Scene(Script):
    """A script under an adversary's eyes."""

    def __init__(
        self,
        directory: Path,
        caplog: pytest.LogCaptureFixture,
        names: Sequence[str] = NAMES,
        colluders: Sequence[str] = (COLLUDER,),
        plan: Plan | None = None,
        greet: bool = True,
        **options: Any,
    ) -> None:
        federation = Federation(directory, plan or small_plan(), names, **options)
        federation.works[VICTIM] = CanaryWork(VICTIM, federation.plan, federation.adaptation)
        self.adversary = Adversary(federation, colluders, caplog)
        super().__init__(federation, greet=greet)

    def terms_of(self, members: Sequence[str], **changes: Any) -> EpochManifest:
        """The next epoch's terms, in the plan's suite."""
        return super().terms_of(members, **{"suite": self.federation.plan.secure_aggregation.suite, **changes})

    def finish_sum(self, names: Sequence[str] = ()) -> Outcome:
        """The next sum in a new epoch, honestly, followed by everybody in it; every invariant holds afterwards."""
        position = self.federation.nodes[VICTIM].ledger.position(self.run)
        planned = planned_sums(self.federation.plan)[position.finished if position else 0]
        members = names or self.federation.names
        before = pre_round_of(planned, self.state)
        needed = max(threshold(len(members), 1), 0 if before is None else update_threshold(before, 1))
        outcome = self.sum(self.set_up(members, threshold=needed), planned.round, planned.kind, 0)
        self.follow(outcome, members)
        check_invariants(self.adversary)
        return outcome

    def restart(self, name: str) -> None:
        """The institution's process dies, and another goes on with what is on its disk."""
        node = self.federation.nodes[name]
        node.ledger.close()
        self.federation.nodes[name] = replace(node, ledger=Ledger.open(node.ledger.home, _now))

    def breaks(self, invariant: str) -> None:
        """Of a weakened twin: this invariant does not hold any more, and who checks it notices."""
        with pytest.raises(AssertionError, match=invariant):
            check_invariants(self.adversary)

    @contextmanager
    def refused(self, institution: str, sentence: str) -> Iterator[None]:
        """The attack inside ends at this institution, with this sentence; the invariants hold, and the next sum can be finished."""
        with pytest.raises(Refused) as raised:
            yield
        assert raised.value.institution == institution and sentence in raised.value.sentence, str(raised.value)
        check_invariants(self.adversary)


def proposed(script: Script, epoch: Epoch, manifest: SumManifest, names: Sequence[str] = ()) -> SurvivorProposal:
    """The set of everybody named, or all members, once their uploads have come."""
    return SurvivorProposal(manifest.hash, script.collect(epoch, manifest, names or epoch.manifest.members).roots)


def total_of(script: Script, epoch: Epoch, manifest: SumManifest, proposal: SurvivorProposal) -> Lanes:
    """The sum of a set that its members really sign and open, uint32 [size]."""
    return script.total(epoch, manifest, script.certify(epoch, manifest, proposal))[0]


def opened_by(scene: Scene, epoch: Epoch, slot: int, honest: Sequence[str], colluder: str) -> Lanes:
    """The first update over a whole epoch, signed and opened by these alone; the colluding one says whatever is wanted of it."""
    manifest = scene.manifest(epoch, 1, "update", slot)
    proposal, roster = proposed(scene, epoch, manifest), scene.federation.roster
    signed = {name: taken(name, scene.sign(name, epoch, manifest, proposal)).parts["signature"] for name in honest}
    certificate = SurvivorCertificate(proposal, signed | dict(scene.forge_certificate(manifest, proposal, [colluder]).signatures))
    opened = {name: taken(name, scene.open(name, epoch, manifest, certificate)).parts["answer"] for name in honest}
    answers = {name: UnmaskAnswer.from_bytes(data) for name, data in opened.items()}
    held = scene.adversary.held[colluder, epoch.manifest.hash]
    answers[colluder] = unmask(held, manifest, certificate, roster, scene.identity(colluder))
    accumulator = Accumulator(manifest)
    for name, root in proposal.roots.items():
        accumulator.add(CheckedUpload(name, root, scene.uploads[root]))
    return remove_masks(accumulator, open_seeds(manifest, epoch.manifest, epoch.certificate, certificate, answers))


def without(proposal: SurvivorProposal, *names: str) -> SurvivorProposal:
    return SurvivorProposal(proposal.manifest_hash, {name: root for name, root in proposal.roots.items() if name not in names})


def stolen(scene: Scene, vector: Lanes, victim: str = VICTIM) -> bool:
    """Whether the attacker has the victim's plain vector, lane by lane."""
    inputs = [plain for (name, _), plain in scene.adversary.inputs.items() if name == victim]
    assert inputs, f"{victim} masked nothing"
    return any(np.array_equal(vector, plain) for plain in inputs)
