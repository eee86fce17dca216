"""What an institution signed in a setup or an opening and could not have signed honestly."""

from __future__ import annotations

import hmac
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TypeAlias

from protocols.codec import Message
from protocols.epoch import Confirmation, EpochManifest, open_recovery
from protocols.epoch.checks import SECRETS, certified, check_part_share, setup_hash_of
from protocols.epoch.messages import SharesHeader, SharesPart
from protocols.errors import DishonestMember, MalformedMessage, NoProof, ProtocolError
from protocols.identity import open_envelope, verify
from protocols.keys import commit
from protocols.pack import pack, unpack
from protocols.proofs.signed import part_of
from protocols.roster import Roster
from protocols.secagg import SumManifest, UnmaskAnswer
from protocols.secagg.opening import RECOVERY_SECRET, SELF_SEED
from protocols.shamir import combine_shares


@dataclass(frozen=True)
class WrongShareProof(Message):
    """A member's signed answer, what the dealer of the share committed to towards it, and that the member confirmed just this.

    The dealer's signature is not enough: it may collude, and sign another header afterwards.
    """

    accused: str
    answer: bytes  # signed envelope
    manifest: SumManifest
    epoch: EpochManifest
    header: SharesHeader
    part: SharesPart
    keys: Mapping[str, bytes]  # hashes of all keys messages and headers of the setup, by member
    headers: Mapping[str, bytes]
    published: bytes  # of the accused, with its signature on the epoch's certificate
    signature: bytes

    def accuse(self, roster: Roster, coordinator_key: bytes) -> str:
        """What is proved, in a sentence.

        Raises:
            NoProof, ProtocolError: nothing is.
        """
        envelope, dealer = open_envelope(self.answer, roster), self.header.sender
        self.epoch.check(roster, coordinator_key)
        self.manifest.check(self.epoch, coordinator_key)
        _check_header(self.header, self.epoch, roster)
        self._check_confirmed(roster)
        if self.part.hash != self.header.part_hash(self.epoch.number(envelope.sender)):
            raise NoProof("the shares that are shown are not those that were dealt to the accused")
        if envelope.manifest_hash != self.manifest.hash or not envelope.stage.endswith("/query.unmask"):
            raise NoProof("the answer belongs to another sum")
        answer = UnmaskAnswer.from_bytes(part_of(envelope, "answer"))
        if not envelope.sender == answer.sender == self.accused:
            raise NoProof("the answer was given in another's name")
        for secret, shares in ((SELF_SEED, answer.self_seeds), (RECOVERY_SECRET, answer.recovery_secrets)):
            if dealer in shares and not check_part_share(self.part, self.manifest.slot, secret, shares[dealer]):
                return f"{envelope.sender} opened a wrong share of the {SECRETS[secret]} of {dealer}"
        raise NoProof("the shares are those that were dealt")

    def _check_confirmed(self, roster: Roster) -> None:
        """Raises ProtocolError unless the accused signed a setup that holds the header."""
        if self.headers.get(self.header.sender) != self.header.hash:
            raise NoProof("the shares that are shown are not those of the setup")
        setup = setup_hash_of(self.epoch, self.keys, self.headers)
        verify(roster.key_of(self.accused), certified(self.epoch, setup, self.published), self.signature, self.accused)


@dataclass(frozen=True)
class WrongSecretProof(Message):
    """Threshold many shares that a dealer committed to, which together are another secret than it committed to.

    All of it is bound by one header of the dealer's, so that a second one that it signs speaks against nobody else.
    """

    epoch: EpochManifest
    header: SharesHeader
    slot: int
    secret: int
    parts: Mapping[str, SharesPart]
    shares: Mapping[str, bytes]  # by holder

    def accuse(self, roster: Roster, coordinator_key: bytes) -> str:
        """What is proved, in a sentence.

        Raises:
            NoProof, ProtocolError: nothing is.
        """
        self.epoch.check(roster, coordinator_key)
        _check_header(self.header, self.epoch, roster)
        if len(self.shares) < self.epoch.threshold or self.parts.keys() != self.shares.keys() or self.secret not in (0, 1):
            raise NoProof("fewer shares are shown than it takes")
        for name, share in self.shares.items():
            bound = self.parts[name].hash == self.header.part_hash(self.epoch.number(name))
            if not bound or not check_part_share(self.parts[name], self.slot, self.secret, share):
                raise NoProof(f"the share of {name} is not one that was dealt")
        if self.opens:
            raise NoProof("the shares give the secret that was committed to")
        return f"{self.accused} dealt shares of another {SECRETS[self.secret]} than it committed to"

    @property
    def opens(self) -> bool:
        """Whether the shares give the secret that was committed to."""
        shares = {self.epoch.number(name): share for name, share in sorted(self.shares.items())[: self.epoch.threshold]}
        try:
            value = combine_shares(shares)
        except ProtocolError:
            return False
        return hmac.compare_digest(commit(SECRETS[self.secret], value), self.header.commitment(self.slot, self.secret))

    @property
    def accused(self) -> str:
        return self.header.sender


@dataclass(frozen=True)
class WrongEnvelopeProof(Message):
    """A member's opened recovery secret, and the envelope under it that holds other pair seeds than it committed to, or none.

    Header and confirmation are both the member's own, so that nobody else can make them disagree.
    """

    epoch: EpochManifest
    header: SharesHeader
    confirmation: Confirmation
    slot: int
    recovery: bytes

    @property
    def accused(self) -> str:
        return self.header.sender

    def accuse(self, roster: Roster, coordinator_key: bytes) -> str:
        """What is proved, in a sentence.

        Raises:
            NoProof, ProtocolError: nothing is.
        """
        self.epoch.check(roster, coordinator_key)
        _check_header(self.header, self.epoch, roster)
        name, said = self.header.sender, self.confirmation
        verify(roster.key_of(name), certified(self.epoch, said.setup_hash, said.published), said.signature, name)
        if said.sender != name or commit(SECRETS[RECOVERY_SECRET], self.recovery) != self.header.commitment(self.slot, RECOVERY_SECRET):
            raise NoProof("the recovery secret is not the one that was committed to")
        if not self.slot < self.epoch.slots == len(said.envelopes) == len(said.rows):
            raise NoProof("the confirmation is not one of every slot of this epoch")
        try:
            open_recovery(self.epoch, said, self.slot, self.recovery)
        except DishonestMember as fault:
            return str(fault)
        raise NoProof("the envelope holds what was committed to")


MemberProof: TypeAlias = WrongShareProof | WrongSecretProof | WrongEnvelopeProof
_KINDS: Mapping[str, type[MemberProof]] = {kind.__name__: kind for kind in (WrongShareProof, WrongSecretProof, WrongEnvelopeProof)}


def write_member_proof(proof: MemberProof) -> bytes:
    """The proof with its kind."""
    return pack({"kind": type(proof).__name__.encode(), "proof": proof.to_bytes()})


def read_member_proof(data: bytes) -> MemberProof:
    """Reads what `write_member_proof` wrote.

    Raises:
        MalformedMessage, PackError: it is something else.
    """
    parts = unpack(data)
    kind = _KINDS.get(parts.get("kind", b"").decode(errors="replace"))
    if kind is None or parts.keys() != {"kind", "proof"}:
        raise MalformedMessage("this is no proof against an institution; both sides must run the same version")
    return kind.from_bytes(parts["proof"])


def _check_header(header: SharesHeader, epoch: EpochManifest, roster: Roster) -> None:
    verify(roster.key_of(header.sender), header.signed(), header.signature, header.sender)
    if header.epoch_hash != epoch.hash:
        raise NoProof("the shares were dealt in another epoch")
