"""Terms, signatures and openings of one sum that must be refused: [name, operation, inputs, error]."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, TypeAlias

from protocols.lanes import LaneFormat
from protocols.pack import pack, unpack
from protocols.secagg import SurvivorCertificate, UploadRoot
from tests.protocols.secagg.cohort import Sum

Entry: TypeAlias = tuple[str, str, dict[str, Any], str]


def hostile_terms(done: Sum) -> list[Entry]:
    """Around one sum of the tiny cohort."""
    cohort = done.cohort
    terms: dict[str, tuple[dict[str, Any], str]] = {
        "a threshold of two": ({"threshold": 2}, "ThresholdError"),
        "three colluding": ({"colluding": 3}, "ThresholdError"),
        "another suite": ({"suite": "SA-0"}, "ProtocolError"),
        "an invented member": ({"members": ("ada", "bio", "cor", "zoe")}, "RosterError"),
        "members in another order": ({"members": cohort.epoch.members[::-1]}, "ProtocolError"),
        "no slots": ({"slots": 0}, "ProtocolError"),
        "another roster": ({"roster_hash": bytes(32)}, "ProtocolError"),
    }
    coordinator = cohort.coordinator.public_key.hex()
    common = {"roster": cohort.roster.to_bytes().hex(), "coordinator": coordinator}
    entries: list[Entry] = []
    for name, (change, error) in terms.items():
        signed = replace(cohort.epoch, **change).signed_by(cohort.coordinator.sign)
        entries.append((f"epoch: {name}", "check_epoch", common | {"epoch": signed.to_bytes().hex()}, error))
    unsigned = replace(cohort.epoch, slots=2).to_bytes().hex()
    entries.append(("epoch: terms that were not signed", "check_epoch", common | {"epoch": unsigned}, "SignatureError"))
    return [*entries, *_manifests(done, coordinator), *_certificates(done), *_keys(done), *_rows(done)]


def _manifests(done: Sum, coordinator: str) -> list[Entry]:
    changes: dict[str, tuple[dict[str, Any], str]] = {
        "another epoch": ({"epoch_hash": bytes(32)}, "ProtocolError"),
        "a slot beyond the last": ({"slot": 1}, "ProtocolError"),
        "lanes of 16 bits": ({"lanes": LaneFormat(3, 0, 16)}, "EncodingError"),
        "more wide lanes than lanes": ({"lanes": LaneFormat(3, 4, 24)}, "EncodingError"),
    }
    sign = done.cohort.coordinator.sign
    manifests = {name: (replace(done.manifest, **change).signed_by(sign), error) for name, (change, error) in changes.items()}
    manifests["another's signature"] = (done.manifest.signed_by(done.cohort.identities["ada"].sign), "SignatureError")
    manifests["a changed round"] = (replace(done.manifest, round=2), "SignatureError")
    common = {"epoch": done.cohort.epoch.to_bytes().hex(), "coordinator": coordinator}
    checked: list[Entry] = [
        (f"sum: {name}", "check_manifest", common | {"manifest": manifest.to_bytes().hex()}, error)
        for name, (manifest, error) in manifests.items()
    ]
    return [*checked, *_roots(done)]


def _roots(done: Sum) -> list[Entry]:
    upload, other = done.uploads["ada"], done.uploads["bio"]
    roots = {
        "another's name": UploadRoot("bio", upload.root, upload.signature),
        "another's root": UploadRoot("ada", other.root, upload.signature),
        "no signature": UploadRoot("ada", upload.root, b""),
    }
    common = {"manifest": done.manifest.to_bytes().hex(), "roster": done.cohort.roster.to_bytes().hex()}
    entries: list[Entry] = [
        (f"upload root: {name}", "check_root", common | {"root": root.to_bytes().hex()}, "SignatureError") for name, root in roots.items()
    ]
    another = replace(done.manifest, attempt=2).to_bytes().hex()
    signed = UploadRoot("ada", upload.root, upload.signature).to_bytes().hex()
    return [*entries, ("upload root: of another manifest", "check_root", common | {"manifest": another, "root": signed}, "SignatureError")]


def _certificates(done: Sum) -> list[Entry]:
    certificate = done.certificate()
    signatures = dict(certificate.signatures)
    certificates = {
        "roots of another manifest": (replace(done.manifest, attempt=2), certificate, "ProtocolError"),
        "two signatures": (done.manifest, _signed_by(certificate, ("ada", "bio"), signatures), "TooFewSurvivors"),
        "a signature under another name": (done.manifest, replace(certificate, signatures=_exchanged(signatures)), "SignatureError"),
        "a signature by one outside the set": (
            done.manifest, replace(certificate, signatures=signatures | {"dom": signatures["ada"]}), "SignatureError",
        ),
        "a changed root": (
            done.manifest,
            replace(certificate, proposal=replace(certificate.proposal, roots=dict(certificate.proposal.roots) | {"ada": bytes(32)})),
            "SignatureError",
        ),
    }  # fmt: skip
    common = {"epoch": done.cohort.epoch.to_bytes().hex(), "roster": done.cohort.roster.to_bytes().hex()}
    return [
        (
            f"certificate: {name}",
            "verify_certificate",
            common | {"manifest": manifest.to_bytes().hex(), "certificate": shown.to_bytes().hex()},
            error,
        )
        for name, (manifest, shown, error) in certificates.items()
    ]


def _keys(done: Sum) -> list[Entry]:
    points = {"zero": bytes(32), "one": b"\1" + bytes(31), "31 bytes": bytes(31)}
    keys = done.cohort.keys["ada"].to_bytes()
    agreed = {name: {"seed": "01" * 32, "keys": altered(keys, {"x25519": point}).hex()} for name, point in points.items()}
    return [(f"X25519 key: {name}", "agree", inputs, "DishonestMember") for name, inputs in agreed.items()]


def _rows(done: Sum) -> list[Entry]:
    shown, seed = done.setup.confirmations["ada"].shown(0), done.states["ada"].pair_seeds["bio"][0]
    cases = {
        "another seed": (0, shown, bytes(32)),
        "another slot": (1, shown, seed),
        "another row": (0, replace(shown, row=bytes(96)), seed),
        "another incarnation": (0, replace(shown, incarnation=2), seed),
        "another's envelopes": (0, replace(shown, envelopes_hash=bytes(32)), seed),
    }
    common = {"epoch": done.cohort.epoch.to_bytes().hex(), "certificate": done.setup.to_bytes().hex(), "member": "ada", "other": "bio"}
    return [
        (
            f"pair seed: {name}",
            "check_pair_seed",
            common | {"slot": slot, "shown": row.to_bytes().hex(), "seed": opened.hex()},
            "ProtocolError",
        )
        for name, (slot, row, opened) in cases.items()
    ]


def _signed_by(certificate: SurvivorCertificate, names: tuple[str, ...], signatures: Mapping[str, bytes]) -> SurvivorCertificate:
    return replace(certificate, signatures={name: signatures[name] for name in names})


def _exchanged(signatures: Mapping[str, bytes]) -> dict[str, bytes]:
    return dict(signatures) | {"ada": signatures["bio"], "bio": signatures["ada"]}


def altered(message: bytes, changes: Mapping[str, bytes]) -> bytes:
    return pack(unpack(message) | dict(changes))
