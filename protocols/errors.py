"""Errors that a user may read: each text is one sentence saying what is wrong, where, and what to do."""

from __future__ import annotations


class ConsortiumError(Exception):
    """Base of every error of ours; its text is shown as it is, without a traceback."""


class PlanError(ConsortiumError):
    """A plan that cannot be read, or asks for what cannot be honoured."""


class PolicyError(ConsortiumError):
    """A plan or manifest that an institution's own policy does not allow."""


class PrivacyError(ConsortiumError):
    """Terms of differential privacy that promise nothing or cannot be met, or values outside what was accounted for."""


class StateError(ConsortiumError):
    """A federated state that cannot be read, or is not the one that was announced."""


class UpdateError(ConsortiumError):
    """A local update that does not fit the plan, or holds a number that is not finite."""


class Refusal(ConsortiumError):
    """A request that a node declines, with the reason that travels back to the coordinator."""


class Contradiction(Refusal):
    """A request against what this node has promised before; with the earlier request, both signed, it is evidence."""

    def __init__(self, sentence: str, earlier: bytes = b"") -> None:
        super().__init__(sentence)
        self.earlier = earlier


class AnotherSet(Contradiction):
    """Inputs that this node has bound to another set for ever; `members` are those of the set that it signed."""

    def __init__(self, sentence: str, earlier: bytes, members: tuple[str, ...]) -> None:
        super().__init__(sentence, earlier)
        self.members = members


class ProtocolError(ConsortiumError):
    """A step of the secure sum that breaks its rules; nothing was released and nothing changed."""


class ChainError(ProtocolError):
    """An event chain that is not shown to extend the one before."""


class MalformedMessage(ProtocolError):
    """Bytes that are not a message in its one allowed form."""


class SignatureError(ProtocolError):
    """A signature that is not the named institution's."""


class RosterError(ProtocolError):
    """An institution that is not on the roster, or a roster that contradicts itself."""


class UnacceptedMembers(RosterError):
    """An epoch has members that this institution's own roster does not have, or not with the keys that the epoch names."""

    def __init__(self, members: tuple[str, ...], sentence: str) -> None:
        super().__init__(sentence)
        self.members = members


class ThresholdError(ProtocolError):
    """Terms under which a sum would not be safe."""


class TooFewSurvivors(ProtocolError):
    """Fewer institutions than the threshold: nothing is opened."""


class DishonestMember(ProtocolError):
    """A member that sent something provably wrong."""

    def __init__(self, member: str, fault: str) -> None:
        super().__init__(f"{member} {fault}")
        self.member = member


class PartsError(ProtocolError):
    """An update's set that is not within the one over which its parts were counted."""


class FlatRoutingError(ConsortiumError):
    """Experts that are all used alike, so that none can be chosen; asking again would count the same."""


class ProposalError(ProtocolError):
    """What the coordinator proposes beside a total, where it does not hold or nothing is due."""


class ParticipationError(ProtocolError):
    """A sum is of others than the plan's batches say."""


class RebalanceError(ProposalError):
    """A proposal for LoRA factors that changes more than their coordinates."""


class EncodingError(ProtocolError):
    """A vector or layout that does not fit its lanes."""


class WrongTotal(ProtocolError):
    """A published total that is not the sum of what its survivors sent; with what was shown it is proof."""


class NoProof(ProtocolError):
    """What is shown as proof of a fault proves none."""


class BundleError(ConsortiumError):
    """The installed packages make no bundle that Flower takes."""


class FlowerAway(ConsortiumError):
    """A Flower process did not answer for as long as was to be waited; what was asked may be asked again."""


class FlowerRefused(ConsortiumError):
    """A Flower process answered that it will not do what it was asked; `status` is that of HTTP."""

    def __init__(self, sentence: str, status: int = 0) -> None:
        super().__init__(sentence)
        self.status = status


class ReleaseBroken(ConsortiumError):
    """A model version's files are not those that were released and signed."""
