"""The three stages of an epoch's setup, as the coordinator asks for them: each gives what its members answered well, by name."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from coordinator.link import Link, Reply, Subject
from coordinator.payloads import Payloads
from protocols.epoch import (
    Confirmation,
    EpochManifest,
    KeysMessage,
    SharesMessage,
    read_confirmation,
    read_keys,
    read_shares,
    setup_hash,
)
from protocols.pack import pack
from protocols.roster import Roster


@dataclass(frozen=True, slots=True)
class Setup:
    """One attempt at an epoch; who is missing from an answer, and why, is in `link.missing`."""

    manifest: EpochManifest
    link: Link

    def keys(self) -> dict[str, KeysMessage]:
        def read(reply: Reply) -> KeysMessage:
            return read_keys(self.manifest, self._roster, reply.institution, reply.part("message"))

        payload = pack({"manifest": self.manifest.to_bytes(), "members": self._roster.to_bytes()})
        return self.link.decide(self._subject, "query.epoch_keys", dict.fromkeys(self.manifest.members, payload), read)

    def shares(self, keys: Mapping[str, KeysMessage]) -> dict[str, SharesMessage]:
        def read(reply: Reply) -> SharesMessage:
            return read_shares(self.manifest, self._roster, keys, reply.institution, reply.part("message"))

        payload = pack({"messages": pack({name: message.to_bytes() for name, message in keys.items()})})
        return self.link.decide(self._subject, "query.epoch_shares", dict.fromkeys(self.manifest.members, payload), read)

    def confirmations(self, keys: Mapping[str, KeysMessage], shares: Mapping[str, SharesMessage]) -> dict[str, Confirmation]:
        setup = setup_hash(self.manifest, keys, shares)

        def read(reply: Reply) -> Confirmation:
            name = reply.institution
            return read_confirmation(self.manifest, self._roster, setup, shares[name], name, reply.part("message"))

        def relayed(name: str) -> bytes:
            number = self.manifest.number(name)
            return pack({"messages": pack({dealer: message.relayed(number).to_bytes() for dealer, message in shares.items()})})

        return self.link.decide(self._subject, "query.epoch_confirm", Payloads(self.manifest.members, relayed), read)

    @property
    def _roster(self) -> Roster:
        return self.link.members.roster_of(self.manifest)

    @property
    def _subject(self) -> Subject:
        return Subject(0, "epoch", self.manifest.epoch, self.manifest.hash)
