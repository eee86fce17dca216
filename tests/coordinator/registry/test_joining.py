"""From an invitation to an institution, its keys over time, and its leaving."""

from collections.abc import Callable
from dataclasses import replace
from datetime import datetime, timedelta

import pytest

from coordinator.errors import ChainBroken, RegistryError
from coordinator.registry import Registry
from coordinator.registry.records import Invitation, JoinRequest, Participant, Rotation, Voucher
from coordinator.registry.states import JoinState
from coordinator.row_audit import audit_participants
from tests.coordinator.postgresql import both, forced

pytestmark = both
CERTIFICATE, SIGNATURE = "c" * 64, "5" * 128
REQUEST = JoinRequest("amber", "1" * 64, "ecdsa-sha2-nistp384 AAAA", "-----BEGIN CERTIFICATE REQUEST-----", SIGNATURE)


@pytest.fixture
def invited(registry: Registry, clock: Callable[[], datetime]) -> Invitation:
    return registry.invite(Invitation("amber", "a" * 64, clock() + timedelta(days=14)))


@pytest.fixture
def amber(registry: Registry, invited: Invitation) -> Participant:
    registry.request_join(REQUEST)
    return registry.approve("amber", CERTIFICATE)


def test_invitation_is_used_once(registry: Registry, invited: Invitation) -> None:
    assert registry.invitation("a" * 64) == invited
    waiting = registry.request_join(REQUEST)
    assert replace(waiting, requested_at=None) == REQUEST
    assert registry.join_requests() == (waiting,)
    assert registry.request_join(REQUEST) == waiting  # the answer was lost
    with pytest.raises(RegistryError, match="amber used its invitation"):
        registry.request_join(replace(REQUEST, identity_key="2" * 64))
    found = registry.invitation("a" * 64)
    assert found is not None
    assert found.used_at is not None
    assert [event.kind for event in registry.events()] == ["invited", "join-requested"]


def test_who_was_not_invited_or_came_late_does_not_wait(registry: Registry, clock: Callable[[], datetime]) -> None:
    registry.invite(Invitation("amber", "a" * 64, clock()))
    head = registry.head()
    for name, fault in (("amber", "came after its invitation expired"), ("birch", "was not invited")):
        with pytest.raises(RegistryError, match=f"{name} {fault}"):
            registry.request_join(replace(REQUEST, name=name))
    assert (registry.join_requests(), registry.head()) == ((), head)


def test_new_invitation_replaces_the_former(registry: Registry, invited: Invitation) -> None:
    registry.request_join(REQUEST)
    registry.invite(replace(invited, certificate_sha256="b" * 64))
    assert registry.invitation("a" * 64) is None
    again = registry.request_join(replace(REQUEST, node_key="another"))
    assert registry.join_requests() == (again,)


def test_approved_institution_is_found_by_its_certificate(registry: Registry, amber: Participant) -> None:
    assert (amber.public_key, amber.node_key, amber.certificate_sha256) == (REQUEST.identity_key, REQUEST.node_key, CERTIFICATE)
    assert registry.participant_by_certificate(CERTIFICATE) == registry.participant("amber") == amber
    assert registry.participant_by_certificate("d" * 64) is None
    assert registry.join_requests()[0].state is JoinState.APPROVED
    with pytest.raises(RegistryError, match="amber was approved before"):
        registry.approve("amber", CERTIFICATE)
    with pytest.raises(RegistryError, match="there is no institution birch"):
        registry.participant("birch")


def test_refused_request_makes_no_institution(registry: Registry, invited: Invitation) -> None:
    registry.request_join(REQUEST)
    assert registry.refuse_join("amber", "the fingerprint was another").state is JoinState.REFUSED
    assert registry.participants() == ()
    with pytest.raises(RegistryError, match="amber was refused before"):
        registry.approve("amber", CERTIFICATE)


def test_revoked_institution_opens_nothing_until_it_joins_anew(registry: Registry, amber: Participant, invited: Invitation) -> None:
    assert registry.revoke("amber", "left the study").revoked_reason == "left the study"
    assert registry.participant_by_certificate(CERTIFICATE) is None
    with pytest.raises(RegistryError, match=r"amber was revoked \(left the study\)"):
        registry.rotate("amber", "2" * 64, SIGNATURE)
    registry.invite(replace(invited, certificate_sha256="b" * 64))
    registry.request_join(replace(REQUEST, identity_key="2" * 64))
    back = registry.approve("amber", "d" * 64)
    assert (back.public_key, back.revoked_at, back.revoked_reason) == ("2" * 64, None, "")
    assert registry.participant_by_certificate("d" * 64) == back


def test_key_changes_by_rotation_alone(registry: Registry, amber: Participant, invited: Invitation) -> None:
    registry.invite(replace(invited, certificate_sha256="b" * 64))
    registry.request_join(replace(REQUEST, identity_key="2" * 64))
    with pytest.raises(RegistryError, match="amber is registered with another key"):
        registry.approve("amber", "d" * 64)
    assert registry.rotate("amber", "2" * 64, SIGNATURE).public_key == "2" * 64
    registry.rotate("amber", "2" * 64, SIGNATURE)
    (rotation,) = registry.rotations()
    assert replace(rotation, at=None) == Rotation("amber", "1" * 64, "2" * 64, SIGNATURE)
    assert registry.approve("amber", "d" * 64).certificate_sha256 == "d" * 64


def test_voucher_is_kept_once(registry: Registry, amber: Participant) -> None:
    voucher = Voucher("birch", "3" * 64, "amber", SIGNATURE)
    kept = registry.vouch(voucher)
    assert (replace(kept, at=None), registry.vouch(voucher), registry.vouchers()) == (voucher, kept, (kept,))
    with pytest.raises(RegistryError, match="there is no institution elder"):
        registry.vouch(replace(voucher, by="elder"))


@pytest.mark.parametrize(
    ("column", "value"),
    [("public_key", "9" * 64), ("node_key", "other"), ("certificate_sha256", "9" * 64), ("revoked_reason", "other")],
)
def test_audit_follows_keys_through_their_events(registry: Registry, amber: Participant, column: str, value: str) -> None:
    registry.record_participants([Participant("birch", "4" * 64)])
    registry.rotate("amber", "2" * 64, SIGNATURE)
    registry.revoke("amber", "left")
    assert audit_participants(registry.participants(), registry.events()) == "The keys of 2 institutions are those that joined."
    forced(registry, f"UPDATE participants SET {column} = '{value}' WHERE name = 'amber'")
    with pytest.raises(ChainBroken, match=f"`participants`, name amber: .*`{column.removeprefix('revoked_')}`"):
        audit_participants(registry.participants(), registry.events())
