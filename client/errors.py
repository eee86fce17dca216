"""What goes wrong at an institution; each text is one sentence that says where and what to do."""

from __future__ import annotations

from protocols.errors import ConsortiumError


class SettingsError(ConsortiumError):
    """An `institution.toml` that cannot be read, or asks for what cannot be honoured."""


class RecordError(ConsortiumError):
    """Records, or templates for them, that cannot be used. No value of a record is ever part of the text."""


class StorageError(ConsortiumError):
    """What must be on disk before an answer cannot be written; nothing was answered, and nothing changed."""


class LedgerError(ConsortiumError):
    """The ledger is damaged, or not the one that this institution used last."""


class ServiceUnreachable(ConsortiumError):
    """The registry service does not answer, or is not the one that the operator's certificate names."""


class CertificateExpired(ConsortiumError):
    """This institution's certificate is of no use any more."""


class ServiceRefused(ConsortiumError):
    """The registry service answered that it will not do what was asked; the sentence is its own."""


class JoiningError(ConsortiumError):
    """An invitation, or a folder to join from, that cannot be used."""


class WithdrawalUntold(ConsortiumError):
    """This institution has withdrawn, and the coordinator could not be told."""


class BackupError(ConsortiumError):
    """A backup that cannot be made or restored; what was there before is unchanged."""
