"""Epochs: keys agreed once, secrets of every slot shared, all of it signed by all members (PROTOCOL, section 2)."""

from protocols.epoch.certificate import certify_epoch, read_confirmation, read_keys, read_shares, verify_epoch
from protocols.epoch.channel import open_recovery
from protocols.epoch.checks import check_secret, check_share, setup_hash
from protocols.epoch.members import begin_epoch, confirm_epoch, deal_shares
from protocols.epoch.messages import EpochCertificate, EpochState, KeysMessage, KeysState, SharesMessage, SharesState
from protocols.epoch.terms import SUITE, EpochManifest, check_threshold, threshold

__all__ = [
    "SUITE",
    "EpochCertificate",
    "EpochManifest",
    "EpochState",
    "KeysMessage",
    "KeysState",
    "SharesMessage",
    "SharesState",
    "begin_epoch",
    "certify_epoch",
    "check_secret",
    "check_share",
    "check_threshold",
    "confirm_epoch",
    "deal_shares",
    "open_recovery",
    "read_confirmation",
    "read_keys",
    "read_shares",
    "setup_hash",
    "threshold",
    "verify_epoch",
]
