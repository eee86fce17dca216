"""Epochs: keys agreed once, secrets of every slot shared, all of it signed by all members (PROTOCOL, section 2)."""

from protocols.epoch.certificate import certify_epoch, read_confirmation, read_keys, read_shares, verify_epoch
from protocols.epoch.channel import open_recovery
from protocols.epoch.checks import check_opened_seeds, check_secret, check_share, setup_hash
from protocols.epoch.members import begin_epoch, confirm_epoch, deal_shares
from protocols.epoch.messages import EpochState, KeysMessage, KeysState, RelayedShares, SharesMessage, SharesState
from protocols.epoch.published import Confirmation, EpochCertificate, ShownRow, check_pair_seed, disputed_pairs
from protocols.epoch.terms import EpochManifest, check_threshold, threshold
from protocols.suites import SUITE

__all__ = [
    "SUITE",
    "Confirmation",
    "EpochCertificate",
    "EpochManifest",
    "EpochState",
    "KeysMessage",
    "KeysState",
    "RelayedShares",
    "SharesMessage",
    "SharesState",
    "ShownRow",
    "begin_epoch",
    "certify_epoch",
    "check_opened_seeds",
    "check_pair_seed",
    "check_secret",
    "check_share",
    "check_threshold",
    "confirm_epoch",
    "deal_shares",
    "disputed_pairs",
    "open_recovery",
    "read_confirmation",
    "read_keys",
    "read_shares",
    "setup_hash",
    "threshold",
    "verify_epoch",
]
