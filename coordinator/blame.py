"""What the coordinator keeps when an institution is provably at fault: proof that convinces others, not its own word."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from protocols.epoch import EpochCertificate, EpochManifest, SharesMessage, check_share
from protocols.errors import ConsortiumError, ProtocolError
from protocols.files import write_file
from protocols.parties import Parties
from protocols.proofs import MemberProof, WrongEnvelopeProof, WrongSecretProof, WrongShareProof, read_member_proof, write_member_proof
from protocols.secagg import SumManifest, UnmaskAnswer
from protocols.secagg.opening import RECOVERY_SECRET, SELF_SEED
from protocols.shamir import combine_shares


@dataclass(frozen=True, slots=True)
class Blame:
    """A run's folder of proofs."""

    folder: Path
    parties: Parties

    def keep(self, proof: MemberProof) -> None:
        """Keeps a proof that holds; what proves nothing is not kept."""
        try:
            self._accuse(proof)
        except ProtocolError:
            return
        data = write_member_proof(proof)
        write_file(self.folder / hashlib.sha256(data).hexdigest()[:32], data)

    def proved(self) -> dict[str, str]:
        """Institution -> what is proved of it, of every proof that holds."""
        return {proof.accused: sentence for proof, sentence in self._held()}

    def _held(self) -> Iterator[tuple[MemberProof, str]]:
        for path in sorted(self.folder.glob("*")):
            try:
                proof = read_member_proof(path.read_bytes())
                yield proof, self._accuse(proof)
            except (ConsortiumError, OSError):
                continue

    def _accuse(self, proof: MemberProof) -> str:
        return proof.accuse(self.parties.roster_of(proof.epoch), self.parties.coordinator_key)


@dataclass(frozen=True, slots=True)
class Opening:
    """One sum's opening, as far as a fault in it can be shown to others."""

    manifest: SumManifest
    epoch: EpochManifest
    setup: EpochCertificate

    def wrong_shares(self, name: str, envelope: bytes, answer: UnmaskAnswer) -> Iterator[WrongShareProof]:
        """Of a member's signed answer, a proof for every share that is not the one that was dealt."""
        if answer.sender != name:
            return
        for secret, shares in ((SELF_SEED, answer.self_seeds), (RECOVERY_SECRET, answer.recovery_secrets)):
            for dealer, share in shares.items():
                message = self.setup.shares.get(dealer)
                if message and not check_share(message, self.epoch, self.manifest.slot, answer.sender, secret, share):
                    yield self._wrong_share(name, envelope, message)

    def _wrong_share(self, name: str, envelope: bytes, dealt: SharesMessage) -> WrongShareProof:
        """With what shows that the member confirmed the setup in which this was dealt to it."""
        return WrongShareProof(
            accused=name,
            answer=envelope,
            manifest=self.manifest,
            epoch=self.epoch,
            header=dealt.header,
            part=dealt.parts[self.epoch.number(name) - 1],
            keys=self.setup.keys,
            headers={dealer: message.header.hash for dealer, message in self.setup.shares.items()},
            published=self.setup.published[name],
            signature=self.setup.signatures[name],
        )

    def wrong_dealer(self, dealer: str, survivors: tuple[str, ...], answers: Mapping[str, UnmaskAnswer]) -> Iterator[MemberProof]:
        """Of a dealer whose secret or envelope did not open, from the answers of those who hold its shares."""
        slot, secret = self.manifest.slot, SELF_SEED if dealer in survivors else RECOVERY_SECRET
        message = self.setup.shares[dealer]
        given = {name: (answer.self_seeds if secret == SELF_SEED else answer.recovery_secrets) for name, answer in answers.items()}
        held = {name: shares[dealer] for name, shares in given.items() if dealer in shares}
        good = {name: share for name, share in held.items() if check_share(message, self.epoch, slot, name, secret, share)}
        shares = dict(sorted(good.items())[: self.epoch.threshold])
        if len(shares) < self.epoch.threshold:
            return
        parts = {name: message.parts[self.epoch.number(name) - 1] for name in shares}
        proof = WrongSecretProof(self.epoch, message.header, slot, secret, parts, shares)
        yield proof
        if secret == RECOVERY_SECRET and proof.opens:
            recovery = combine_shares({self.epoch.number(name): share for name, share in shares.items()})
            yield WrongEnvelopeProof(self.epoch, message.header, self.setup.confirmations[dealer], slot, recovery)
