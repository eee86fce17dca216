"""Writes the known answers: `python -m tests.vectors.make` after a change of formats; what then differs is what changed."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from tests.fuzz.samples import messages_of
from tests.protocols.secagg.cohort import Sum
from tests.vectors.answers import computed, published
from tests.vectors.forms import to_form
from tests.vectors.hostile import hostile
from tests.vectors.operations import OPERATIONS
from tests.vectors.replay import Randomness, fresh_randomness, replayed_sum, sum_vector

FOLDER = Path(__file__).parent


def main() -> None:
    """All four files. Unchanged formats give unchanged files."""
    randomness = fresh_randomness()
    done = replayed_sum(randomness)
    used = {name: pair for name, pair in randomness.encapsulations.items() if name in randomness.encapsulated}
    _write("sum", sum_vector(done, Randomness(randomness.draws, used)))
    _write("messages", _messages(done))
    _write("operations", _operations())
    _write("hostile", [{"name": n, "operation": operation, "inputs": inputs, "error": e} for n, operation, inputs, e in hostile(done)])


def _messages(done: Sum) -> list[dict[str, Any]]:
    """The shortest of each kind that travels; what a member keeps for itself is nobody else's business."""
    shortest = {kind: kind.from_bytes(data[0]) for kind, data in messages_of(done).items() if not kind.__name__.endswith("State")}
    named = sorted(shortest.items(), key=lambda pair: pair[0].__name__)
    return [{"kind": k.__name__, "fields": to_form(m), "bytes": m.to_bytes().hex(), "hash": m.hash.hex()} for k, m in named]


def _operations() -> list[dict[str, Any]]:
    ours = [{"source": "", "operation": name, "inputs": i, "result": OPERATIONS[name](**i)} for name, i in computed()]
    return ours + [{"source": s, "operation": name, "inputs": i, "result": result} for s, name, i, result in published()]


def _write(name: str, content: Any) -> None:
    (FOLDER / f"{name}.json").write_text(json.dumps(content, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
