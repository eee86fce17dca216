"""An institution's own roster against what the coordinator offers: it changes by `accept` alone, or by vouchers if the policy says so."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from client.connection import Connection
from client.institution import Membership, read_membership, write_membership
from protocols.errors import RosterError
from protocols.fingerprint import fingerprint, same_fingerprint
from protocols.identity import Identity
from protocols.names import check_institution_name
from protocols.policy import Policy
from protocols.roster import Roster, RosterEntry
from protocols.roster_offer import OfferedInstitution, Voucher
from protocols.service import ROSTER, RosterRequest

Kind = Literal["new", "new key", "revoked", "not offered", "days", "own"]


@dataclass(frozen=True, slots=True)
class Difference:
    """One institution that is otherwise in the offer than in the own copy."""

    name: str
    kind: Kind
    entry: RosterEntry | None  # what accepting puts on the roster; None takes the institution off it
    signed: bool = False  # of a new key: whether the key in the own copy signed it, or keys between them did
    vouched_by: tuple[str, ...] = ()  # institutions of the own copy
    reason: str = ""

    @property
    def fingerprint(self) -> str:
        """The words to compare; empty where no key is to be accepted."""
        return fingerprint(self.name, self.entry.public_key) if self.entry is not None else ""


def offer_of(service: Connection, seconds: float | None = None) -> tuple[OfferedInstitution, ...]:
    """Everybody whom the coordinator offers, as `Connection.stream` raises; RosterError for a name that no institution can have."""
    offer = tuple(service.stream(ROSTER, RosterRequest(), seconds))
    for one in offer:
        check_institution_name(one.entry.name)
    return offer


def differences(membership: Membership, offer: Sequence[OfferedInstitution]) -> tuple[Difference, ...]:
    """What accepting would change, by name. Of the own entry it is shown and can never be accepted."""
    own = {entry.name: entry for entry in membership.roster.entries}
    found = [_difference(membership, own.get(one.entry.name), one) for one in offer]
    missing = sorted(own.keys() - {one.entry.name for one in offer} - {membership.name})
    found += [Difference(name, "not offered", None, reason="the coordinator does not list it") for name in missing]
    return tuple(sorted((one for one in found if one is not None), key=lambda one: one.name))


def accept(folder: Path, name: str, offer: Sequence[OfferedInstitution], today: str, words: str | None = None) -> Difference:
    """Takes over what is offered of one institution, after a person compared its fingerprint.

    Args:
        today: ISO date, kept beside a key that is replaced.
        words: the fingerprint as the institution itself said it; needed for a new key that the former one did not sign, and for one that
            was given up before.

    Raises:
        RosterError: nothing is offered, the words are others, or no words were given where they are needed.
    """
    membership = read_membership(folder)
    change = _offered(membership, name, offer)
    if words is not None and change.entry is None:
        raise RosterError(
            f"no key of {name} is offered, so that there are no words to compare; without --fingerprint it is taken off the roster"
        )
    if words is not None and not same_fingerprint(words, change.fingerprint):
        raise RosterError(
            f"the coordinator offers another key of {name} than these words belong to; do not accept it, and ask both what happened"
        )
    if change.kind == "new key" and not change.signed and words is None:
        raise RosterError(
            f"the key of {name} on this roster did not sign the one that is offered; ask it for its words and give --fingerprint"
        )
    if _was_given_up(membership, change) and words is None:
        raise RosterError(
            f"the key that is offered of {name} was on this roster before and was replaced or taken off, perhaps as it was stolen; "
            "ask the institution for its words and give --fingerprint"
        )
    write_membership(folder, _changed(membership, [change], today))
    return change


def accept_vouched(folder: Path, policy: Policy, offer: Sequence[OfferedInstitution], today: str) -> tuple[Difference, ...]:
    """Takes over new institutions and keys for which enough institutions of the roster vouch, if the policy says so.

    A voucher never ends, so that those for a key that was given up since are still there: such a key comes back by a person alone.
    """
    membership = read_membership(folder)
    if not policy.accept_vouched:
        return ()
    keyed = [one for one in differences(membership, offer) if one.kind in ("new", "new key")]
    enough = [one for one in keyed if len(one.vouched_by) >= policy.vouchers and not _was_given_up(membership, one)]
    if enough:
        write_membership(folder, _changed(membership, enough, today))
    return tuple(enough)


def voucher_for(folder: Path, name: str) -> Voucher:
    """This institution's word for a key on its own roster, where a person compared it.

    Raises:
        RosterError: it is not there, or the institution itself.
    """
    membership = read_membership(folder)
    if name == membership.name:
        raise RosterError("an institution cannot vouch for itself; ask others on whose rosters its key is")
    key, identity = membership.roster.key_of(name), Identity.load(membership.name, folder / "identity.key")
    return Voucher(name, key, membership.name, b"").signed_by(identity.sign)


def _difference(membership: Membership, known: RosterEntry | None, one: OfferedInstitution) -> Difference | None:
    entry = one.entry
    if entry.name == membership.name:
        is_own = known is not None and known.public_key == entry.public_key and not one.revoked
        said = f"the coordinator revoked it: {one.reason}" if one.revoked else "the coordinator has another key of this institution"
        return None if is_own else Difference(entry.name, "own", entry, reason=said)
    if one.revoked:
        return Difference(entry.name, "revoked", None, reason=one.reason) if known is not None else None
    vouched = one.vouched_by(membership.roster)
    if known is None:
        return Difference(entry.name, "new", entry, vouched_by=vouched)
    if known.public_key != entry.public_key:
        return Difference(entry.name, "new key", entry, one.leads_from(known.public_key), vouched)
    return None if known == entry or not (entry.valid_from or entry.valid_until) else Difference(entry.name, "days", entry)


def _was_given_up(membership: Membership, change: Difference) -> bool:
    """Whether a key that is offered is one that the institution had before."""
    former = {(one.name, one.public_key) for one in membership.former}
    return change.entry is not None and (change.name, change.entry.public_key) in former


def _offered(membership: Membership, name: str, offer: Sequence[OfferedInstitution]) -> Difference:
    change = next((one for one in differences(membership, offer) if one.name == name), None)
    if change is None:
        known = any(entry.name == name for entry in membership.roster.entries)
        what = "is on this roster as it is offered" if known else "is neither on this roster nor offered"
        raise RosterError(f"{name} {what}; `consortium client roster` shows what differs")
    if change.kind == "own":
        raise RosterError(f"the own entry is never taken from an offer, and {change.reason}; ask the operator what happened")
    return change


def _changed(membership: Membership, changes: Sequence[Difference], today: str) -> Membership:
    """Keys that are replaced stay among the former ones, so that the past can be verified."""
    entries = {entry.name: entry for entry in membership.roster.entries}
    for change in changes:
        if change.entry is None:
            del entries[change.name]
        else:
            entries[change.name] = change.entry
    roster = Roster(tuple(entries[name] for name in sorted(entries)))
    return replace(membership, roster=roster, former=membership.parties.replaced_by(roster, today).former)
