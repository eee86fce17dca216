"""One whole sum of a tiny cohort from written-down randomness: what is drawn, and every byte that follows from it."""

from __future__ import annotations

import json
import random
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest.mock import patch

from cryptography.hazmat.primitives.asymmetric.mlkem import MLKEM768PublicKey

from protocols.epoch import channel
from protocols.secagg import open_seeds
from tests.protocols.secagg import cohort as cohorts
from tests.protocols.secagg.cohort import Cohort, Sum, collect, vectors
from tests.protocols.secagg.mask_streams import pair_mask, self_mask

SUM = Path(__file__).parent / "sum.json"


@dataclass
class Randomness:
    """Draws in their order: those that are written down, then those of the generator that a run asks for."""

    draws: list[bytes] = field(default_factory=list)
    encapsulations: dict[str, tuple[bytes, bytes]] = field(default_factory=dict)
    _next: int = 0
    _counts: dict[str, int] = field(default_factory=dict)

    @property
    def encapsulated(self) -> set[str]:
        """What of `encapsulations` was asked for."""
        return {f"{digest}/{number}" for digest, last in self._counts.items() for number in range(last + 1)}

    def generator(self, seed: int) -> SimpleNamespace:
        source = random.Random(seed)

        def randbytes(size: int) -> bytes:
            drawn = source.randbytes(size)
            if self._next == len(self.draws):
                self.draws.append(drawn)
            self._next += 1
            return self.draws[self._next - 1]

        return SimpleNamespace(randbytes=randbytes)

    def from_public_bytes(self, key: bytes) -> SimpleNamespace:
        """In place of ML-KEM's own class: its encapsulation takes no randomness, so that what it gave once is kept."""
        public = MLKEM768PublicKey.from_public_bytes(key)

        def encapsulate() -> tuple[bytes, bytes]:
            digest = sha256(key).hexdigest()
            number = self._counts[digest] = self._counts.get(digest, -1) + 1
            name = f"{digest}/{number}"
            if name not in self.encapsulations:
                self.encapsulations[name] = public.encapsulate()
            return self.encapsulations[name]

        return SimpleNamespace(encapsulate=encapsulate)


@contextmanager
def replayed(randomness: Randomness) -> Iterator[None]:
    """Within, a cohort draws from `randomness` alone."""
    source = SimpleNamespace(Random=randomness.generator)
    with patch.object(cohorts, "random", source), patch.object(channel, "MLKEM768PublicKey", randomness):
        yield


def replayed_sum(randomness: Randomness) -> Sum:
    """Four members, three uploads of three lanes, one slot; the fourth drops out after the setup."""
    with replayed(randomness):
        return collect(cohort=Cohort(slots=1))


def fresh_randomness() -> Randomness:
    """Nothing drawn; encapsulations to the same keys are those of the vector, so that unchanged formats give unchanged bytes."""
    return Randomness([], read_randomness(json.loads(SUM.read_text(encoding="utf-8"))).encapsulations if SUM.exists() else {})


def read_randomness(vector: Mapping[str, Any]) -> Randomness:
    """The draws and encapsulations of a vector."""
    pairs = {name: (bytes.fromhex(sent), bytes.fromhex(secret)) for name, (sent, secret) in vector["encapsulations"].items()}
    return Randomness([bytes.fromhex(draw) for draw in vector["draws"]], pairs)


def sum_vector(done: Sum, randomness: Randomness) -> dict[str, Any]:
    """The sum as the vector's JSON, bytes in hexadecimal."""
    return {
        "draws": [draw.hex() for draw in randomness.draws],
        "encapsulations": {name: [part.hex() for part in pair] for name, pair in sorted(randomness.encapsulations.items())},
        "inputs": {name: vectors(4)[name].astype("<u4").tobytes().hex() for name in done.uploads},
        "setup": _setup(done),
        "masks": {name: _masks(done, name) for name in done.uploads},
        "sum": _sum(done),
    }


def _setup(done: Sum) -> dict[str, Any]:
    cohort = done.cohort
    return {
        "roster": cohort.roster.to_bytes().hex(),
        "epoch_manifest": cohort.epoch.to_bytes().hex(),
        "epoch_hash": cohort.epoch.hash.hex(),
        "keys": _hex({name: message.to_bytes() for name, message in cohort.keys.items()}),
        "shares": _hex({name: message.to_bytes() for name, message in cohort.shares.items()}),
        "confirmations": _hex({name: _bytes(message) for name, (_, message) in cohort.confirmed().items()}),
        "states": _hex({name: state.to_bytes() for name, state in done.states.items()}),
        "certificate": done.setup.to_bytes().hex(),
    }


def _masks(done: Sum, name: str) -> dict[str, str]:
    """What a member adds: its self mask, and for each other member the pair mask with its sign."""
    state = done.states[name]
    masks = {"self": self_mask(state, done.manifest)}
    masks |= {other: pair_mask(state, other, done.manifest) for other in state.pair_seeds}
    return {whose: lanes.astype("<u4").tobytes().hex() for whose, lanes in masks.items()}


def _sum(done: Sum) -> dict[str, Any]:
    certificate, answers = done.certificate(), done.answers()
    opened = open_seeds(done.manifest, done.cohort.epoch, done.setup, certificate, answers)
    return {
        "manifest": done.manifest.to_bytes().hex(),
        "manifest_hash": done.manifest.hash.hex(),
        "masked": {name: upload.masked.astype("<u4").tobytes().hex() for name, upload in done.uploads.items()},
        "roots": _hex({name: upload.root for name, upload in done.uploads.items()}),
        "root_signatures": _hex({name: upload.signature for name, upload in done.uploads.items()}),
        "proposal": done.proposal.to_bytes().hex(),
        "certificate": certificate.to_bytes().hex(),
        "answers": _hex({name: answer.to_bytes() for name, answer in answers.items()}),
        "opened": opened.to_bytes().hex(),
        "total": done.total(answers).astype("<u4").tobytes().hex(),
    }


def _hex(parts: Mapping[str, bytes]) -> dict[str, str]:
    return {name: content.hex() for name, content in parts.items()}


def _bytes(message: Any) -> bytes:
    return message if isinstance(message, bytes) else bytes(message.to_bytes())
