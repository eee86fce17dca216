"""A member's three stages: keys agreed once, secrets of every slot shared, all of it signed (PROTOCOL, section 2).

Each is a function from a state to the next state and the message to send; the coordinator relays messages.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TypeAlias

from cryptography.hazmat.primitives.asymmetric.mlkem import MLKEM768PrivateKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from protocols.epoch.channel import agree, decapsulate, derive_pair_seeds, encapsulate, open_sealed, seal, seal_recovery
from protocols.epoch.checks import SECRETS, certified, check_keys, check_share, check_shares, enveloped, keys_hash, setup_hash
from protocols.epoch.messages import Confirmation, EpochState, KeysMessage, KeysState, SharesMessage, SharesState
from protocols.epoch.terms import EpochManifest
from protocols.errors import DishonestMember, ProtocolError
from protocols.identity import Identity
from protocols.keys import commit
from protocols.roster import Roster
from protocols.shamir import SECRET_BYTES, SHARE_BYTES, split_secret

Randomness: TypeAlias = Callable[[int], bytes]


def begin_epoch(manifest: EpochManifest, identity: Identity, roster: Roster, randomness: Randomness) -> tuple[KeysState, KeysMessage]:
    """Stage 1: checks the terms and makes fresh channel keys."""
    manifest.check(roster)
    if identity.name not in manifest.members or roster.key_of(identity.name) != identity.public_key:
        raise ProtocolError(f"{identity.name} is not a member of this epoch under its own key")
    seed, mlkem_seed = randomness(32), randomness(64)
    x25519 = X25519PrivateKey.from_private_bytes(seed).public_key().public_bytes_raw()
    mlkem = MLKEM768PrivateKey.from_seed_bytes(mlkem_seed).public_key().public_bytes_raw()
    unsigned = KeysMessage(identity.name, manifest.hash, x25519, mlkem, b"")
    message = KeysMessage(unsigned.sender, unsigned.epoch_hash, x25519, mlkem, identity.sign(unsigned.signed()))
    entries = {name: roster.key_of(name) for name in manifest.members}
    return KeysState(manifest, identity.name, seed, mlkem_seed, message, entries), message


def deal_shares(
    state: KeysState, keys: Mapping[str, KeysMessage], randomness: Randomness, identity: Identity
) -> tuple[SharesState, SharesMessage]:
    """Stage 2: draws every slot's secrets and seals each member's shares of them."""
    manifest, me = state.manifest, state.sender
    check_keys(manifest, keys, state.entries)
    if keys[me] != state.own:
        raise ProtocolError(f"the keys relayed as those of {me} are not its own; the coordinator altered them")
    seeds = [(randomness(SECRET_BYTES), randomness(SECRET_BYTES)) for _ in range(manifest.slots)]
    shares = [[split_secret(s, manifest.threshold, manifest.n, randomness) for s in pair] for pair in seeds]
    dealt = {m: b"".join(s[manifest.number(m) - 1] for pair in shares for s in pair) for m in manifest.members}
    others = [name for name in manifest.members if name != me]
    encapsulated = {name: encapsulate(keys[name]) for name in others}
    ecdh = {name: agree(state.seed, keys[name]) for name in others}
    secrets = {name: encapsulated[name][0] for name in others}
    message = SharesMessage(
        sender=me,
        epoch_hash=manifest.hash,
        keys_hash=keys_hash(keys),
        ciphertexts={name: encapsulated[name][1] for name in others},
        sealed={name: seal(ecdh[name] + secrets[name], manifest, me, name, dealt[name]) for name in others},
        commitments=b"".join(commit(kind, s) for pair in seeds for kind, s in zip(SECRETS, pair, strict=True)),
        share_commitments=_share_commitments(shares, manifest.n),
        signature=b"",
    )
    message = SharesMessage(**{**message.__dict__, "signature": identity.sign(message.signed())})
    own = {me: dealt[me]}
    selves, recoveries = tuple(b for b, _ in seeds), tuple(r for _, r in seeds)
    return SharesState(state, dict(keys), secrets, selves, recoveries, own, message.hash), message


def confirm_epoch(state: SharesState, shares: Mapping[str, SharesMessage], identity: Identity) -> tuple[EpochState, bytes]:
    """Stage 3: opens and checks all shares, derives all pair seeds, forgets the channel keys, and signs the setup."""
    manifest, me = state.keys.manifest, state.keys.sender
    check_shares(manifest, state.keys_messages, shares, state.keys.entries)
    if shares[me].hash != state.own_hash:
        raise ProtocolError(f"the shares relayed as those of {me} are not its own; the coordinator altered them")
    held, pair_seeds = dict(state.own_shares), {}
    private = MLKEM768PrivateKey.from_seed_bytes(state.keys.mlkem_seed)
    for dealer in manifest.members:
        if dealer == me:
            continue
        ecdh = agree(state.keys.seed, state.keys_messages[dealer])
        received = decapsulate(private, shares[dealer], me)
        held[dealer] = open_sealed(ecdh + received, manifest, dealer, me, shares[dealer].sealed[me])
        _check_dealt(manifest, shares[dealer], me, held[dealer])
        pair_seeds[dealer] = derive_pair_seeds(manifest, me, dealer, ecdh, state.kem_secrets[dealer], received)
    setup = setup_hash(manifest, state.keys_messages, shares)
    epoch = EpochState(manifest, me, setup, state.self_seeds, pair_seeds, held)
    envelopes = tuple(
        seal_recovery(manifest, me, slot, recovery, {name: seeds[slot] for name, seeds in pair_seeds.items()})
        for slot, recovery in enumerate(state.recovery_secrets)
    )
    signature = identity.sign(certified(manifest, setup))
    return epoch, Confirmation(me, setup, envelopes, signature, identity.sign(enveloped(manifest, setup, envelopes))).to_bytes()


def _check_dealt(manifest: EpochManifest, message: SharesMessage, me: str, held: bytes) -> None:
    if len(held) != 2 * SHARE_BYTES * manifest.slots:
        raise DishonestMember(message.sender, "dealt shares of a wrong length; leave it out")
    for slot in range(manifest.slots):
        for secret in (0, 1):
            start = SHARE_BYTES * (2 * slot + secret)
            if not check_share(message, manifest, slot, me, secret, held[start : start + SHARE_BYTES]):
                raise DishonestMember(message.sender, "dealt a share that it did not commit to; leave it out")


def _share_commitments(shares: list[list[list[bytes]]], n: int) -> bytes:
    return b"".join(commit("share", dealt[member]) for pair in shares for member in range(n) for dealt in pair)
