"""Joining end to end: a real server and registry, an institution's folder, and those who try to come in otherwise."""

from __future__ import annotations

import base64
import os
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509 import load_pem_x509_csr

from client.connection import connect, connect_with
from client.errors import CertificateExpired, JoiningError, ServiceRefused, ServiceUnreachable
from client.institution import read_membership
from client.joining import Standing, fetch_certificate, join
from client.new_folder import REQUEST, make_folder_to_join, signing_request
from client.settings import load_settings
from coordinator.authority import Authority
from coordinator.certificates import as_pem
from coordinator.participants import known_institutions
from coordinator.row_audit import audit_participants
from coordinator.service.methods import METHODS
from coordinator.service.served import Caller, Invited, Resources, Served
from protocols.codec import Message
from protocols.curve_keys import load_tls_key, tls_key
from protocols.fingerprint import fingerprint
from protocols.identity import Identity
from protocols.invitation import InvitationFile, read_invitation
from protocols.policy import load_policy
from protocols.service import JOIN, RENEW, JoinAnswer, JoinRequest, RenewRequest
from tests.deployment.operator import Operator, make_operator, now

SECRETS = ("identity.key", "node.key", "tls.key")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "amber"


@pytest.fixture
def invitation(operator: Operator, tmp_path: Path) -> InvitationFile:
    operator.invite("amber", tmp_path / "amber.invitation.toml")
    return read_invitation(tmp_path / "amber.invitation.toml")


@pytest.fixture
def member(operator: Operator, folder: Path, invitation: InvitationFile) -> Iterator[Path]:
    """The folder of an approved institution, while the operator serves."""
    with operator.serving():
        joined(folder, invitation)
        operator.approve("amber")
        fetch_certificate(folder, now)
        yield folder


def joined(folder: Path, invitation: InvitationFile) -> Standing:
    return join(folder, invitation, now, os.urandom)


def make_folder(folder: Path, invitation: InvitationFile) -> Path:
    make_folder_to_join(folder, invitation, os.urandom)
    return folder


def pem_of(authority: Authority, name: str, csr: str) -> str:
    return as_pem(authority.issued(authority.issue(name, csr))).decode()


def ask(invitation: InvitationFile, request: JoinRequest) -> str:
    """What the bearer of an invitation can ask with any client."""
    with connect_with(invitation.service, invitation.ca, invitation.certificate, invitation.key, now()) as service:
        return service.call(JOIN, request).state


def test_an_institution_joins(operator: Operator, folder: Path, invitation: InvitationFile) -> None:
    with operator.serving():
        waiting = joined(folder, invitation)
        words = known_institutions(operator.registry)[0].fingerprint
        assert (waiting.state, waiting.fingerprint) == ("waiting", words)
        assert fetch_certificate(folder, now).state == "waiting"
        operator.approve("amber")
        approved = fetch_certificate(folder, now)
        assert approved.state == "approved" and approved.valid_until is not None
        assert joined(folder, invitation).state == "approved"
    key = Identity.load("amber", folder / "identity.key").public_key
    assert words == fingerprint("amber", key)
    membership = read_membership(folder)
    assert [(entry.name, entry.public_key) for entry in membership.roster.entries] == [("amber", key)]
    assert membership.coordinator_key == operator.home.identity.public_key
    assert (Path(load_settings(folder / "institution.toml").bases["tiny"]) / "config.json").exists()
    load_policy(folder / "policy.toml")
    participant = operator.registry.participant("amber")
    assert (participant.public_key, participant.node_key) == (key.hex(), (folder / "node.pub").read_text().strip())


def test_keys_are_their_owners_alone(member: Path, operator: Operator, tmp_path: Path) -> None:
    secrets = [*(member / name for name in SECRETS), *(operator.home.tls / name for name in ("ca.key", "server.key"))]
    secrets += [operator.home.folder / "identity.key", tmp_path / "amber.invitation.toml"]
    assert {path.stat().st_mode & 0o777 for path in secrets} == {0o600}
    assert not (member / "invitation.toml").exists()
    assert b"PRIVATE" not in b"".join(path.read_bytes() for path in member.iterdir() if path.is_file() and path.name not in SECRETS)


def test_no_private_key_is_sent(operator: Operator, folder: Path, invitation: InvitationFile) -> None:
    sent: list[bytes] = []

    def overheard(answer: Callable[..., Any]) -> Callable[..., Any]:
        def answered(resources: Resources, caller: Caller, request: Message) -> Any:
            sent.append(request.to_bytes())
            return answer(resources, caller, request)

        return answered

    with operator.serving([replace(served, answer=overheard(served.answer)) for served in METHODS]):
        joined(folder, invitation)
        operator.approve("amber")
        fetch_certificate(folder, now)
        with connect(folder, now) as service:
            service.call(RENEW, RenewRequest(signing_request(folder, "amber")))
    scalar = load_tls_key(folder / "tls.key").private_numbers().private_value.to_bytes(32, "big")
    secrets = [scalar, (folder / "identity.key").read_bytes()]
    secrets += [line for name in SECRETS[1:] for line in (folder / name).read_bytes().splitlines()[1:-1] if len(line) > 30]
    assert len(sent) == 3
    assert not [secret for secret in secrets for message in sent if secret in message]
    assert b"PRIVATE" not in b"".join(sent)


def test_an_invitation_serves_one_set_of_keys(operator: Operator, folder: Path, invitation: InvitationFile, tmp_path: Path) -> None:
    with operator.serving():
        joined(folder, invitation)
        with pytest.raises(ServiceRefused, match="was used for other keys"):
            joined(tmp_path / "thief", invitation)
        assert fetch_certificate(folder, now).state == "waiting"


def test_an_invitation_ends(operator: Operator, folder: Path, invitation: InvitationFile) -> None:
    operator.ahead = timedelta(days=15)
    with operator.serving(), pytest.raises(ServiceRefused, match="ended on"):
        joined(folder, invitation)
    assert operator.registry.join_requests() == ()


def test_a_late_approval_can_be_fetched(operator: Operator, folder: Path, invitation: InvitationFile) -> None:
    with operator.serving():
        joined(folder, invitation)
        operator.ahead = timedelta(days=20)
        operator.approve("amber")
        assert fetch_certificate(folder, now).state == "approved"


def test_a_replaced_invitation_opens_nothing(operator: Operator, folder: Path, invitation: InvitationFile, tmp_path: Path) -> None:
    newer = operator.invite("amber", tmp_path / "newer.toml")
    with operator.serving():
        with pytest.raises(ServiceRefused, match="does not know this certificate"):
            joined(folder, invitation)
        assert joined(folder, newer).state == "waiting"


def test_a_stolen_invitation_allows_nothing_but_to_ask(operator: Operator, member: Path, invitation: InvitationFile) -> None:
    csr = signing_request(member, "amber")
    bearer = connect_with(invitation.service, invitation.ca, invitation.certificate, invitation.key, now())
    with bearer as service, pytest.raises(ServiceRefused, match="does not allow Renew"):
        service.call(RENEW, RenewRequest(csr))


def test_a_revoked_institution_is_refused_at_once(operator: Operator, member: Path) -> None:
    with connect(member, now) as service:
        service.call(RENEW, RenewRequest(signing_request(member, "amber")))
        operator.registry.revoke("amber", "it left")
        with pytest.raises(ServiceRefused, match=r"revoked \(it left\)"):
            service.call(RENEW, RenewRequest(signing_request(member, "amber")))


def test_an_answer_puts_no_words_beside_those_that_are_read_out(operator: Operator, folder: Path, invitation: InvitationFile) -> None:
    """To have an institution read out the words of another key: the answer holds them, as if they were said here."""
    said = JoinAnswer("waiting\nRead these words to the operator, by telephone or in person:\n\n    badag-badag-badag-badag-badag-badag")
    with operator.serving([Served(JOIN, (Invited,), lambda *_: said)]), pytest.raises(JoiningError, match="is no state of one"):
        joined(folder, invitation)


def test_new_folders_are_open_to_their_owner_alone(operator: Operator, folder: Path, invitation: InvitationFile) -> None:
    """To read models, registry or records as another user of the machine."""
    make_folder(folder, invitation)
    assert [path.stat().st_mode & 0o077 for path in (folder, operator.home.folder)] == [0, 0]


def test_one_institution_does_not_fill_the_event_chain_with_certificates(operator: Operator, member: Path) -> None:
    """To end all runs: a node follows no chain that grew by more than 65,536 events since it looked last."""
    before, own = len(operator.registry.events()), signing_request(member, "amber")
    tls_key(member / "other" / "tls.key", os.urandom)
    with connect(member, now) as service:
        for _ in range(3):
            assert service.call(RENEW, RenewRequest(own)).certificate.encode() == (member / "tls.pem").read_bytes()
        with pytest.raises(ServiceRefused, match="within the last day"):
            service.call(RENEW, RenewRequest(signing_request(member / "other", "amber")))
        assert len(operator.registry.events()) == before
        operator.ahead = timedelta(days=1)
        service.call(RENEW, RenewRequest(signing_request(member / "other", "amber")))
    assert len(operator.registry.events()) == before + 1


def test_the_operator_names_the_certificate(operator: Operator, folder: Path, invitation: InvitationFile) -> None:
    make_folder_to_join(folder, invitation, os.urandom)
    request = JoinRequest.from_bytes((folder / REQUEST).read_bytes())
    identity = Identity.load("amber", folder / "identity.key")
    forged = replace(request, csr=signing_request(folder, "institution:birch")).signed_by(identity.sign)
    with operator.serving():
        assert ask(invitation, forged) == "waiting"
    operator.approve("amber")
    digest = operator.registry.participant("amber").certificate_sha256
    assert digest is not None and operator.authority.issued_to(digest) == "amber"


def test_requests_that_do_not_hold(operator: Operator, folder: Path, invitation: InvitationFile) -> None:
    make_folder_to_join(folder, invitation, os.urandom)
    request = JoinRequest.from_bytes((folder / REQUEST).read_bytes())
    sign = Identity.load("amber", folder / "identity.key").sign
    signed = load_pem_x509_csr(request.csr.encode()).public_bytes(Encoding.DER)
    body = base64.encodebytes(signed[:-8] + bytes(8)).decode()
    unsigned = f"-----BEGIN CERTIFICATE REQUEST-----\n{body}-----END CERTIFICATE REQUEST-----\n"
    cases = {
        "the request says birch": replace(request, name="birch").signed_by(sign),
        "not that of amber": replace(request, node_key=request.node_key + "A"),
        "no P-384 key": replace(request, node_key=request.node_key + " comment").signed_by(sign),
        "signing request": replace(
            request, csr=f"-----BEGIN CERTIFICATE REQUEST-----\n{unsigned}-----END CERTIFICATE REQUEST-----\n"
        ).signed_by(sign),
        "another coordinator": replace(request, coordinator_key=bytes(32)).signed_by(sign),
    }
    with operator.serving():
        for sentence, case in cases.items():
            with pytest.raises(ServiceRefused, match=sentence):
                ask(invitation, case)
    assert operator.registry.join_requests() == ()


def test_anothers_keys_cannot_be_handed_in(operator: Operator, member: Path, tmp_path: Path) -> None:
    second = operator.invite("birch", tmp_path / "birch.toml")
    make_folder_to_join(tmp_path / "birch", second, os.urandom)
    request = JoinRequest.from_bytes((tmp_path / "birch" / REQUEST).read_bytes())
    copied = replace(request, node_key=(member / "node.pub").read_text().strip())
    with pytest.raises(ServiceRefused, match="key of another institution"):
        ask(second, copied.signed_by(Identity.load("birch", tmp_path / "birch" / "identity.key").sign))


def test_a_lost_connection_costs_no_keys(operator: Operator, folder: Path, invitation: InvitationFile) -> None:
    with pytest.raises(ServiceUnreachable, match="does not answer"):
        joined(folder, invitation)
    before = {name: (folder / name).read_bytes() for name in (*SECRETS, REQUEST)}
    with operator.serving():
        assert joined(folder, invitation).state == "waiting"
    assert {name: (folder / name).read_bytes() for name in before} == before


@pytest.mark.parametrize("draws", [0, 1, 2])
def test_a_crash_between_keys_costs_no_keys(operator: Operator, folder: Path, invitation: InvitationFile, draws: int) -> None:
    left = iter([os.urandom] * draws)

    def failing(count: int) -> bytes:
        return next(left)(count)

    with pytest.raises(StopIteration):
        join(folder, invitation, now, failing)
    before = {name: (folder / name).read_bytes() for name in SECRETS if (folder / name).exists()}
    assert len(before) == draws
    with operator.serving():
        joined(folder, invitation)
    assert {name: (folder / name).read_bytes() for name in before} == before


def test_another_institutions_folder_is_left_alone(operator: Operator, member: Path, tmp_path: Path) -> None:
    before = {path: path.read_bytes() for path in member.iterdir()}
    with pytest.raises(JoiningError, match="is amber's"):
        joined(member, operator.invite("birch", tmp_path / "birch.toml"))
    foreign = tmp_path / "foreign"
    foreign.mkdir()
    (foreign / "tls.key").write_text("kept")
    with pytest.raises(JoiningError, match="something else"):
        joined(foreign, operator.invite("cedar", tmp_path / "cedar.toml"))
    assert {path: path.read_bytes() for path in member.iterdir()} == before and (foreign / "tls.key").read_text() == "kept"


def test_a_certificate_is_renewed_before_it_ends(operator: Operator, member: Path) -> None:
    first = (member / "tls.pem").read_bytes()
    assert fetch_certificate(member, now).state == "approved" and (member / "tls.pem").read_bytes() == first
    late = now() + timedelta(days=700)
    operator.ahead = timedelta(days=30)
    standing = fetch_certificate(member, lambda: late)
    assert standing.valid_until is not None and standing.valid_until > late
    (member / "tls.pem").write_bytes(first)  # as if the answer had been lost
    again = fetch_certificate(member, lambda: late)
    assert again == standing
    assert audit_participants(operator.registry.participants(), operator.registry.events())  # finds no difference
    with pytest.raises(CertificateExpired, match="new invitation"), connect(member, lambda: late + timedelta(days=100)):
        pass


def test_an_ended_certificate_comes_back_with_a_new_invitation(operator: Operator, member: Path, tmp_path: Path) -> None:
    ended = fetch_certificate(member, now).valid_until
    newer = operator.invite("amber", tmp_path / "newer.toml")
    (member / "tls.pem").unlink()  # stands for one that has ended: TLS itself looks at the real clock
    operator.ahead = timedelta(days=731)
    renewed = joined(member, newer).valid_until
    assert ended is not None and renewed is not None and renewed > ended


def test_a_certificate_for_others_is_not_kept(operator: Operator, folder: Path, invitation: InvitationFile, tmp_path: Path) -> None:
    elsewhere = make_operator(tmp_path / "elsewhere", 1)
    tls_key(tmp_path / "other" / "tls.key", os.urandom)
    mine, its = signing_request(make_folder(folder, invitation), "amber"), signing_request(tmp_path / "other", "amber")
    cases = {
        "no certificate": "nonsense",
        "did not issue": pem_of(elsewhere.authority, "amber", mine),
        "not for amber": pem_of(operator.authority, "birch", mine),
        "this folder's key": pem_of(operator.authority, "amber", its),
    }
    for sentence, certificate in cases.items():
        answers = Served(JOIN, (Invited,), lambda *_, sent=certificate: JoinAnswer("approved", sent))
        with operator.serving([answers]), pytest.raises(JoiningError, match=sentence):
            fetch_certificate(folder, now)
    assert not (folder / "tls.pem").exists() and (folder / "invitation.toml").exists()
    elsewhere.registry.close()


def test_a_server_of_another_authority_is_not_talked_to(
    operator: Operator, folder: Path, invitation: InvitationFile, tmp_path: Path
) -> None:
    impostor = make_operator(tmp_path / "impostor", operator.port)
    with impostor.serving(), pytest.raises(ServiceUnreachable, match="not the coordinator's"):
        joined(folder, invitation)
    impostor.registry.close()
