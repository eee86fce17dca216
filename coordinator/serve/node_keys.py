"""Which SuperNodes may connect: those of institutions that were approved and not revoked."""

from __future__ import annotations

from collections.abc import Callable

from coordinator.errors import NodeKeyError
from coordinator.flower_link import FlowerLink, node_key_pem
from coordinator.registry.registry import Registry
from protocols.errors import FlowerRefused


class NodeKeys:
    """The registry's participants, as SuperLink and fence are told of them."""

    def __init__(self, registry: Registry, link: FlowerLink, say: Callable[[str], None]) -> None:
        self._registry = registry
        self._link = link
        self._say = say
        self._admitted: frozenset[str] = frozenset()  # as OpenSSH writes a key
        self._told: frozenset[str] = frozenset()  # what the SuperLink has, as far as is known
        self._refused: set[str] = set()

    def is_admitted(self, public_key: str) -> bool:
        """Whether a node with this key (OpenSSH) may pass the fence; safe to ask from any thread."""
        return public_key in self._admitted

    def forget(self) -> None:
        """After the SuperLink began anew: it is told everything again."""
        self._told = frozenset()

    def admit(self) -> None:
        """Reads who may pass the fence now; a revoked institution's node is shut out at once."""
        participants = self._registry.participants()
        self._admitted = frozenset(one.node_key for one in participants if one.node_key and one.revoked_at is None)

    def tell(self) -> None:
        """Registers and unregisters keys at the SuperLink where they differ. Raises FlowerAway if it does not answer."""
        wanted = self._admitted - self._refused
        if wanted == self._told:
            return
        keys = {node_key_pem(key) for key in wanted}
        for node in self._link.nodes():
            if node.public_key not in keys:
                self._link.unregister_node(node.public_key)
        for key in sorted(wanted):
            self._register(key)
        self._told = wanted - self._refused

    def _register(self, key: str) -> None:
        try:
            self._link.register_node(key)
        except (NodeKeyError, FlowerRefused) as error:
            self._refused.add(key)  # Flower takes no key again that was unregistered once
            self._say(f"a node's key was not registered: {error}")
