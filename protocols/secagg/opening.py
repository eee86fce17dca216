"""The one opening of a certified set: disjoint shares, and the seeds that they give (PROTOCOL, section 3)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from protocols.codec import Message
from protocols.epoch import EpochCertificate, EpochManifest, EpochState, ShownRow, check_secret, check_share, open_recovery
from protocols.errors import DishonestMember, ProtocolError, TooFewSurvivors
from protocols.identity import Identity
from protocols.roster import Roster
from protocols.secagg.inputs import check_slot
from protocols.secagg.manifest import SumManifest, check_epoch
from protocols.secagg.survivors import SurvivorCertificate, SurvivorProposal, verify_certificate
from protocols.shamir import combine_shares

SELF_SEED, RECOVERY_SECRET = 0, 1


@dataclass(frozen=True)
class OpenedSeeds(Message):
    """What a certified set opened of one slot: its members' self seeds, and the pair seeds between them and those who are missing."""

    self_seeds: Mapping[str, bytes]
    pair_seeds: Mapping[str, Mapping[str, bytes]]  # of each missing member, by member of the set


@dataclass(frozen=True)
class UnmaskAnswer(Message):
    """Shares of the self seeds of those in the set, and of the recovery secrets of those outside: never both of one."""

    sender: str
    self_seeds: Mapping[str, bytes]
    recovery_secrets: Mapping[str, bytes]


def unmask(epoch: EpochState, manifest: SumManifest, certificate: SurvivorCertificate, roster: Roster, identity: Identity) -> UnmaskAnswer:
    """A member's shares for a certified set; whose secret is opened follows from the set alone.

    Raises:
        ProtocolError, TooFewSurvivors: the certificate does not hold.
    """
    check_epoch(epoch.manifest, manifest)
    check_slot(epoch, manifest.slot)
    verify_certificate(manifest, epoch.manifest, roster, certificate)
    inside = certificate.proposal.members
    if identity.name not in inside:
        raise ProtocolError(f"{identity.name} is not in the certified set")
    outside = [name for name in epoch.manifest.members if name not in inside]
    return UnmaskAnswer(
        epoch.sender,
        {name: epoch.share(name, manifest.slot, SELF_SEED) for name in inside},
        {name: epoch.share(name, manifest.slot, RECOVERY_SECRET) for name in outside},
    )


def check_answer(
    epoch: EpochManifest, setup: EpochCertificate, slot: int, proposal: SurvivorProposal, name: str, answer: UnmaskAnswer
) -> None:
    """Raises DishonestMember unless a member opens exactly what follows from the set, with the shares that were committed to."""
    inside = set(proposal.members)
    if answer.sender != name or answer.self_seeds.keys() != inside or answer.recovery_secrets.keys() != set(epoch.members) - inside:
        raise DishonestMember(name, "opened other secrets than follow from the set")
    for secret, shares in ((SELF_SEED, answer.self_seeds), (RECOVERY_SECRET, answer.recovery_secrets)):
        for dealer, share in shares.items():
            if not check_share(setup.shares[dealer], epoch, slot, name, secret, share):
                raise DishonestMember(name, f"sent a wrong share for {dealer}")


def open_seeds(
    manifest: SumManifest,
    epoch: EpochManifest,
    setup: EpochCertificate,
    certificate: SurvivorCertificate,
    answers: Mapping[str, UnmaskAnswer],
) -> OpenedSeeds:
    """The seeds of the masks that did not cancel.

    Raises:
        TooFewSurvivors: fewer than threshold correct answers. DishonestMember: a dealer's secret is not what it committed to.
    """
    inside, slot = certificate.proposal.members, manifest.slot
    given = {name: answer.self_seeds for name, answer in answers.items()}
    self_seeds = {name: _open_secret(epoch, setup, slot, name, SELF_SEED, given) for name in inside}
    given, pair_seeds = {name: answer.recovery_secrets for name, answer in answers.items()}, {}
    for name in (member for member in epoch.members if member not in inside):
        recovery = _open_secret(epoch, setup, slot, name, RECOVERY_SECRET, given)
        seeds = open_recovery(epoch, setup.confirmations[name], slot, recovery)
        pair_seeds[name] = {other: seeds[other] for other in inside}
    return OpenedSeeds(self_seeds, pair_seeds)


def rows_of(setup: EpochCertificate, slot: int, opened: OpenedSeeds) -> dict[str, ShownRow]:
    """What shows, by survivor, that the opened pair seeds are true; nothing where no member is missing."""
    return {name: setup.confirmations[name].shown(slot) for name in opened.self_seeds} if opened.pair_seeds else {}


def _open_secret(
    epoch: EpochManifest, setup: EpochCertificate, slot: int, dealer: str, secret: int, answers: Mapping[str, Mapping[str, bytes]]
) -> bytes:
    message = setup.shares[dealer]
    given = {name: shares[dealer] for name, shares in answers.items() if dealer in shares}
    good = {epoch.number(n): share for n, share in given.items() if check_share(message, epoch, slot, n, secret, share)}
    if len(good) < epoch.threshold:
        wrong = ", ".join(n for n in sorted(given) if epoch.number(n) not in good)
        blame = f"; {wrong} sent a wrong share" if wrong else ""
        raise TooFewSurvivors(f"{len(good)} correct shares for {dealer} came and {epoch.threshold} are needed{blame}")
    try:
        value = combine_shares(dict(sorted(good.items())[: epoch.threshold]))
    except ProtocolError:  # the shares are those that were committed to, so it is their dealer who is at fault
        value = b""
    if not check_secret(message, slot, secret, value):
        raise DishonestMember(dealer, "dealt shares of another secret than it committed to; leave it out of the next epoch")
    return value
