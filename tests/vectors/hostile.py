"""What must be refused, and with which error: [name, operation, inputs, error]."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, TypeAlias

from protocols.identity import Identity
from protocols.pack import pack, unpack
from protocols.roster import RosterEntry
from protocols.secagg import SurvivorCertificate
from protocols.shamir import PRIME, split_secret
from tests.fuzz.samples import sealed_envelopes
from tests.protocols.secagg.cohort import Sum

Entry: TypeAlias = tuple[str, str, dict[str, Any], str]
ORDER = 2**252 + 27742317777372353535851937790883648493  # of Ed25519's base point (RFC 8032, 5.1)
_NUMBERS = {
    "empty": b"",
    "a leading zero": b"01",
    "a plus sign": b"+1",
    "a minus sign": b"-1",
    "a space": b" 1",
    "a fraction": b"1.0",
    "20 digits": b"1" * 20,
    "digits of another script": "١".encode(),
    "an underscore": b"1_0",
}


def hostile(done: Sum) -> list[Entry]:
    """Around one sum of the tiny cohort."""
    return [*_packs(), *_messages(done), *_rosters(done), *_signatures(), *_envelopes(done), *_shares(), *_terms(done), *_documents()]


def _packs() -> list[Entry]:
    field = _sized(b"a") + _sized(b"1")
    data = {
        "names in another order": _sized(b"b") + _sized(b"") + field,
        "a repeated name": field + field,
        "a trailing byte": field + b"\0",
        "a name without content": field + _sized(b"b"),
        "a length beyond the end": b"\2\0\0\0a",
        "a length of 2^32 - 1": b"\xff\xff\xff\xff" + b"a" * 8,
        "a length that is cut off": b"\1\0\0",
        "a name that is not UTF-8": _sized(b"\xff") + _sized(b""),
        "a name in overlong UTF-8": _sized(b"\xc0\x80") + _sized(b""),
        "half a surrogate pair as a name": _sized(b"\xed\xa0\x80") + _sized(b""),
    }
    return [_decoding(f"pack: {name}", "pack", content, "PackError") for name, content in data.items()]


def _messages(done: Sum) -> list[Entry]:
    manifest = done.manifest.to_bytes()
    data = {f"a number with {name}": _altered(manifest, {"round": number}) for name, number in _NUMBERS.items()}
    data |= {
        "an unknown field": _altered(manifest, {"weight": b"1"}),
        "a field for one institution": _altered(manifest, {"institution": b"ada"}),
        "a missing field": pack({name: part for name, part in unpack(manifest).items() if name != "slot"}),
        "a text that is not UTF-8": _altered(manifest, {"run": b"\xff"}),
        "a trailing byte": manifest + b"\0",
        "a cut end": manifest[:-1],
        "another message": done.proposal.to_bytes(),
    }
    entries = [_decoding(f"manifest: {name}", "SumManifest", content, "MalformedMessage") for name, content in data.items()]
    epoch, roots = done.cohort.epoch.to_bytes(), done.proposal.to_bytes()
    members = list(unpack(unpack(epoch)["members"]).values())
    lists = {
        "numbers without leading zeros": pack({str(number): name for number, name in enumerate(members)}),
        "a gap in its numbers": pack({f"{2 * number:09d}": name for number, name in enumerate(members)}),
    }
    entries += [_decoding(f"list: {n}", "EpochManifest", _altered(epoch, {"members": c}), "MalformedMessage") for n, c in lists.items()]
    repeated = _sized(b"ada") + _sized(bytes(32))
    return [
        *entries,
        _decoding("mapping: a repeated name", "SurvivorProposal", _altered(roots, {"roots": 2 * repeated}), "MalformedMessage"),
    ]


def _rosters(done: Sum) -> list[Entry]:
    entries = done.cohort.roster.entries
    lists = {
        "names in another order": entries[::-1],
        "a repeated name": (entries[0], entries[0]),
        "one key under two names": (entries[0], RosterEntry("zoe", entries[0].public_key)),
    }
    return [_decoding(f"roster: {name}", "Roster", _roster(content), "RosterError") for name, content in lists.items()]


def _signatures() -> list[Entry]:
    identity, message = Identity("ada", bytes(range(32))), b"consortium"
    signature, other = identity.sign(message), Identity("bio", bytes(32)).sign(message)
    shifted = (int.from_bytes(signature[32:], "little") + ORDER).to_bytes(32, "little")
    data = {
        "S + L in place of S": signature[:32] + shifted,
        "another's": other,
        "a cut end": signature[:-1],
        "a trailing byte": signature + b"\0",
        "zeros": bytes(64),
        "nothing": b"",
    }
    entries = [_verifying(f"signature: {name}", identity.public_key, message, content) for name, content in data.items()]
    keys = {"1": b"\1" + bytes(31), "1 with a sign": b"\1" + bytes(30) + b"\x80", "p + 1": b"\xee" + b"\xff" * 30 + b"\x7f"}
    entries += [_verifying(f"identity key of order 1: y = {y}", key, message, b"\1" + bytes(63)) for y, key in keys.items()]
    return [*entries, _verifying("identity key of 31 bytes", identity.public_key[:31], message, signature)]


def _envelopes(done: Sum) -> list[Entry]:
    sealed, key = sealed_envelopes(done)[0], done.cohort.identities["ada"].public_key
    signature, bare = unpack(sealed)["signature"], done.cohort.identities["ada"].sign(unpack(sealed)["envelope"])
    changed = _altered(unpack(sealed)["envelope"], {"recipient": b"bio"})
    data = {
        "another recipient": (_altered(sealed, {"envelope": changed}), "SignatureError"),
        "a signature without its tag": (_altered(sealed, {"signature": bare}), "SignatureError"),
        "a changed bit": (_altered(sealed, {"signature": bytes([signature[0] ^ 1]) + signature[1:]}), "SignatureError"),
        "a trailing byte": (sealed + b"\0", "MalformedMessage"),
        "no signature": (pack({"envelope": unpack(sealed)["envelope"]}), "MalformedMessage"),
    }
    opened = [(f"envelope: {n}", "open_envelope", {"public_key": key.hex(), "data": c.hex()}, e) for n, (c, e) in data.items()]
    strange = _altered(sealed, {"envelope": _altered(unpack(sealed)["envelope"], {"sender": b"eve"})})
    return [*opened, _decoding("envelope: a sender who is not on the roster", "envelope", strange, "RosterError")]


def _shares() -> list[Entry]:
    draws = iter([bytes([7]) * 56, bytes([9]) * 56])
    good, long = (split_secret(secret, 2, 3, lambda _: next(draws)) for secret in (bytes(range(32)), b"\1" + bytes(31) + b"\1"))
    data = {
        "the prime itself": {1: PRIME.to_bytes(33, "big"), 2: good[1]},
        "all ones": {1: b"\xff" * 33, 2: good[1]},
        "32 bytes": {1: good[0][1:], 2: good[1]},
        "34 bytes": {1: b"\0" + good[0], 2: good[1]},
        "a secret of 33 bytes": {1: long[0], 2: long[1]},
    }
    return [
        (f"shares: {name}", "combine", {"shares": {str(x): share.hex() for x, share in shares.items()}}, "ProtocolError")
        for name, shares in data.items()
    ]


def _terms(done: Sum) -> list[Entry]:
    cohort, certificate = done.cohort, done.certificate()
    terms: dict[str, tuple[dict[str, Any], str]] = {
        "a threshold of two": ({"threshold": 2}, "ThresholdError"),
        "three colluding": ({"colluding": 3}, "ThresholdError"),
        "another suite": ({"suite": "SA-0"}, "ProtocolError"),
        "an invented member": ({"members": ("ada", "bio", "cor", "zoe")}, "RosterError"),
        "members in another order": ({"members": cohort.epoch.members[::-1]}, "ProtocolError"),
        "no slots": ({"slots": 0}, "ProtocolError"),
        "another roster": ({"roster_hash": bytes(32)}, "ProtocolError"),
    }
    roster = cohort.roster.to_bytes().hex()
    entries: list[Entry] = [
        (f"epoch: {name}", "check_epoch", {"epoch": replace(cohort.epoch, **change).to_bytes().hex(), "roster": roster}, error)
        for name, (change, error) in terms.items()
    ]
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
    common = {"epoch": cohort.epoch.to_bytes().hex(), "roster": roster}
    for name, (manifest, shown, error) in certificates.items():
        inputs = common | {"manifest": manifest.to_bytes().hex(), "certificate": shown.to_bytes().hex()}
        entries.append((f"certificate: {name}", "verify_certificate", inputs, error))
    points = {"zero": bytes(32), "one": b"\1" + bytes(31), "31 bytes": bytes(31)}
    keys = cohort.keys["ada"].to_bytes()
    agreed = [(f"X25519 key: {n}", {"seed": "01" * 32, "keys": _altered(keys, {"x25519": c}).hex()}) for n, c in points.items()]
    return [*entries, *((name, "agree", inputs, "DishonestMember") for name, inputs in agreed)]


def _documents() -> list[Entry]:
    header = b'{"base_sha256": "", "experts": [], "round": 1}'
    states = {
        "keys in another order": b'{"round": 1, "experts": [], "base_sha256": ""}',
        "a round beyond every number": header.replace(b"1", b"1e999"),
        "nested lists": b"[" * 5000,
        "a round that is a truth value": header.replace(b"1", b"true"),
    }
    plans = {
        "not canonical": b'{"name": "a", "base": "b", "records": {"prompt": "{t}", "target": "{l}"}}',
        "half a surrogate pair": b'{"base":"b","name":"a","records":{"prompt":"\\ud800","target":"x"}}',
        "nested lists": b"[" * 5000,
        "UTF-16": '{"name":"a"}'.encode("utf-16"),
    }
    entries = [_decoding(f"state: {name}", "state_arrays", pack({"header": data}), "StateError") for name, data in states.items()]
    return entries + [_decoding(f"plan: {name}", "plan", data, "PlanError") for name, data in plans.items()]


def _signed_by(certificate: SurvivorCertificate, names: tuple[str, ...], signatures: Mapping[str, bytes]) -> SurvivorCertificate:
    return replace(certificate, signatures={name: signatures[name] for name in names})


def _exchanged(signatures: Mapping[str, bytes]) -> dict[str, bytes]:
    return dict(signatures) | {"ada": signatures["bio"], "bio": signatures["ada"]}


def _decoding(name: str, decoder: str, data: bytes, error: str) -> Entry:
    return name, "decode", {"decoder": decoder, "data": data.hex()}, error


def _verifying(name: str, key: bytes, message: bytes, signature: bytes) -> Entry:
    return name, "verify", {"public_key": key.hex(), "message": message.hex(), "signature": signature.hex()}, "SignatureError"


def _altered(message: bytes, changes: Mapping[str, bytes]) -> bytes:
    return pack(unpack(message) | dict(changes))


def _roster(entries: tuple[RosterEntry, ...]) -> bytes:
    return pack({"entries": pack({f"{number:09d}": entry.to_bytes() for number, entry in enumerate(entries)})})


def _sized(content: bytes) -> bytes:
    return len(content).to_bytes(4, "little") + content
