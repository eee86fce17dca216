"""A certified epoch on the coordinator's disk: a later process goes on with it, and its certificate is verified again."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from coordinator.errors import JobError
from protocols.epoch import (
    Confirmation,
    EpochCertificate,
    EpochManifest,
    KeysMessage,
    SharesMessage,
    certify_epoch,
    read_confirmation,
    read_keys,
    read_shares,
    setup_hash,
)
from protocols.errors import ConsortiumError
from protocols.files import write_file
from protocols.pack import pack, unpack
from protocols.parties import Parties


def keep_epoch(
    folder: Path,
    manifest: EpochManifest,
    keys: Mapping[str, KeysMessage],
    shares: Mapping[str, SharesMessage],
    confirmations: Mapping[str, Confirmation],
) -> None:
    """Writes every setup message; the manifest last, because it says that the others are there."""
    for name, messages in (("keys", keys), ("shares", shares), ("confirmations", confirmations)):
        write_file(folder / name, pack({member: message.to_bytes() for member, message in messages.items()}))
    write_file(folder / "manifest", manifest.to_bytes())


def load_epoch(folder: Path, parties: Parties) -> tuple[EpochManifest, EpochCertificate] | None:
    """What `keep_epoch` wrote; None if the setup was never finished.

    Raises:
        JobError: a file is damaged.
    """
    if not (folder / "manifest").exists():
        return None
    try:
        manifest = EpochManifest.from_bytes((folder / "manifest").read_bytes())
        roster = parties.roster_of(manifest)
        stored = {name: unpack((folder / name).read_bytes()) for name in ("keys", "shares", "confirmations")}
        keys = {name: read_keys(manifest, roster, name, data) for name, data in stored["keys"].items()}
        shares = {name: read_shares(manifest, roster, keys, name, data) for name, data in stored["shares"].items()}
        setup = setup_hash(manifest, keys, shares)
        confirmed = stored["confirmations"].items()
        confirmations = {name: read_confirmation(manifest, roster, setup, shares[name], name, data) for name, data in confirmed}
        return manifest, certify_epoch(manifest, keys, shares, confirmations)
    except (OSError, KeyError, ConsortiumError):
        raise JobError(f"{folder}: the epoch's files are damaged; start the plan again in a new directory") from None
