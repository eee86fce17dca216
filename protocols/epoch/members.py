"""A member's three stages: keys agreed once, secrets of every slot shared, all of it signed (PROTOCOL, section 2).

Each is a function from a state to the next state and the message to send; the coordinator relays messages. The incarnation is that
of the member's ledger when the stage is answered.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import TypeAlias

from cryptography.hazmat.primitives.asymmetric.mlkem import MLKEM768PrivateKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from protocols.epoch.channel import agree, decapsulate, derive_pair_seeds, encapsulate, open_sealed, seal, seal_recovery
from protocols.epoch.checks import SECRETS, certified, check_incarnation, check_keys, check_part_share, check_relayed, keys_hash, setup_hash
from protocols.epoch.messages import EpochState, KeysMessage, KeysState, RelayedShares, SharesHeader, SharesMessage, SharesPart, SharesState
from protocols.epoch.published import Confirmation, commit_row
from protocols.epoch.terms import EpochManifest
from protocols.errors import DishonestMember, ProtocolError
from protocols.identity import Identity
from protocols.keys import commit
from protocols.roster import Roster
from protocols.shamir import SECRET_BYTES, SHARE_BYTES, split_secret

Randomness: TypeAlias = Callable[[int], bytes]


def begin_epoch(
    manifest: EpochManifest, identity: Identity, roster: Roster, coordinator_key: bytes, randomness: Randomness, incarnation: int = 1
) -> tuple[KeysState, KeysMessage]:
    """Stage 1: checks the terms and makes fresh channel keys."""
    manifest.check(roster, coordinator_key)
    if identity.name not in manifest.members or roster.key_of(identity.name) != identity.public_key:
        raise ProtocolError(f"{identity.name} is not a member of this epoch under its own key")
    seed, mlkem_seed = randomness(32), randomness(64) if manifest.uses_mlkem else b""
    x25519 = X25519PrivateKey.from_private_bytes(seed).public_key().public_bytes_raw()
    mlkem = MLKEM768PrivateKey.from_seed_bytes(mlkem_seed).public_key().public_bytes_raw() if mlkem_seed else b""
    message = KeysMessage(identity.name, incarnation, manifest.hash, x25519, mlkem, b"").signed_by(identity.sign)
    entries = {name: roster.key_of(name) for name in manifest.members}
    return KeysState(manifest, identity.name, seed, mlkem_seed, message, entries), message


def deal_shares(
    state: KeysState, keys: Mapping[str, KeysMessage], randomness: Randomness, identity: Identity, incarnation: int = 1
) -> tuple[SharesState, SharesMessage]:
    """Stage 2: draws every slot's secrets and seals each member's shares of them."""
    manifest, me = state.manifest, state.sender
    check_keys(manifest, keys, state.entries)
    if keys[me] != state.own:
        raise ProtocolError(f"the keys relayed as those of {me} are not its own; the coordinator altered them")
    check_incarnation(me, state.own.incarnation, incarnation)
    private = X25519PrivateKey.from_private_bytes(state.seed)
    agreed = {name: agree(private, keys[name]) for name in manifest.members if name != me}
    encapsulated = {name: encapsulate(manifest, keys[name]) for name in agreed}
    pairs = [(randomness(SECRET_BYTES), randomness(SECRET_BYTES)) for _ in range(manifest.slots)]
    dealt = _deal(manifest, pairs, randomness)
    parts = tuple(_part(manifest, me, name, dealt[name], agreed.get(name, b""), *encapsulated.get(name, (b"", b""))) for name in dealt)
    commitments = b"".join(commit(kind, secret) for pair in pairs for kind, secret in zip(SECRETS, pair, strict=True))
    hashes = b"".join(part.hash for part in parts)
    header = SharesHeader(me, incarnation, manifest.hash, keys_hash(keys), commitments, hashes, b"").signed_by(identity.sign)
    kept = SharesState(
        keys=replace(state, seed=b""),  # nothing is agreed with it any more
        keys_messages=dict(keys),
        agreed=agreed,
        kem_secrets={name: secret for name, (secret, _) in encapsulated.items()},
        self_seeds=tuple(self_seed for self_seed, _ in pairs),
        recovery_secrets=tuple(recovery for _, recovery in pairs),
        own_shares=b"".join(dealt[me]),
        own_hash=header.hash,
    )
    return kept, SharesMessage(header, parts)


def confirm_epoch(
    state: SharesState, shares: Mapping[str, RelayedShares], identity: Identity, incarnation: int = 1
) -> tuple[EpochState, Confirmation]:
    """Stage 3: opens and checks all shares, derives all pair seeds, forgets the channel keys, and signs the setup."""
    manifest, me = state.keys.manifest, state.keys.sender
    check_relayed(manifest, state.keys_messages, shares, state.keys.entries, me)
    if shares[me].header.hash != state.own_hash:
        raise ProtocolError(f"the shares relayed as those of {me} are not its own; the coordinator altered them")
    check_incarnation(me, state.keys.own.incarnation, incarnation)
    held, pair_seeds = {me: state.own_shares}, {}
    private = MLKEM768PrivateKey.from_seed_bytes(state.keys.mlkem_seed) if state.keys.mlkem_seed else None
    for dealer in state.agreed:
        received = decapsulate(private, shares[dealer])
        held[dealer] = open_sealed(state.agreed[dealer] + received, manifest, dealer, me, shares[dealer].part.sealed)
        _check_dealt(manifest, shares[dealer], held[dealer])
        pair_seeds[dealer] = derive_pair_seeds(manifest, me, dealer, state.agreed[dealer], state.kem_secrets[dealer], received)
    setup, committed = setup_hash(manifest, state.keys_messages, shares), {dealer: shares[dealer].header.commitments for dealer in shares}
    epoch = EpochState(manifest, me, setup, state.self_seeds, pair_seeds, held, committed)
    return epoch, _confirmation(epoch, state.recovery_secrets, identity, incarnation)


def _deal(manifest: EpochManifest, pairs: list[tuple[bytes, bytes]], randomness: Randomness) -> dict[str, list[bytes]]:
    """Each member's shares: of self seed and recovery secret, slot by slot."""
    shares = [split_secret(secret, manifest.threshold, manifest.n, randomness) for pair in pairs for secret in pair]
    return {name: list(dealt) for name, dealt in zip(manifest.members, zip(*shares, strict=True), strict=True)}


def _part(
    manifest: EpochManifest, me: str, recipient: str, shares: list[bytes], ecdh: bytes, secret: bytes, ciphertext: bytes
) -> SharesPart:
    sealed = seal(ecdh + secret, manifest, me, recipient, b"".join(shares)) if recipient != me else b""
    return SharesPart(ciphertext, sealed, b"".join(commit("share", share) for share in shares))


def _check_dealt(manifest: EpochManifest, dealt: RelayedShares, held: bytes) -> None:
    if len(held) != 2 * SHARE_BYTES * manifest.slots:
        raise DishonestMember(dealt.header.sender, "dealt shares of a wrong length; leave it out")
    for place in range(2 * manifest.slots):
        share = held[SHARE_BYTES * place : SHARE_BYTES * (place + 1)]
        if not check_part_share(dealt.part, *divmod(place, 2), share):
            raise DishonestMember(dealt.header.sender, "dealt a share that it did not commit to; leave it out")


def _confirmation(epoch: EpochState, recovery_secrets: tuple[bytes, ...], identity: Identity, incarnation: int) -> Confirmation:
    manifest, me = epoch.manifest, epoch.sender
    by_slot = [{name: seeds[slot] for name, seeds in epoch.pair_seeds.items()} for slot in range(manifest.slots)]
    rows = tuple(commit_row(manifest, me, seeds) for seeds in by_slot)
    recoveries = enumerate(zip(recovery_secrets, by_slot, strict=True))
    envelopes = tuple(seal_recovery(manifest, me, slot, recovery, seeds) for slot, (recovery, seeds) in recoveries)
    unsigned = Confirmation(me, incarnation, epoch.setup_hash, rows, envelopes, b"")
    return replace(unsigned, signature=identity.sign(certified(manifest, epoch.setup_hash, unsigned.published)))
