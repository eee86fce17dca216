"""Row by row: whether a ledger's tables can be read, and say what is in the signed messages that lie in them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from datetime import datetime
from functools import cached_property
from typing import Any

from client.errors import LedgerError
from client.institution import Membership
from client.ledger import Ledger
from client.returning import ABANDONED
from protocols.audit import Audit
from protocols.codec import Message
from protocols.epoch import EpochManifest, EpochState, KeysState, SharesState
from protocols.errors import ConsortiumError
from protocols.identity import Envelope, open_envelope_of, verify
from protocols.plan import plan_from_canonical
from protocols.proofs import WrongTotalProof
from protocols.proofs.signed import part_of, parts_of
from protocols.secagg import SumManifest, SurvivorCertificate, SurvivorProposal, UploadRoot
from protocols.transcript import Transcript

Row = Mapping[str, Any]
STAGES: Mapping[str, type[Message]] = {"keys": KeysState, "shares": SharesState, "confirmed": EpochState}
MOST_NAMED = 8  # wrong rows of one table
HASH_BYTES = 32


def verify_rows(ledger: Ledger, membership: Membership, audit: Audit) -> None:
    """Adds a failure for every row that is wrong, by table and key, and a proof for every table whose rows are signed."""
    rows, name = _Rows(ledger, membership), membership.name
    checks: dict[str, tuple[Callable[[Row], None], tuple[str, ...], str]] = {
        "runs": (rows.check_run, ("run",), ""),
        "epochs": (rows.check_epoch, ("run", "epoch"), "Epochs of terms that the coordinator signed"),
        "replies": (
            rows.check_reply,
            ("key",),
            f"Answers that the coordinator asked for and {name} signed, under the keys that both say",
        ),
        "claims": (rows.check_claim, ("claim",), "Promises that the coordinator asked for, as far as its request is kept with them"),
        "survivors": (
            rows.check_survivors,
            ("epoch_hash",),
            "Epochs whose last set lies within their members and every set promised",
        ),
        "evidence": (rows.check_evidence, ("id",), "Refused requests that the coordinator signed"),
        "challenges": (rows.check_challenge, ("transcript",), "Looks at totals of transcripts that the coordinator signed"),
        "proofs": (rows.check_proof, ("id",), ""),
        "heads": (rows.check_head, ("length",), "Heads of the event chain in requests that the coordinator signed"),
        "vectors": (rows.check_vector, ("run", "round", "sum"), ""),
        "transcripts": (rows.check_transcript, ("hash",), ""),
        "sums": (rows.check_sum, ("run", "round", "sum"), ""),
    }
    for table, (check, key, sentence) in checks.items():
        found = rows.of(table)
        wrong = list(_wrong(table, found, check, key))
        audit.failed += wrong[:MOST_NAMED] + ([f"table {table}: {len(wrong) - MOST_NAMED} more rows"] if len(wrong) > MOST_NAMED else [])
        if sentence and found and not wrong:
            audit.proved.append(f"{sentence}: {len(found)}.")
    audit.failed += rows.missing()


def _wrong(table: str, rows: list[dict[str, Any]], check: Callable[[Row], None], key: tuple[str, ...]) -> Iterator[str]:
    for row in rows:
        place = f"table {table}, row {'/'.join(_shown(row[column]) for column in key)}"
        try:
            check(row)
        except ConsortiumError as error:
            yield f"{place}: {error}"
        except (ValueError, TypeError, LookupError, AttributeError):
            yield f"{place}: it cannot be read; restore the institution's home"


def _shown(value: object) -> str:
    return value.hex()[:16] if isinstance(value, bytes) else str(value)


def _expect(holds: bool, otherwise: str) -> None:
    if not holds:
        raise LedgerError(f"{otherwise}; restore the institution's home")


class _Rows:
    """One check a table; each raises ConsortiumError, or what Python raises for bytes that are no such thing."""

    def __init__(self, ledger: Ledger, membership: Membership) -> None:
        self._ledger = ledger
        self._membership = membership

    def of(self, table: str) -> list[dict[str, Any]]:
        return self._ledger.rows(table)

    def missing(self) -> list[str]:
        """Epochs in which a set was promised, and nothing binds the next one."""
        bound = {row["epoch_hash"] for row in self.of("survivors")}
        return [
            f"table survivors has no row of epoch {epoch.hex()[:16]}, in which a set was promised; restore the institution's home"
            for epoch in self._promised
            if epoch not in bound
        ]

    def check_run(self, row: Row) -> None:
        plan_from_canonical(row["plan"])
        datetime.fromisoformat(row["accepted_at"])

    def check_epoch(self, row: Row) -> None:
        manifest = EpochManifest.from_bytes(row["manifest"])
        verify(self._membership.coordinator_key, manifest.signed(), manifest.signature, "the coordinator")
        _expect((manifest.run, manifest.epoch) == (row["run"], row["epoch"]), "its terms are those of another epoch")
        if row["stage"] in ("over", ABANDONED):
            _expect(not row["state"], "it is over and still holds secrets")
        else:
            STAGES[row["stage"]].from_bytes(row["state"])

    def check_reply(self, row: Row) -> None:
        request, reply = self._asked(row["request"]), self._membership.parties.open_envelope(row["reply"])
        _expect(row["key"] == _key(request), "its request is another one than its key says")
        said = (reply.sender, reply.recipient, _key(reply), reply.manifest_hash)
        expected = (self._membership.name, request.sender, row["key"], request.manifest_hash)
        _expect(said == expected and 1 <= reply.incarnation <= self._ledger.incarnation, "its answer is not one to its request")
        if row["key"].endswith(".sum"):
            sent, promised = UploadRoot.from_bytes(part_of(reply, "root")).root, f"root/{request.manifest_hash.hex()}"
            _expect(self._ledger.claimed(promised) == sent, "what was sent is not what the table claims holds of it")

    def check_claim(self, row: Row) -> None:
        kind, *about = row["claim"].split("/")
        if kind == "root":
            _expect(len(row["value"]) == HASH_BYTES, "it is no hash")
        elif row["request"]:
            _expect(self._is_asked(kind, about, row["value"], self._asked(row["request"])), "its request asked for something else")
        elif kind == "set":
            SurvivorProposal.from_bytes(row["value"]) if len(about) == 1 else row["value"].decode()

    def check_survivors(self, row: Row) -> None:
        members, epoch = set(row["members"].split("\n")), row["epoch_hash"]
        _expect(epoch in self._members, "the ledger has no such epoch")
        _expect(members <= self._members[epoch], "it names someone who is not a member of the epoch")
        sets = self._promised.get(epoch)
        _expect(not sets or members == set.intersection(*sets), "it is not the smallest set that was promised in the epoch")

    def check_evidence(self, row: Row) -> None:
        _expect(row["key"] == _key(self._asked(row["request"])), "its request is another one than its key says")
        if row["earlier"]:
            self._asked(row["earlier"])

    def check_challenge(self, row: Row) -> None:
        transcript = Transcript.from_bytes(part_of(self._asked(row["committed"]), "transcript"))
        _expect(transcript.hash == row["transcript"] and len(row["chunks"]) % 4 == 0, "it belongs to another transcript")

    def check_proof(self, row: Row) -> None:
        _expect(self._asked(WrongTotalProof.from_bytes(row["proof"]).committed).run == row["run"], "it is about another run")

    def check_head(self, row: Row) -> None:
        manifest = SumManifest.from_bytes(part_of(self._asked(row["request"]), "manifest"))
        _expect((manifest.chain_length, manifest.chain_head) == (row["length"], row["head"]), "its request showed another head")

    def check_vector(self, row: Row) -> None:
        self._ledger.vectors.kept(row["run"], row["round"], row["sum"], row["state_hash"])

    def check_transcript(self, row: Row) -> None:
        _expect(Transcript.from_bytes(row["transcript"]).hash == row["hash"], "it is another transcript than its hash says")
        _expect(row["hash"] in {one.transcript for one in self._ledger.finished_sums()}, "no finished sum has this transcript")

    def check_sum(self, row: Row) -> None:
        datetime.fromisoformat(row["at"])

    @cached_property
    def _members(self) -> Mapping[bytes, set[str]]:
        """Of every epoch that can be read, by its hash."""
        found = {}
        for row in self.of("epochs"):
            try:
                manifest = EpochManifest.from_bytes(row["manifest"])
            except ConsortiumError:
                continue  # `check_epoch` names it
            found[manifest.hash] = set(manifest.members)
        return found

    @cached_property
    def _promised(self) -> Mapping[bytes, list[set[str]]]:
        """The sets that were promised in each epoch, as far as the requests that asked for them are kept and can be read."""
        found: dict[bytes, list[set[str]]] = {}
        for row in self.of("claims"):
            kind, *about = row["claim"].split("/")
            if (kind, len(about)) != ("set", 1) or not row["request"]:
                continue
            try:
                envelope = self._asked(row["request"])
                epoch, proposal = SumManifest.from_bytes(part_of(envelope, "manifest")).epoch_hash, _proposal(envelope)
            except ConsortiumError:
                continue  # `check_claim` names it
            found.setdefault(epoch, []).append(set(proposal.members))
        return found

    def _asked(self, signed: bytes) -> Envelope:
        envelope = open_envelope_of(signed, self._membership.coordinator_key)
        _expect(envelope.recipient in ("", self._membership.name), "its request is one to another institution")
        return envelope

    def _is_asked(self, kind: str, about: list[str], value: bytes, request: Envelope) -> bool:
        if kind == "transcript":
            transcript = Transcript.from_bytes(part_of(request, "transcript"))
            return (about, value) == (_subject(transcript.manifest), transcript.hash)
        manifest = SumManifest.from_bytes(part_of(request, "manifest"))
        if kind == "slot":
            return (about, value) == ([manifest.run, manifest.epoch_hash.hex(), str(manifest.slot)], manifest.hash)
        return kind == "set" and _is_set(about, value, manifest, _proposal(request))


def _is_set(about: list[str], value: bytes, manifest: SumManifest, proposal: SurvivorProposal) -> bool:
    """Whether a set was promised for what the request names: its slot, its sum, or its inputs, whose hash is this institution's own."""
    if len(about) == 1:
        return (about[0], value) == (manifest.hash.hex(), proposal.to_bytes())
    is_named = about[:3] == _subject(manifest) if about[1].isdigit() else about[1] == manifest.sum
    return is_named and value == "\n".join(proposal.members).encode()


def _subject(manifest: SumManifest) -> list[str]:
    return [manifest.run, str(manifest.round), manifest.sum]


def _proposal(request: Envelope) -> SurvivorProposal:
    parts = parts_of(request)
    if "proposal" in parts:
        return SurvivorProposal.from_bytes(parts["proposal"])
    return SurvivorCertificate.from_bytes(part_of(request, "certificate")).proposal


def _key(envelope: Envelope) -> str:
    """Under which an answer is kept."""
    about, _, message_type = envelope.stage.partition("/")
    return f"{envelope.run}/{envelope.round}/{about}/{envelope.attempt}/{message_type}"
