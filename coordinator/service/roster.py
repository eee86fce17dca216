"""Roster, Rotate and Vouch: what is offered to institutions' own rosters, and what they say of keys."""

from __future__ import annotations

from collections.abc import Iterator

from coordinator.offers import offered_institutions, take_rotation, take_voucher
from coordinator.service.served import Member, Resources, Served
from protocols.roster_offer import OfferedInstitution, Voucher
from protocols.service import ROSTER, ROTATE, VOUCH, Recorded, RosterRequest, RotateRequest


def _roster(resources: Resources, _: Member, __: RosterRequest) -> Iterator[OfferedInstitution]:
    return iter(offered_institutions(resources.registry))


def _rotate(resources: Resources, caller: Member, request: RotateRequest) -> Recorded:
    take_rotation(resources.registry, caller.participant, request.rotation, request.possession, resources.clock())
    return Recorded()


def _vouch(resources: Resources, caller: Member, request: Voucher) -> Recorded:
    take_voucher(resources.registry, caller.participant, request)
    return Recorded()


ROSTERS = (Served(ROSTER, (Member,), _roster), Served(ROTATE, (Member,), _rotate), Served(VOUCH, (Member,), _vouch))
