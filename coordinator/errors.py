"""What the operator may be told; each text is one sentence."""

from __future__ import annotations

from protocols.errors import ConsortiumError


class RegistryError(ConsortiumError):
    """The registry cannot be opened, or was asked for what it does not hold."""


class IllegalTransition(RegistryError):
    """A run was sent to a state that its present state does not lead to."""


class LeaseHeld(RegistryError):
    """Another process drives this run."""


class LeaseLost(RegistryError):
    """Another process took over what this one drove; nothing was written."""


class ChainBroken(RegistryError):
    """The event chain is not as it was written; the text names the event."""


class ReleaseRefused(ConsortiumError):
    """A model version does not meet the plan's requirements, or cannot be written."""


class SettingsError(ConsortiumError):
    """The coordinator's settings cannot be read."""


class JobError(ConsortiumError):
    """A running plan cannot go on; the registry records the same sentence."""


class Shortage(JobError):
    """Too few institutions take part now; the run can go on when they are back."""


class Unaccepted(Shortage):
    """Enough institutions are there, and people at some have yet to accept the identity of another."""


class SetLost(JobError):
    """The set that was proposed for a sum can never be signed, and no other one may take its place."""


class RunStopped(JobError):
    """The operator stopped the run."""


class NodeKeyError(ConsortiumError):
    """What an institution sent as its node's public key is none."""


class TooManyCalls(ConsortiumError):
    """One caller asks for more at once than it may; asked again later, it is answered."""


class NotAuthorised(ConsortiumError):
    """A caller whose certificate does not allow what it asks for."""


class AdmissionError(ConsortiumError):
    """An invitation, a request to join or an approval that does not hold."""
