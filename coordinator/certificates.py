"""X.509 certificates as this deployment writes them, and what it reads of a signing request: the key, and nothing else."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from hashlib import sha256
from ipaddress import ip_address

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from coordinator.errors import AdmissionError

MAX_REQUEST = 8192  # characters of a signing request
_SKEW = timedelta(hours=1)  # a clock that is behind must not find a new certificate too young


def certificate_sha256(pem: bytes) -> str:
    """SHA-256 (hexadecimal) over the certificate itself (DER)."""
    return sha256(x509.load_pem_x509_certificate(pem).public_bytes(Encoding.DER)).hexdigest()


def check_request(csr: str) -> ec.EllipticCurvePublicKey:
    """The key of a signing request (PEM), whose holder signed it; nothing else in the request is used.

    Raises:
        AdmissionError: it is no signing request of a P-256 key.
    """
    key = _requested_key(csr) if len(csr) <= MAX_REQUEST else None
    if key is None or not isinstance(key.curve, ec.SECP256R1):
        raise AdmissionError("the signing request is not one of a P-256 key by its holder; run `consortium client init` again")
    return key


def _requested_key(csr: str) -> ec.EllipticCurvePublicKey | None:
    try:
        request = x509.load_pem_x509_csr(csr.encode())
        key = request.public_key()
        return key if request.is_signature_valid and isinstance(key, ec.EllipticCurvePublicKey) else None
    except (ValueError, UnsupportedAlgorithm, InvalidSignature):
        return None


@dataclass(frozen=True, slots=True)
class Draft:
    """A certificate before it is signed."""

    subject: x509.Name
    key: ec.EllipticCurvePublicKey
    days: int
    hosts: tuple[str, ...] = ()  # none for a client's
    authority: bool = False

    def signed(self, issuer: x509.Name, key: ec.EllipticCurvePrivateKey, now: datetime, draw: Callable[[int], bytes]) -> x509.Certificate:
        builder = x509.CertificateBuilder(issuer, self.subject, self.key, int.from_bytes(b"\x01" + draw(18), "big"))
        builder = builder.not_valid_before(now - _SKEW).not_valid_after(now + timedelta(days=self.days))
        builder = builder.add_extension(x509.BasicConstraints(self.authority, 0 if self.authority else None), critical=True)
        builder = builder.add_extension(self._usage(), critical=True)
        builder = builder.add_extension(x509.SubjectKeyIdentifier.from_public_key(self.key), critical=False)
        builder = builder.add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(key.public_key()), critical=False)
        if not self.authority:
            purpose = ExtendedKeyUsageOID.SERVER_AUTH if self.hosts else ExtendedKeyUsageOID.CLIENT_AUTH
            builder = builder.add_extension(x509.ExtendedKeyUsage([purpose]), critical=False)
        if self.hosts:
            builder = builder.add_extension(x509.SubjectAlternativeName(_names(self.hosts)), critical=False)
        return builder.sign(key, SHA256())

    def _usage(self) -> x509.KeyUsage:
        signs = self.authority
        return x509.KeyUsage(
            digital_signature=not signs,
            key_cert_sign=signs,
            crl_sign=signs,
            content_commitment=False,
            key_encipherment=False,
            data_encipherment=False,
            key_agreement=False,
            encipher_only=False,
            decipher_only=False,
        )


def common_name(name: str) -> x509.Name:
    """A subject of one common name, of at most 64 characters."""
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])


def _names(hosts: Sequence[str]) -> list[x509.GeneralName]:
    return [_general_name(host) for host in dict.fromkeys(hosts)]


def _general_name(host: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ip_address(host))
    except ValueError:
        return x509.DNSName(host)


def as_pem(certificate: x509.Certificate) -> bytes:
    """As files and messages hold it."""
    return certificate.public_bytes(Encoding.PEM)
