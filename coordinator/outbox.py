"""What the coordinator has asked, on disk before it leaves: asked again, also by a later process, it asks the very same bytes."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from coordinator.errors import JobError
from protocols.files import write_file


@dataclass(frozen=True, slots=True)
class Outbox:
    """A file a question: attempt, deadline and, by recipient, the hash of the signed request."""

    folder: Path

    def keep(self, question: str, attempt: int, deadline: float, requests: Mapping[str, str]) -> None:
        """Notes the SHA-256 of requests by recipient, which an institution answers once.

        Ed25519 signs alike every time, so a request that is made again from the same decisions has the same bytes.

        Raises:
            JobError: one is to be asked otherwise than before, which institutions would keep as evidence.
        """
        path = self.folder / f"{hashlib.sha256(question.encode()).hexdigest()[:32]}.json"
        asked = json.loads(path.read_text())["requests"] if path.exists() else {}
        changed = sorted(name for name, digest in requests.items() if asked.get(name, digest) != digest)
        if changed:
            raise JobError(f"{', '.join(changed)} would be asked {question} in two ways; two processes may drive this run")
        if requests.items() - asked.items():
            content = {"question": question, "attempt": attempt, "deadline_seconds": deadline, "requests": asked | dict(requests)}
            write_file(path, json.dumps(content, indent=1, sort_keys=True).encode())
