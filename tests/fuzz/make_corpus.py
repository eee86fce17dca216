"""Writes the corpus from which fuzzing starts: `python -m tests.fuzz.make_corpus` after a change of formats."""

from __future__ import annotations

import hashlib
import shutil
from pathlib import Path

from tests.fuzz.decoders import decoders

CORPUS = Path(__file__).parent / "corpus"
MOST_BYTES = 24_000
MOST_SAMPLES = 3  # the smallest of a kind: what is in a second slot or member is code that the first has covered


def main() -> None:
    """Replaces the whole corpus. Names are hashes of content; unchanged formats give unchanged files."""
    shutil.rmtree(CORPUS, ignore_errors=True)
    for decoder in decoders().values():
        folder = CORPUS / decoder.name
        folder.mkdir(parents=True)
        for sample in sorted(decoder.samples(), key=len)[:MOST_SAMPLES]:
            if len(sample) <= MOST_BYTES:
                (folder / hashlib.sha256(sample).hexdigest()[:16]).write_bytes(sample)


if __name__ == "__main__":
    main()
