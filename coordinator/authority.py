"""The operator's certificate authority, a folder. It is for TLS between operator and institutions, and says nothing in the protocol."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from coordinator.certificates import Draft, as_pem, certificate_sha256, check_request, common_name
from coordinator.errors import SettingsError
from protocols.curve_keys import TLS_CURVE, key_pem, load_tls_key, new_key, tls_key
from protocols.files import write_file

Clock = Callable[[], datetime]  # aware
Randomness = Callable[[int], bytes]

AUTHORITY_DAYS = 3650
BOOTSTRAP_DAYS = 90  # outlives the invitation, so that a late approval can still be fetched
INSTITUTION_DAYS = 730
LOOPBACK = ("localhost", "127.0.0.1")
_INSTITUTION, _INVITE = "institution:", "invite:"


@dataclass(frozen=True, slots=True)
class KeyPair:
    """A private key and its certificate, both PEM; the key is in no representation of the object."""

    key: bytes = field(repr=False)
    certificate: bytes


class Authority:
    """Issues and finds certificates; its folder holds `ca.pem`, `ca.key`, `server.pem`, `server.key` and `issued/`."""

    def __init__(
        self, folder: Path, key: ec.EllipticCurvePrivateKey, certificate: x509.Certificate, clock: Clock, draw: Randomness
    ) -> None:
        self._folder = folder
        self._key = key
        self._certificate = certificate
        self._clock = clock
        self._draw = draw

    @classmethod
    def create(cls, folder: Path, name: str, hosts: Sequence[str], clock: Clock, randomness: Randomness) -> Authority:
        """Makes the authority and the server's certificate for `hosts`; keys that an interrupted call left are used."""
        key = tls_key(folder / "ca.key", randomness)
        subject = common_name(f"{name} certificate authority"[:64])
        signed = Draft(subject, key.public_key(), AUTHORITY_DAYS, authority=True).signed(subject, key, clock(), randomness)
        write_file(folder / "ca.pem", as_pem(signed))
        made = cls(folder, key, signed, clock, randomness)
        server = tls_key(folder / "server.key", randomness)
        draft = Draft(common_name(name[:64]), server.public_key(), AUTHORITY_DAYS, hosts=(*hosts, *LOOPBACK))
        write_file(folder / "server.pem", as_pem(made._sign(draft)))
        return made

    @classmethod
    def open(cls, folder: Path, clock: Clock, randomness: Randomness) -> Authority:
        """The authority that `create` made.

        Raises:
            SettingsError: a file is missing or damaged.
        """
        try:
            certificate = x509.load_pem_x509_certificate((folder / "ca.pem").read_bytes())
        except (OSError, ValueError):
            raise SettingsError(f"{folder} holds no certificate authority; `consortium coordinator init` makes one") from None
        return cls(folder, load_tls_key(folder / "ca.key"), certificate, clock, randomness)

    @property
    def certificate_pem(self) -> bytes:
        """The authority's own certificate, by which institutions know the server."""
        return as_pem(self._certificate)

    def server_pair(self) -> tuple[bytes, bytes]:
        """Key and certificate (PEM) of fence, registry service and SuperLink."""
        return (self._folder / "server.key").read_bytes(), (self._folder / "server.pem").read_bytes()

    def bootstrap(self, name: str) -> KeyPair:
        """A certificate with its key, by which whoever holds it may ask to join under `name`; kept nowhere here."""
        key = new_key(TLS_CURVE, self._draw)
        draft = Draft(common_name(_INVITE + name), key.public_key(), BOOTSTRAP_DAYS)
        return KeyPair(key_pem(key), as_pem(self._sign(draft)))

    def issue(self, name: str, csr: str) -> str:
        """The SHA-256 (hexadecimal) of a new certificate for the request's key and the name given here; `issued` has the certificate.

        Raises:
            AdmissionError: it is no proper request.
        """
        draft = Draft(common_name(_INSTITUTION + name), check_request(csr), INSTITUTION_DAYS)
        pem = as_pem(self._sign(draft))
        digest = certificate_sha256(pem)
        write_file(self._issued(digest), pem)
        return digest

    def issued(self, digest: str) -> x509.Certificate:
        """An institution's certificate by its SHA-256.

        Raises:
            SettingsError: it is not among those that were issued here.
        """
        try:
            return x509.load_pem_x509_certificate(self._issued(digest).read_bytes())
        except (OSError, ValueError):
            raise SettingsError(f"{self._issued(digest)} is missing; restore the folder tls of the operator's home") from None

    def issued_to(self, digest: str) -> str | None:
        """The institution that a certificate was issued to, or None where it was issued to none."""
        if not self._issued(digest).exists():
            return None
        (subject,) = self.issued(digest).subject.get_attributes_for_oid(NameOID.COMMON_NAME)
        return str(subject.value).removeprefix(_INSTITUTION)

    def _issued(self, digest: str) -> Path:
        return self._folder / "issued" / f"{digest}.pem"

    def _sign(self, draft: Draft) -> x509.Certificate:
        return draft.signed(self._certificate.subject, self._key, self._clock(), self._draw)
