"""A coordinator that takes single steps as a test says, honest or not; nodes, ledgers and signatures are the real ones."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from client.audits import indices
from coordinator.link import Subject
from coordinator.publishing import subject_of
from protocols.encoding import decode
from protocols.epoch import (
    SUITE,
    EpochCertificate,
    EpochManifest,
    KeysMessage,
    SharesMessage,
    ShownRow,
    certify_epoch,
    read_confirmation,
    read_keys,
    read_shares,
    setup_hash,
    threshold,
)
from protocols.epoch.checks import certified
from protocols.identity import Envelope, Identity, open_envelope, seal_envelope
from protocols.merkle import MerkleTree, leaf_hash, merkle_root
from protocols.pack import pack, unpack
from protocols.proposals import Proposal
from protocols.schedule import PlannedSum, planned_sums
from protocols.secagg import (
    Accumulator,
    CheckedUpload,
    OpenedSeeds,
    ShownChunk,
    ShownTotal,
    SumManifest,
    SurvivorCertificate,
    SurvivorProposal,
    UnmaskAnswer,
    UploadRoot,
    certify,
    check_upload,
    chunk_of_total,
    left_masks,
    open_seeds,
    propose_survivors,
    remove_masks,
    rows_of,
    total_leaves,
    total_root,
)
from protocols.secagg.survivors import signed_set
from protocols.state import State, state_arrays, state_hash, state_header
from protocols.terms import Terms
from protocols.transcript import Transcript, survivors_of
from protocols.wire import Parcel
from tests.federation.federation import Federation

Arrays = Mapping[str, NDArray[Any]]
NOTHING = OpenedSeeds({}, {})


@dataclass(frozen=True)
class Epoch:
    """A certified epoch of a script."""

    manifest: EpochManifest
    certificate: EpochCertificate


@dataclass(frozen=True)
class Outcome:
    """A finished sum, as it is published."""

    transcript: Transcript
    total: bytes  # as it is written
    after: State
    opened: OpenedSeeds
    lanes: NDArray[np.uint32]  # the total before it is written
    rows: Mapping[str, ShownRow]
    proposal: Proposal = field(default_factory=dict)


@dataclass(frozen=True)
class Answer:
    """A node's answer and its signed bytes."""

    parts: Mapping[str, bytes]
    parcel: Parcel

    @property
    def refusal(self) -> str:
        return self.parts.get("refused", b"").decode()


class Refused(AssertionError):
    """An institution that refused what a script needs."""

    def __init__(self, institution: str, sentence: str) -> None:
        super().__init__(f"{institution} refused: {sentence}")
        self.institution, self.sentence = institution, sentence


def taken(name: str, given: Answer) -> Answer:
    """The answer, unless it is a refusal."""
    if given.refusal:
        raise Refused(name, given.refusal)
    return given


class Script:
    """Keeps what an honest coordinator would send next; every step can be given something else instead."""

    def __init__(self, federation: Federation, run: str = "r1", greet: bool = True) -> None:
        self.federation = federation
        self.run = run
        self.terms = Terms(federation.plan, federation.adaptation)
        self.state = self.terms.start()
        self.last = bytes(32)  # hash of the last transcript
        self.attempt = 0
        self.chain = (0, bytes(32))  # length and head
        self.digests = b""  # of the chain's last events
        self.epochs = 0
        self.uploads: dict[bytes, list[bytes]] = {}  # root -> chunks
        for name in federation.names if greet else ():
            self.must(name, Subject(0, "run", 0), "query.hello", {"plan": federation.plan.canonical()})

    def ask(self, name: str, subject: Subject, message_type: str, parts: Mapping[str, bytes], arrays: Arrays | None = None) -> Answer:
        operator = self.federation.operator_identity
        fields = (self.run, subject.round, subject.attempt, subject.stage(message_type), subject.manifest_hash)
        sealed = seal_envelope(operator, Envelope(operator.name, name, *fields, 0, pack(parts)))
        reply = self.federation.answer(name, message_type, Parcel(sealed, arrays or {}))
        return Answer(unpack(open_envelope(reply.envelope, self.federation.roster).payload), reply)

    def must(self, name: str, subject: Subject, message_type: str, parts: Mapping[str, bytes], arrays: Arrays | None = None) -> Answer:
        given = self.ask(name, subject, message_type, parts, arrays)
        return taken(name, given)

    def identity(self, name: str) -> Identity:
        return self.federation.nodes[name].identity

    # Epochs.

    def terms_of(self, members: Sequence[str], **changes: Any) -> EpochManifest:
        """The next epoch's terms."""
        self.epochs += 1
        n, roster = len(members), self.federation.roster.hash_of(members)
        honest = EpochManifest(self.run, self.epochs, roster, tuple(sorted(members)), n, 1, threshold(n, 1), SUITE, 6, b"")
        return replace(honest, **changes).signed_by(self.federation.operator_identity.sign)

    def announce(self, name: str, manifest: EpochManifest, offered: bytes = b"", **changes: Any) -> Answer:
        """Asks for the keys of an epoch, under a subject that may be altered."""
        subject = replace(Subject(0, "epoch", manifest.epoch, manifest.hash), **changes)
        return self.ask(name, subject, "query.epoch_keys", {"manifest": manifest.to_bytes()} | ({"members": offered} if offered else {}))

    def set_up(self, members: Sequence[str], **changes: Any) -> Epoch:
        manifest = self.terms_of(members, **changes)
        subject = Subject(0, "epoch", manifest.epoch, manifest.hash)
        roster, members = self.federation.roster, manifest.members
        sent = {name: taken(name, self.announce(name, manifest)).parts["message"] for name in members}
        keys, packed = {name: read_keys(manifest, roster, name, data) for name, data in sent.items()}, {"messages": pack(sent)}
        sent = {name: self.must(name, subject, "query.epoch_shares", packed).parts["message"] for name in members}
        shares = {name: read_shares(manifest, roster, keys, name, data) for name, data in sent.items()}
        setup, confirmations = setup_hash(manifest, keys, shares), {}
        for number, name in enumerate(members, 1):
            shown = self.shown(name, keys, shares)
            relayed = pack({dealer: message.relayed(number).to_bytes() for dealer, message in shown.items()})
            data = self.must(name, subject, "query.epoch_confirm", {"messages": relayed}).parts["message"]
            confirmations[name] = read_confirmation(manifest, roster, setup, shares[name], name, data)
        return Epoch(manifest, certify_epoch(manifest, keys, shares, confirmations))

    def shown(self, name: str, keys: Mapping[str, KeysMessage], shares: Mapping[str, SharesMessage]) -> Mapping[str, SharesMessage]:
        """What an institution is shown of the shares that were dealt on these keys; an honest coordinator shows it all of them."""
        return shares

    def forge_epoch(self, members: Sequence[str], **changes: Any) -> Epoch:
        """An epoch that these members signed without any setup, as colluding ones may."""
        return self.forge_epoch_of(self.terms_of(members, **changes))

    def forge_epoch_of(self, manifest: EpochManifest) -> Epoch:
        setup = hashlib.sha256(b"no setup").digest()
        signatures = {name: self.identity(name).sign(certified(manifest, setup, bytes(32))) for name in manifest.members}
        published = dict.fromkeys(manifest.members, bytes(32))
        return Epoch(manifest, EpochCertificate(manifest.epoch, manifest.hash, setup, published, signatures))

    # Sums.

    def planned(self, round_number: int, kind: str) -> PlannedSum:
        return next(one for one in planned_sums(self.federation.plan) if (one.round, one.kind) == (round_number, kind))

    def manifest(self, epoch: Epoch, round_number: int, kind: str, slot: int, **changes: Any) -> SumManifest:
        """A new attempt at a sum."""
        self.attempt += 1
        lanes = self.terms.lanes(self.state, self.planned(round_number, kind))
        plan, state, (length, head) = bytes.fromhex(self.terms.plan.sha256), state_hash(self.state), self.chain
        subject = (self.run, round_number, kind, self.attempt, slot)
        honest = SumManifest(*subject, plan, epoch.manifest.hash, state, lanes.hash, lanes.format, self.last, head, length)
        return replace(honest, **changes).signed_by(self.federation.operator_identity.sign)

    def stage(self, name: str, epoch: Epoch, manifest: SumManifest, message_type: str, **parts: bytes) -> Answer:
        """One stage of a sum at one institution."""
        subject = Subject(manifest.round, manifest.sum, manifest.attempt, manifest.hash)
        common = {"manifest": manifest.to_bytes(), "epoch": epoch.certificate.to_bytes(), "chain": self.digests}
        return self.ask(name, subject, message_type, common | parts)

    def send(self, name: str, epoch: Epoch, manifest: SumManifest) -> Answer:
        return self.stage(name, epoch, manifest, "evaluate.sum" if manifest.sum == "evaluate" else "train.sum")

    def collect(self, epoch: Epoch, manifest: SumManifest, names: Sequence[str]) -> Accumulator:
        accumulator = Accumulator(manifest)
        for name in names:
            accumulator.add(self.upload(manifest, taken(name, self.send(name, epoch, manifest))))
        return accumulator

    def upload(self, manifest: SumManifest, given: Answer) -> CheckedUpload:
        """What an institution sent, in one part, checked and kept to show chunks of."""
        data, lanes = given.parcel.arrays["chunks"].data, manifest.lanes
        chunks = [bytes(data[lanes.offset(n) : lanes.offset(n) + lanes.chunk_bytes(n)]) for n in range(lanes.chunks)]
        root = UploadRoot.from_bytes(given.parts["root"])
        self.uploads[root.root] = chunks
        return check_upload(manifest, self.federation.roster, root, chunks, [leaf_hash(chunk) for chunk in chunks])

    def sign(self, name: str, epoch: Epoch, manifest: SumManifest, proposal: SurvivorProposal) -> Answer:
        return self.stage(name, epoch, manifest, "query.survivors", proposal=proposal.to_bytes())

    def open(self, name: str, epoch: Epoch, manifest: SumManifest, certificate: SurvivorCertificate) -> Answer:
        return self.stage(name, epoch, manifest, "query.unmask", certificate=certificate.to_bytes())

    def forge_certificate(self, manifest: SumManifest, proposal: SurvivorProposal, signers: Sequence[str]) -> SurvivorCertificate:
        """A set that these institutions sign whatever they promised before."""
        return SurvivorCertificate(proposal, {name: self.identity(name).sign(signed_set(manifest, proposal)) for name in signers})

    def sum(self, epoch: Epoch, round_number: int, kind: str, slot: int, names: Sequence[str] = ()) -> Outcome:
        """A whole sum over `names`, or all members, as the protocol wants it."""
        manifest = self.manifest(epoch, round_number, kind, slot)
        accumulator = self.collect(epoch, manifest, names or epoch.manifest.members)
        certificate = self.certify(epoch, manifest, propose_survivors(manifest, accumulator.roots))
        total, opened = self.total(epoch, manifest, certificate)
        return self.outcome(epoch, manifest, certificate, total, opened)

    def certify(self, epoch: Epoch, manifest: SumManifest, proposal: SurvivorProposal, signers: Sequence[str] = ()) -> SurvivorCertificate:
        """A set that its members, or `signers` among them, really sign."""
        signatures = {name: taken(name, self.sign(name, epoch, manifest, proposal)) for name in signers or proposal.members}
        read = {name: given.parts["signature"] for name, given in signatures.items()}
        return certify(manifest, epoch.manifest, self.federation.roster, proposal, read)

    def total(
        self, epoch: Epoch, manifest: SumManifest, certificate: SurvivorCertificate, openers: Sequence[str] = ()
    ) -> tuple[NDArray[np.uint32], OpenedSeeds]:
        """What the set's uploads add up to once its members, or `openers` among them, opened it."""
        accumulator = Accumulator(manifest)
        for name, root in certificate.proposal.roots.items():
            accumulator.add(CheckedUpload(name, root, self.uploads[root]))
        opened = {name: taken(name, self.open(name, epoch, manifest, certificate)) for name in openers or certificate.proposal.members}
        answers = {name: UnmaskAnswer.from_bytes(given.parts["answer"]) for name, given in opened.items()}
        seeds = open_seeds(manifest, epoch.manifest, epoch.certificate, certificate, answers)
        return remove_masks(accumulator, seeds), seeds

    def outcome(
        self,
        epoch: Epoch,
        manifest: SumManifest,
        certificate: SurvivorCertificate,
        total: NDArray[np.uint32],
        opened: OpenedSeeds = NOTHING,
    ) -> Outcome:
        """The transcript of any total."""
        planned = self.planned(manifest.round, manifest.sum)
        institutions, survivors = len(self.federation.names), survivors_of(epoch.manifest, certificate)
        values = decode(total, self.terms.lanes(self.state, planned), institutions)
        after, _ = self.terms.apply(self.state, planned, values, survivors, institutions)
        written = b"".join(manifest.lanes.written(total))
        digest = total_root(manifest.lanes, written)
        transcript = Transcript(manifest, epoch.manifest, epoch.certificate, certificate, opened.hash, digest, state_hash(after))
        # A forged epoch has no confirmations to show rows of.
        rows = rows_of(epoch.certificate, manifest.slot, opened) if epoch.certificate.confirmations else {}
        return Outcome(transcript, written, after, opened, total, rows)

    def forge_outcome(
        self, epoch: Epoch, round_number: int, kind: str, slot: int, total: NDArray[np.uint32] | None = None, **changes: Any
    ) -> Outcome:
        """A sum that nobody computed, signed by all members of a forged epoch."""
        manifest = self.manifest(epoch, round_number, kind, slot, **changes)
        total = np.zeros(manifest.lanes.size, np.uint32) if total is None else total
        members = epoch.manifest.members
        opened = OpenedSeeds({name: hashlib.sha256(name.encode()).digest() for name in members}, {})
        proposal = SurvivorProposal(manifest.hash, self.forge_uploads(manifest, members, opened, total))
        certificate = self.forge_certificate(manifest, proposal, members)
        return self.outcome(epoch, manifest, certificate, total, opened)

    def forge_uploads(
        self, manifest: SumManifest, members: Sequence[str], opened: OpenedSeeds, total: NDArray[np.uint32]
    ) -> dict[str, bytes]:
        """Roots of uploads that add up to the total: all of it comes from the first member."""
        masks = np.zeros_like(total)
        left_masks(manifest, opened).add_to(masks)
        roots = {}
        for number, name in enumerate(members):
            chunks = list(manifest.lanes.written(total - masks if number == 0 else np.zeros_like(total)))
            roots[name] = merkle_root([leaf_hash(chunk) for chunk in chunks])
            self.uploads[roots[name]] = chunks
        return roots

    # What follows a sum.

    def publish(self, name: str, outcome: Outcome, **changes: Any) -> Answer:
        """Shows an institution a transcript, under a subject that may be altered, what it then draws, and the total."""
        committed = self.commit(name, outcome, **changes)
        return committed if committed.refusal else self.reveal(name, outcome, committed.parts["challenge"], **changes)

    def commit(self, name: str, outcome: Outcome, **changes: Any) -> Answer:
        """The first half of `publish`."""
        subject = replace(subject_of(outcome.transcript), **changes)
        return self.ask(name, subject, "query.transcript", {"transcript": outcome.transcript.to_bytes()})

    def reveal(self, name: str, outcome: Outcome, challenge: bytes, arrays: Arrays | None = None, **changes: Any) -> Answer:
        """The second half of `publish`; `arrays` takes the total's place."""
        subject = replace(subject_of(outcome.transcript), **changes)
        shown = {str(chunk): self.show(outcome, chunk).to_bytes() for chunk in indices(challenge)}
        rows = pack({member: row.to_bytes() for member, row in outcome.rows.items()})
        parts = {"transcript": outcome.transcript.to_bytes(), "opened": outcome.opened.to_bytes(), "rows": rows, "shown": pack(shown)}
        return self.ask(
            name, subject, "query.total", parts, arrays or {"total": np.frombuffer(outcome.total, np.uint8), **outcome.proposal}
        )

    def show(self, outcome: Outcome, chunk: int) -> ShownTotal:
        """What shows one chunk of the total."""
        lanes, roots = outcome.transcript.manifest.lanes, outcome.transcript.certificate.proposal.roots
        uploads = {
            name: ShownChunk(self.uploads[root][chunk], MerkleTree([leaf_hash(one) for one in self.uploads[root]]).path(chunk))
            for name, root in roots.items()
        }
        total = ShownChunk(chunk_of_total(lanes, outcome.total, chunk), MerkleTree(total_leaves(lanes, outcome.total)).path(chunk))
        return ShownTotal(chunk, uploads, total)

    def follow(self, outcome: Outcome, names: Sequence[str]) -> dict[str, bytes]:
        """The sum is over for these institutions and the script; returns their signed answers."""
        answers = {name: self.publish(name, outcome) for name in names}
        assert not any(given.refusal for given in answers.values()), [given.refusal for given in answers.values()]
        self.state, self.last = outcome.after, outcome.transcript.hash
        return {name: given.parcel.envelope for name, given in answers.items()}

    def confirm(self, name: str, transcript: Transcript, parts: Mapping[str, bytes], **changes: Any) -> bytes:
        """An answer of an institution that says whatever `parts` says."""
        about = subject_of(transcript)
        honest = Envelope(name, "operator", self.run, about.round, 0, about.stage("query.total"), about.manifest_hash, 1, pack(parts))
        return seal_envelope(self.identity(name), replace(honest, **changes))

    def hand_over(self, name: str, transcript: Transcript, state: State, confirmations: Mapping[str, bytes]) -> Answer:
        """Sends a state with its proof."""
        parts = {"header": state_header(state), "transcript": transcript.to_bytes(), "confirmations": pack(confirmations)}
        return self.ask(name, subject_of(transcript), "query.state", parts, state_arrays(state))

    def place(self, name: str) -> tuple[bytes, int]:
        """State hash and number of finished sums in an institution's own ledger."""
        position = self.federation.nodes[name].ledger.position(self.run)
        return (position.state_hash, position.finished) if position else (b"", 0)
