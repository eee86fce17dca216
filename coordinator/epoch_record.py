"""A certified epoch on the coordinator's disk: a later process goes on with it, and its certificate is verified again."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from coordinator.errors import JobError
from protocols.epoch import EpochCertificate, EpochManifest, KeysMessage, SharesMessage, certify_epoch
from protocols.errors import ConsortiumError
from protocols.files import write_file
from protocols.pack import pack, unpack
from protocols.roster import Roster


def keep_epoch(
    folder: Path,
    manifest: EpochManifest,
    keys: Mapping[str, KeysMessage],
    shares: Mapping[str, SharesMessage],
    confirmations: Mapping[str, bytes],
) -> None:
    """Writes every setup message; the manifest last, because it says that the others are there."""
    write_file(folder / "keys", pack({name: message.to_bytes() for name, message in keys.items()}))
    write_file(folder / "shares", pack({name: message.to_bytes() for name, message in shares.items()}))
    write_file(folder / "confirmations", pack(confirmations))
    write_file(folder / "manifest", manifest.to_bytes())


def load_epoch(folder: Path, roster: Roster) -> tuple[EpochManifest, EpochCertificate] | None:
    """What `keep_epoch` wrote; None if the setup was never finished.

    Raises:
        JobError: a file is damaged.
    """
    if not (folder / "manifest").exists():
        return None
    try:
        manifest = EpochManifest.from_bytes((folder / "manifest").read_bytes())
        keys = {name: KeysMessage.from_bytes(data) for name, data in unpack((folder / "keys").read_bytes()).items()}
        shares = {name: SharesMessage.from_bytes(data) for name, data in unpack((folder / "shares").read_bytes()).items()}
        return manifest, certify_epoch(manifest, roster, keys, shares, unpack((folder / "confirmations").read_bytes()))
    except (OSError, ConsortiumError):
        raise JobError(f"{folder}: the epoch's files are damaged; start the plan again in a new directory") from None
