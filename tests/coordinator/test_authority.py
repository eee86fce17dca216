"""Certificates: by one authority, for what they are for, under names that the operator gives; keys last through interruptions."""

from __future__ import annotations

import os
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID
from cryptography.x509.verification import PolicyBuilder, Store, VerificationError

from coordinator.authority import Authority
from coordinator.certificates import certificate_sha256
from coordinator.errors import AdmissionError, SettingsError

START = datetime(2030, 1, 2, tzinfo=UTC)


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority.create(tmp_path / "tls", "the operator", ["sums.example.org", "10.0.0.7"], lambda: START, os.urandom)


def request(curve: ec.EllipticCurve, name: str = "anything") -> str:
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    return x509.CertificateSigningRequestBuilder(subject).sign(ec.generate_private_key(curve), SHA256()).public_bytes(Encoding.PEM).decode()


def store(authority: Authority) -> PolicyBuilder:
    root = x509.load_pem_x509_certificate(authority.certificate_pem)
    return PolicyBuilder().store(Store([root])).time(START + timedelta(days=1))


def test_the_server_is_known_by_its_names_and_on_loopback(authority: Authority) -> None:
    leaf = x509.load_pem_x509_certificate(authority.server_pair()[1])
    for host in ("sums.example.org", "localhost"):
        store(authority).build_server_verifier(x509.DNSName(host)).verify(leaf, [])
    for address in ("10.0.0.7", "127.0.0.1"):
        store(authority).build_server_verifier(x509.IPAddress(ip_address(address))).verify(leaf, [])
    with pytest.raises(VerificationError):
        store(authority).build_server_verifier(x509.DNSName("elsewhere.example.org")).verify(leaf, [])


def test_an_institutions_name_is_the_operators_word(authority: Authority) -> None:
    digest = authority.issue("amber", request(ec.SECP256R1(), "institution:birch"))
    leaf = authority.issued(digest)
    assert authority.issued_to(digest) == "amber"
    assert [name.value for name in leaf.subject] == ["institution:amber"]
    assert digest == certificate_sha256(leaf.public_bytes(Encoding.PEM))
    assert list(leaf.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value) == [ExtendedKeyUsageOID.CLIENT_AUTH]
    assert START + timedelta(days=729) < leaf.not_valid_after_utc < START + timedelta(days=731)
    leaf.verify_directly_issued_by(x509.load_pem_x509_certificate(authority.certificate_pem))


def test_an_invitations_certificate_is_no_institutions(authority: Authority) -> None:
    pair = authority.bootstrap("amber")
    leaf = x509.load_pem_x509_certificate(pair.certificate)
    assert [name.value for name in leaf.subject] == ["invite:amber"]
    assert authority.issued_to(certificate_sha256(pair.certificate)) is None
    assert b"PRIVATE" in pair.key and "PRIVATE" not in repr(pair)


@pytest.mark.parametrize("csr", ["", "no request", request(ec.SECP384R1()), request(ec.SECP256R1()) * 100])
def test_what_is_no_request_gets_no_certificate(authority: Authority, tmp_path: Path, csr: str) -> None:
    with pytest.raises(AdmissionError, match="signing request"):
        authority.issue("amber", csr)
    assert not (tmp_path / "tls" / "issued").exists()


def test_an_interrupted_beginning_keeps_its_keys(authority: Authority, tmp_path: Path) -> None:
    folder = tmp_path / "tls"
    keys = {name: (folder / name).read_bytes() for name in ("ca.key", "server.key")}
    (folder / "server.pem").unlink()
    again = Authority.create(folder, "the operator", ["sums.example.org"], lambda: START, os.urandom)
    assert {name: (folder / name).read_bytes() for name in keys} == keys
    assert Authority.open(folder, lambda: START, os.urandom).certificate_pem == again.certificate_pem
    with pytest.raises(SettingsError, match="coordinator init"):
        Authority.open(tmp_path, lambda: START, os.urandom)
